"""A gallery shows the tissue that was asked for, at one scale, with its words; one bad file does not cost the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from helpers.drawn import beyond_the_page, words
from helpers.toy_prediction import GENES, MPP, toy_stored
from hespotex.errors import GenePanelError, GeometryError
from hespotex.plots import gallery
from hespotex.plots.gallery import (
    MOST_PATCHES,
    Patch,
    gene_patches,
    plot_gallery,
    value_note,
    write_gallery,
)

COLOURS = ((200, 30, 30), (30, 160, 40), (40, 60, 200))


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Three squares of 100 px in a row, each of one colour, on white."""
    image = np.full((160, 400, 3), 255, np.uint8)
    for k, colour in enumerate(COLOURS):
        image[30:130, 20 + 120 * k : 120 + 120 * k] = colour
    Image.fromarray(image).save(tmp_path / "row.png")
    return tmp_path / "row.png"


def _of(slide: Path, k: int, **more: object) -> Patch:
    return Patch(slide, (70.0 + 120 * k, 80.0), f"square {k}", mpp=2.0, **more)  # type: ignore[arg-type]


def _pictures(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_each_patch_shows_its_place_in_the_order_given(slide: Path) -> None:
    figure = plot_gallery([_of(slide, k) for k in (2, 0, 1)], title="T", side_um=160.0)
    shown = [tuple(p[150, 150].tolist()) for p in _pictures(figure)]
    assert shown == [COLOURS[2], COLOURS[0], COLOURS[1]]


def test_all_patches_have_one_physical_size(slide: Path, tmp_path: Path) -> None:
    """The same square on a slide of half the pixel size: twice as many pixels, the same picture."""
    with Image.open(slide) as image:
        image.resize((800, 320), Image.Resampling.NEAREST).save(tmp_path / "fine.png")
    fine = Patch(tmp_path / "fine.png", (140.0, 160.0), "fine", mpp=1.0)
    one, other = _pictures(plot_gallery([_of(slide, 0), fine], title="T", side_um=300.0))
    red = [(p == COLOURS[0]).all(axis=2).mean() for p in (one, other)]
    assert red == pytest.approx([(200 / 300) ** 2] * 2, abs=0.03)


def test_every_patch_has_a_scale_bar_of_its_stated_length(slide: Path) -> None:
    figure = plot_gallery([_of(slide, 0), _of(slide, 1)], title="T", side_um=250.0)
    for axes in figure.axes:
        (bar,) = axes.lines
        assert np.ptp(bar.get_xdata()) == 50.0
        assert np.ptp(axes.get_xlim()) == 250.0
    assert words(figure).count("50 µm") == 2


def test_groups_stand_together_under_their_names(slide: Path) -> None:
    groups = ("case", "control", "case")
    patches = [_of(slide, k, group=g, caption=f"gene {k}") for k, g in enumerate(groups)]
    figure = plot_gallery(patches, title="T", subtitle="read so")
    corners = [(round(1 - a.get_position().y1, 3), round(a.get_position().x0, 3)) for a in figure.axes]  # fmt: skip
    order = [tuple(p[150, 150].tolist()) for p in _pictures(figure)]
    by_place = [order[k] for k in sorted(range(3), key=corners.__getitem__)]
    assert by_place == [COLOURS[0], COLOURS[2], COLOURS[1]]
    assert all(
        text in words(figure) for text in ("case", "control", "square 1", "gene 2", "read so")
    )
    assert beyond_the_page(figure) == 0


@pytest.mark.slow
def test_long_words_stay_on_the_page(slide: Path) -> None:
    patch = _of(slide, 0, group="g" * 400, caption="a claim of many words " * 20)
    figure = plot_gallery([patch] * 2, title="T" * 300)
    assert beyond_the_page(figure) == 0
    assert "…" in words(figure)


def test_words_that_fit_are_whole_and_others_break_between_words(slide: Path) -> None:
    title, caption = "C2 ACGTACGTACGTACGT-1", "ERBB2 +1.32, grade B, training patients alone"
    figure = plot_gallery([replace(_of(slide, 0, caption=caption), title=title)] * 2, title="T")
    said = [text.get_text() for text in figure.findobj(Text)]
    assert title in said
    assert "ERBB2 +1.32, grade B, training" in said
    assert "patients alone" in said


def test_a_slide_that_cannot_be_read_is_grey_and_says_so(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(slide.read_bytes()[:200])
    bad = [Patch(tmp_path / name, (1.0, 1.0), name, mpp=1.0) for name in ("broken.png", "gone.svs")]
    figure = plot_gallery([_of(slide, 0), *bad], title="T")
    assert len(_pictures(figure)) == 1
    assert words(figure).count("cannot be read") == 2
    assert "gone.svs" in words(figure)


def test_one_slide_is_open_at_a_time_and_each_once(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(slide.read_bytes())
    log: list[str] = []

    def opened(path: Path, **how: object) -> object:
        found = open_slide(path, **how)  # type: ignore[arg-type]
        close = found.close
        log.append(f"open {path.stem}")
        found.close = lambda: (log.append(f"close {path.stem}"), close())  # type: ignore[method-assign]
        return found

    open_slide = gallery.open_slide
    monkeypatch.setattr(gallery, "open_slide", opened)
    patches = [_of(slide, 0), _of(other, 1), _of(slide, 2)]
    shown = [tuple(p[150, 150].tolist()) for p in _pictures(plot_gallery(patches, title="T"))]
    assert shown == list(COLOURS)
    assert log == ["open row", "close row", "open other", "close other"]


def test_patches_of_a_gene_say_its_value_grade_and_flag(tmp_path: Path, slide: Path) -> None:
    section = toy_stored(tmp_path)
    assert section.extras.ood is not None
    flagged = int(np.flatnonzero(section.extras.ood)[0])
    patches = gene_patches(section, slide, GENES[0], [3, flagged], group="highest")
    value = section.composition[3, 0]
    assert patches[0].caption == f"ACTB {value:+.2f}, grade A".replace("-", "−")
    assert patches[0].title == f"S1 {section.barcodes[3]}"
    assert (patches[0].mpp, patches[0].spot_diameter_um) == (MPP, 100.0)
    assert patches[0].xy_px0 == tuple(section.xy_px0[3])
    assert patches[1].caption.endswith("; spot flagged")
    log1p = gene_patches(section, slide, GENES[3], [0], show="log1p")[0].caption
    assert log1p.startswith(f"CD3E {section.log1p[0, 3]:.2f}, ")
    assert "grade" not in log1p, "D is not shown"
    assert value_note("log1p") == "Values are predicted log1p(CPM)."
    rings = [c for a in plot_gallery(patches, title="T").axes for c in a.collections]
    assert len(rings) == 4
    assert {float(ring.get_widths()[0]) for ring in rings} == {100.0}
    with pytest.raises(GenePanelError, match="a gene of the prediction of S1, found EGFR"):
        gene_patches(section, slide, "EGFR", [0])


def test_the_picture_is_written_whole(slide: Path, tmp_path: Path) -> None:
    foreign = _of(slide, 0, caption="基因 $x_1$ and $")
    write_gallery(tmp_path / "a" / "gallery.png", [foreign], title="T")
    with Image.open(tmp_path / "a" / "gallery.png") as picture:
        assert min(picture.size) > 400
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["gallery.png"]


def test_what_cannot_be_drawn_is_refused(slide: Path) -> None:
    with pytest.raises(ValueError, match="expected 1 to 200 patches, found 0"):
        plot_gallery([], title="T")
    with pytest.raises(ValueError, match="expected 1 to 200 patches, found 201"):
        plot_gallery([_of(slide, 0)] * (MOST_PATCHES + 1), title="T")
    with pytest.raises(ValueError, match=r"a side and a number of columns above 0, found 0\.0, 6"):
        plot_gallery([_of(slide, 0)], title="T", side_um=0.0)
    with pytest.raises(GeometryError, match="section row: expected microns per pixel"):
        plot_gallery([Patch(slide, (70.0, 80.0), "no scale")], title="T")
