"""Where a slide is predicted: scale, tissue and positions as stated, refused where unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from helpers.toy_slide import MPP, paint_tissue, write_slide
from hespotex.errors import ConfigError, GeometryError, SlideError, SpotTableError
from hespotex.models.bundle import Bundle
from hespotex.predicting import SlideOptions, SlideTask
from hespotex.predicting.layout import Layout, lay_out
from hespotex.slide import open_slide


def _layout(slide: Path, bundle: Bundle, **options: object) -> Layout:
    with open_slide(slide) as opened:
        return lay_out(opened, SlideTask("s", slide, SlideOptions(**options)), bundle)  # type: ignore[arg-type]


def test_grid_has_the_models_pitch_and_diameter_and_lies_on_tissue(
    slide: Path, bundle: Bundle
) -> None:
    layout = _layout(slide, bundle, mpp=MPP)
    section = layout.section
    assert section.geometry.spot_pitch_um == 100
    assert section.geometry.spot_diameter_um == 55
    nearest = cKDTree(section.xy_um).query(section.xy_um, k=2)[0][:, 1]
    np.testing.assert_allclose(nearest, 100)
    assert (np.hypot(*(section.xy_px0 - [350, 300]).T) < 270).all()
    assert section.n_spots == pytest.approx(np.pi * 480**2 / (100**2 * np.sqrt(3) / 2), rel=0.15)


def test_stated_scale_is_kept_exactly_and_a_contradicting_tag_is_named(
    tmp_path: Path, bundle: Bundle
) -> None:
    path = tmp_path / "tagged.png"
    Image.fromarray(paint_tissue()).save(path, dpi=(25400 / 2.0, 25400 / 2.0))
    assert _layout(path, bundle).section.geometry.mpp == pytest.approx(2.0, rel=1e-3)
    stated = _layout(path, bundle, mpp=1.23456789)
    assert stated.section.geometry.mpp == 1.23456789
    assert "1.23457 um per pixel is used as stated" in stated.notes[0]
    assert "PNG pHYs says 2" in stated.notes[0]


def test_missing_scale_stops_with_the_choices(slide: Path, bundle: Bundle) -> None:
    match = r"section s: expected microns per pixel in the tags of .*painted\.png, found none; give --mpp .* --spot-pitch-um"
    with pytest.raises(GeometryError, match=match):
        _layout(slide, bundle)


def test_outline_from_qupath_replaces_the_detector(
    tmp_path: Path, slide: Path, bundle: Bundle
) -> None:
    ring = [[100, 100], [500, 100], [500, 500], [100, 500], [100, 100]]
    hole = [[200, 200], [400, 200], [400, 400], [200, 400], [200, 200]]
    path = tmp_path / "t.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring, hole]}))
    layout = _layout(slide, bundle, mpp=MPP, tissue=path, grid="square", pitch_um=40.0)
    x, y = layout.section.xy_px0.T
    assert layout.section.n_spots == pytest.approx(400 - 100, abs=45)
    assert ((x > 100) & (x < 500) & (y > 100) & (y < 500)).all()
    assert not ((x > 200) & (x < 400) & (y > 200) & (y < 400)).any()
    assert layout.tissue is not None
    assert layout.tissue.source == "t.geojson"
    ignored = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [hole]},
        "properties": {"classification": {"name": "Ignore*"}},
    }
    path.write_text(json.dumps([{"type": "Polygon", "coordinates": [ring]}, ignored]))
    again = _layout(slide, bundle, mpp=MPP, tissue=path, grid="square", pitch_um=40.0)
    np.testing.assert_array_equal(again.section.xy_px0, layout.section.xy_px0)
    ignored_note, fine_note = again.notes
    assert ignored_note == "an area of an ignored class is left out of t.geojson (Ignore*: 1)"
    assert fine_note.startswith("a map every 40 um of a model of 55 um spots extrapolates: ")


@pytest.mark.parametrize("value", [0, 240, 255])
def test_a_slide_without_tissue_is_refused_with_what_to_give(
    tmp_path: Path, bundle: Bundle, value: int
) -> None:
    blank = write_slide(tmp_path / "blank.png", np.full((300, 400, 3), value, np.uint8))
    with pytest.raises(
        SlideError, match=r"expected tissue on blank.png, found none.* give --tissue.* --spots"
    ):
        _layout(blank, bundle, mpp=MPP)


def test_an_outline_beside_the_grid_and_tissue_between_its_spots_are_refused(
    tmp_path: Path, slide: Path, bundle: Bundle
) -> None:
    path = tmp_path / "t.geojson"
    ring = [[9000, 9000], [9500, 9000], [9500, 9500], [9000, 9000]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    with pytest.raises(
        SlideError, match=r"inside the outline in t.geojson, found none on .*level-0"
    ):
        _layout(slide, bundle, mpp=MPP, tissue=path)
    corner = write_slide(tmp_path / "c.png", paint_tissue(centre=(620, 520), radius=60))
    with pytest.raises(SlideError, match=r"spots 900 um apart .*lower --spot-pitch-um"):
        _layout(corner, bundle, mpp=MPP, pitch_um=900.0)
    assert _layout(corner, bundle, mpp=MPP, pitch_um=60.0).section.n_spots > 0


def test_given_positions_of_known_pitch_give_the_scale(
    tmp_path: Path, slide: Path, bundle: Bundle
) -> None:
    x, y = np.meshgrid(np.arange(100, 600, 50), np.arange(100, 500, 50))
    lines = ["x,y", *(f"{a},{b}" for a, b in zip(x.ravel(), y.ravel(), strict=True))]
    path = tmp_path / "spots.csv"
    path.write_text("\n".join(lines) + "\n")
    layout = _layout(slide, bundle, spots=path, pitch_um=200.0)
    assert layout.section.geometry.mpp == pytest.approx(4.0)
    assert layout.section.geometry.spot_diameter_um == 55
    assert layout.tissue is None
    with pytest.raises(GeometryError, match="give --mpp"):
        _layout(slide, bundle, spots=path)


def test_positions_outside_the_slide_are_refused(
    tmp_path: Path, slide: Path, bundle: Bundle
) -> None:
    path = tmp_path / "spots.csv"
    path.write_text("x,y\n10,10\n9000,10\n")
    match = r"inside painted\.png \(700 x 600 px\), found 1 of 2 outside \(x 10 to 9000"
    with pytest.raises(SpotTableError, match=match):
        _layout(slide, bundle, spots=path, mpp=MPP)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"mpp": 0.0}, "--mpp above 0 .* found 0"),
        ({"mpp": 500.0}, "at most 100 um per pixel, found 500"),
        ({"pitch_um": -1.0}, "--spot-pitch-um above 0"),
        ({"max_bad_tiles": 1.5}, "--max-bad-tiles as a share from 0 to 1, found 1.5"),
        ({"grid": "round"}, "--grid hexagonal or square, found 'round'"),
        (
            {"formats": ("pdf",)},
            "formats of geojson, parquet, spatialdata, ome-tiff, png, found 'pdf'",
        ),
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SlideOptions(**values)  # type: ignore[arg-type]


def test_a_pitch_that_wide_patches_do_not_support_is_said_where_slides_are_read_by_area(
    slide: Path, bundle: Bundle
) -> None:
    encoder = replace(bundle.encoder, size_px=224)
    config = bundle.config.model_copy(
        update={"encoder": bundle.config.encoder.model_copy(update={"reading": "area"})}
    )
    by_area = replace(bundle, encoder=encoder, config=config, sides_um=(112.0, 224.0, 448.0))
    said = "patches of 224, 448 um support: their features are known every 32, 64 um"
    assert said in _layout(slide, by_area, mpp=MPP, pitch_um=16.0).notes[-1]
    for other, pitch in ((replace(by_area, config=bundle.config), 16.0), (by_area, 100.0)):
        notes = _layout(slide, other, mpp=MPP, pitch_um=pitch).notes
        assert not any("interpolated" in note for note in notes)
    narrow = replace(by_area, sides_um=(112.0,))
    assert "extrapolates" in _layout(slide, narrow, mpp=MPP, pitch_um=16.0).notes[-1]
