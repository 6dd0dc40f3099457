"""What a notebook calls: a viewer below the cell, and static maps whose titles say how far to believe them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

import hespotex
from helpers.toy_prediction import GENES
from helpers.viewed import ask, values_of, write_viewed
from hespotex import pl
from hespotex.errors import ConfigError, RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_viewed(tmp_path_factory.mktemp("notebook"))


def _said(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def _circles(axes: Any) -> list[EllipseCollection]:
    return [c for c in axes.collections if isinstance(c, EllipseCollection)]


def _hatched(axes: Any) -> bool:
    return any(isinstance(p, Rectangle) and p.get_hatch() for p in axes.patches)


def test_a_map_has_the_values_of_the_file_and_its_title_the_grade(run: Path) -> None:
    table = ad.read_h5ad(run / "predictions" / "S1.h5ad")
    figure = pl.spatial(run, "HLA-A", section_id="S1")
    sure, crossed = _circles(figure.axes[0])
    usable = ~table.obs["ood"].to_numpy(bool)
    expected = np.asarray(table[:, "HLA-A"].layers["composition"])[usable, 0]
    np.testing.assert_allclose(np.asarray(sure.get_array()), expected, rtol=1e-6)
    assert len(crossed.get_offsets()) == (~usable).sum() == 3
    assert crossed.get_hatch() == "xxxx"
    assert "HLA-A  (grade C)" in _said(figure)
    assert "Composition, predicted · S1 · 3 of 30 spots flagged" in _said(figure)
    assert not _hatched(figure.axes[0])


def test_maps_of_an_unlike_slide_are_hatched_and_claim_no_grade(run: Path) -> None:
    figure = pl.spatial(run, ["HLA-A", "ood_score"], section_id="S2")
    maps = [axes for axes in figure.axes if _circles(axes)]
    assert [_hatched(axes) for axes in maps] == [True, True]
    assert _said(figure).count("Unlike the training slides: no grade holds here.") == 2
    assert not any("grade C" in text for text in _said(figure))
    assert not _hatched(pl.spatial(run, "HLA-A", section_id="S2", anyway=True).axes[0])


def test_a_table_read_by_anndata_gives_the_picture_of_its_file(run: Path) -> None:
    path = run / "predictions" / "S1.h5ad"
    of_file = pl.spatial(path, [GENES[0], "region"])
    of_table = pl.spatial(ad.read_h5ad(path), [GENES[0], "region"])
    assert of_table._repr_png_() == of_file._repr_png_()
    assert of_file._repr_png_().startswith(b"\x89PNG")


def test_limits_crop_and_columns_are_as_asked(run: Path) -> None:
    figure = pl.spatial(run, list(GENES[:3]), section_id="S1", ncols=2, vmin=-0.5, vmax=2.5, cmap="PuOr_r", crop_coord=(50, 350, 100, 400))  # fmt: skip
    maps = [axes for axes in figure.axes if _circles(axes)]
    places = [axes.get_position() for axes in maps]
    (left, top), (right, same), (below, low) = [(round(p.x0, 6), round(p.y0, 6)) for p in places]
    assert left == below < right
    assert top == same > low
    for axes in maps:
        assert _circles(axes)[0].get_clim() == (-0.5, 2.5)
        assert _circles(axes)[0].get_cmap().name == "PuOr_r"
        assert axes.get_xlim() == pytest.approx((50, 350))
        assert axes.get_ylim() == pytest.approx((400, 100))


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_picture_is_saved(run: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"map.{kind}"
    pl.spatial(run, "ACTB", section_id="S1", save=path)
    if kind == "png":
        with Image.open(path) as picture:
            assert min(picture.size) > 1000
    assert path.read_bytes()[:5] == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[kind]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"color": "HLAA"}, RunError, "found HLAA; perhaps HLA-A$"),
        ({"section_id": None}, RunError, "expected section_id, one of S1, S2, found 2 predictions"),
        ({"section_id": "S9"}, RunError, "expected one of S1, S2, found S9"),
        ({"show": "velocity"}, RunError, "velocity"),
        ({"cmap": "jet"}, ConfigError, "expected cmap as one of RdBu_r, .*, found jet"),
        ({"vmin": 3.0, "vmax": 1.0}, ConfigError, "expected vmin below vmax, found 3 and 1"),
        ({"crop_coord": (5, 1, 0, 9)}, ConfigError, "left, right, top, bottom"),
        ({"color": []}, ConfigError, "found 0 names"),
        ({"save": "map.gif"}, ConfigError, r"ends in \.png, \.svg or \.pdf, found map\.gif"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    run: Path, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        pl.spatial(run, **{"color": "ACTB", "section_id": "S1"} | change)


def test_another_table_is_no_prediction() -> None:
    with pytest.raises(RunError, match="found AnnData without 'hespotex' in uns"):
        pl.spatial(ad.AnnData(np.zeros((2, 2), np.float32)), "ACTB")


def test_a_viewer_of_a_table_answers_in_a_frame_until_it_is_stopped(run: Path) -> None:
    table = ad.read_h5ad(run / "predictions" / "S1.h5ad")
    viewer = pl.view(table, height=480)
    try:
        frame = viewer._repr_html_()
        assert re.search(rf'<iframe src="{viewer.address}"[^>]*height:480px', frame)
        _, values = values_of(ask(viewer.address, "slide/0/values?show=composition&gene=ACTB"))
        np.testing.assert_array_equal(values, np.asarray(table[:, "ACTB"].layers["composition"])[:, 0])  # fmt: skip
    finally:
        viewer.stop()
    with pytest.raises(OSError, match="refused"):
        ask(viewer.address, "run")


def test_the_package_lists_its_public_names_alone() -> None:
    names = dir(hespotex)
    assert {"pl", "tl", "predict", "read_prediction"} <= set(names)
    assert [n for n in names if n.startswith("_")] == ["__version__"]
    assert all(getattr(hespotex, name) is not None for name in names)
