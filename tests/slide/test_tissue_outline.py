"""Tissue is found where it was painted; pen, haze, holes and glass are not tissue."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

from helpers.toy_slide import MPP, paint_tissue, write_slide
from hespotex.errors import GeometryError
from hespotex.slide import open_slide
from hespotex.slide.tissue import Tissue, find_tissue
from hespotex.slide.tissue_outline import read_tissue


def _outline(path: Path, mpp: float = MPP) -> Tissue:
    with open_slide(path) as slide:
        return find_tissue(slide, mpp)


@pytest.mark.parametrize("mpp", [2.0, 8.0])
def test_painted_disc_is_found_in_place_and_size(tmp_path: Path, mpp: float) -> None:
    tissue = _outline(write_slide(tmp_path / "s.png"), mpp)
    disc = shapely.Point(350, 300).buffer(240)
    common = tissue.polygons.intersection(disc).area / tissue.polygons.union(disc).area
    assert common > 0.9
    assert tissue.area_mm2(mpp) == pytest.approx(disc.area * mpp**2 / 1e6, rel=0.1)
    inside = tissue.contains(np.array([[350.0, 300.0], [120.0, 300.0], [20.0, 20.0]]))
    assert inside.tolist() == [True, True, False]


def test_a_slide_that_is_all_tissue_is_not_cut_in_two(tmp_path: Path) -> None:
    tissue = _outline(write_slide(tmp_path / "s.png", paint_tissue(radius=2000)))
    assert tissue.polygons.area > 0.97 * 700 * 600


@pytest.mark.parametrize("light", [0.65, 0.4, 0.25])
def test_tissue_on_dark_glass_is_found_as_on_bright_glass(tmp_path: Path, light: float) -> None:
    rng = np.random.default_rng(3)
    image = paint_tissue() * light
    image += rng.normal(0, 1.5, size=image.shape)
    dark = _outline(write_slide(tmp_path / "d.png", np.clip(image, 0, 255).astype(np.uint8)))
    disc = shapely.Point(350, 300).buffer(240)
    assert dark.polygons.intersection(disc).area / dark.polygons.union(disc).area > 0.9
    assert dark.pen_share == 0


def _surrounded(image: np.ndarray, tissue: np.ndarray, kind: str) -> np.ndarray:
    """The painted slide as scanners and viewers write it; the tissue stays where it is."""
    disc = cv2.dilate(tissue, np.ones((25, 25), np.uint8))
    rng = np.random.default_rng(5)
    match kind:
        case "padding at the side":
            return np.hstack([image, np.zeros((600, 500, 3), np.uint8)])
        case "padding at the side, grey glass":
            return np.hstack([(image * 0.7).astype(np.uint8), np.zeros((600, 500, 3), np.uint8)])
        case "white padding, grey glass":
            return np.hstack(
                [(image * 0.7).astype(np.uint8), np.full((600, 500, 3), 255, np.uint8)]
            )
        case "on a mat":
            mat = rng.normal(14, 3, (1400, 1800, 3)).clip(0, 255).astype(np.uint8)
            mat[:600, :700] = image
            return mat
        case "glass cut out":
            return np.where(disc[..., None] > 0, image, 0).astype(np.uint8)
        case "cut at the tissue":
            return np.where(tissue[..., None] > 0, image, 0).astype(np.uint8)
        case "dark stain":
            return (255 * (image / 255) ** 2.5).astype(np.uint8)
        case "dark stain on a mat":
            dark = (255 * (image / 255) ** 2.5).astype(np.uint8)
            return np.hstack([dark, np.zeros((600, 500, 3), np.uint8)])
        case _:
            return image


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["as painted", "padding at the side", "padding at the side, grey glass", "white padding, grey glass",
     "on a mat", "glass cut out", "cut at the tissue", "dark stain", "dark stain on a mat"],
)  # fmt: skip
def test_black_around_a_slide_and_dark_stains_change_nothing(tmp_path: Path, kind: str) -> None:
    y, x = np.mgrid[:600, :700]
    painted = ((x - 350) ** 2 + (y - 300) ** 2 < 240**2).astype(np.uint8)
    image = _surrounded(paint_tissue(), painted, kind)
    tissue = _outline(write_slide(tmp_path / "s.png", image), 4.0)
    disc = shapely.Point(350, 300).buffer(240)
    common = tissue.polygons.intersection(disc).area / tissue.polygons.union(disc).area
    assert common > 0.94
    found = tissue.mask(image.shape[:2], 1.0)
    assert found.sum() == pytest.approx(tissue.polygons.area, rel=0.01)
    assert found[:600, :700][painted > 0].mean() > 0.97


def test_a_picture_without_light_has_no_tissue(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 12, (300, 400, 3), dtype=np.uint8)
    for image in (noise, noise * 0):
        assert _outline(write_slide(tmp_path / "s.png", image)).is_empty


def test_an_unwritten_tile_is_no_tissue_and_its_edge_is_none(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(240, 1, (600, 700, 3)).clip(0, 255).astype(np.uint8)
    image[200:400, 200:400] = 0
    assert _outline(write_slide(tmp_path / "s.png", image), 4.0).is_empty


@pytest.mark.parametrize("kind", ["blank", "noise", "haze"])
def test_glass_is_an_empty_outline(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    image = np.full((600, 700, 3), 240.0)
    if kind == "noise":
        image += rng.normal(0, 2, size=image.shape)
    if kind == "haze":
        image[..., 1] -= np.linspace(0, 70, 700)
    tissue = _outline(write_slide(tmp_path / "s.png", np.clip(image, 0, 255).astype(np.uint8)))
    assert tissue.is_empty
    assert not tissue.contains(np.array([[350.0, 300.0]])).any()
    assert tissue.area_mm2(MPP) == 0


@pytest.mark.parametrize(
    "ink",
    [(30, 60, 190), (20, 140, 60), (200, 30, 50), (25, 25, 30)],
    ids=["blue", "green", "red", "black"],
)
def test_pen_marks_are_left_out(tmp_path: Path, ink: tuple[int, int, int]) -> None:
    image = paint_tissue(centre=(350, 380), radius=180)
    cv2.line(image, (60, 60), (640, 90), ink, 40)
    tissue = _outline(write_slide(tmp_path / "s.png", image), 4.0)
    assert tissue.pen_share > 0.03
    assert tissue.contains(np.array([[350.0, 75.0], [350.0, 380.0]])).tolist() == [False, True]


def test_holes_are_left_out(tmp_path: Path) -> None:
    image = paint_tissue()
    cv2.circle(image, (350, 300), 90, (243, 243, 243), -1)
    tissue = _outline(write_slide(tmp_path / "s.png", image))
    assert tissue.contains(np.array([[350.0, 300.0], [350.0, 120.0]])).tolist() == [False, True]


def test_real_sections_are_outlined(shared_data: Path) -> None:
    with open_slide(shared_data / "wsi" / "CMU-1-Small-Region.svs") as slide:
        tissue = find_tissue(slide, 0.499)
    assert tissue.area_mm2(0.499) == pytest.approx(0.7242, rel=0.01)
    assert tissue.contains(np.array([[1100.0, 1900.0], [300.0, 2500.0]])).tolist() == [True, False]


SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]]}
HOLED = {
    "type": "Polygon",
    "coordinates": [*SQUARE["coordinates"], [[40, 40], [60, 40], [60, 60], [40, 60], [40, 40]]],
}


@pytest.mark.parametrize(
    "content",
    [
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": HOLED}]},
        [{"type": "Feature", "geometry": HOLED, "properties": {"objectType": "annotation"}}],
        {"type": "MultiPolygon", "coordinates": [HOLED["coordinates"]]},
        HOLED,
    ],
    ids=["collection", "list", "multipolygon", "geometry"],
)
def test_outline_of_qupath_is_read_with_its_holes(tmp_path: Path, content: object) -> None:
    path = tmp_path / "t.geojson"
    path.write_text(json.dumps(content))
    tissue = read_tissue(path)
    assert tissue.polygons.area == 100 * 100 - 20 * 20
    assert tissue.contains(np.array([[10.0, 10.0], [50.0, 50.0]])).tolist() == [True, False]


def test_cells_of_an_export_are_tissue_only_where_no_area_is_drawn(tmp_path: Path) -> None:
    ring = [[200, 200], [210, 200], [210, 210], [200, 210], [200, 200]]
    cell = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "cell"},
    }
    drawn = {"type": "Feature", "geometry": HOLED, "properties": {"objectType": "annotation"}}
    path = tmp_path / "t.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [drawn, cell]}))
    assert read_tissue(path).polygons.area == 100 * 100 - 20 * 20
    path.write_text(json.dumps([cell]))
    assert read_tissue(path).polygons.area == 100


def _drawn(name: object, x0: float, y0: float, x1: float, y1: float) -> dict[str, object]:
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    properties = {"objectType": "annotation"} | ({"classification": name} if name else {})
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _written(path: Path, *features: dict[str, object]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize(
    "ignored",
    [
        {"name": "Ignore*", "color": [0, 0, 0]},
        {"name": "Artefact*", "colorRGB": -3670016},
        {"names": ["Tumor", "Ignore*"]},
        {"name": "Tumor: Ignore*"},
        "Ignore*",
    ],
    ids=str,
)
def test_areas_that_qupath_ignores_are_cut_out_and_counted(tmp_path: Path, ignored: object) -> None:
    path = _written(
        tmp_path / "t.geojson",
        _drawn({"name": "Tissue"}, 0, 0, 100, 100),
        _drawn(ignored, 40, 40, 60, 60),
        _drawn(ignored, 200, 200, 260, 260),
        _drawn(None, 300, 0, 310, 10),
    )
    tissue = read_tissue(path)
    assert tissue.polygons.area == 100 * 100 - 20 * 20 + 100
    points = np.array([[50.0, 50.0], [230.0, 230.0], [10.0, 10.0], [305.0, 5.0]])
    assert tissue.contains(points).tolist() == [False, False, True, True]
    assert tissue.note.startswith("2 areas of ignored classes are left out of t.geojson (")


def test_a_frame_around_the_tissue_is_left_out_and_cuts_nothing(tmp_path: Path) -> None:
    frame = _drawn({"name": "Region*"}, -50, -50, 500, 500)
    tissue = read_tissue(_written(tmp_path / "t.geojson", frame, _drawn(None, 0, 0, 100, 100)))
    assert tissue.polygons.area == 100 * 100
    assert tissue.note == "an area of an ignored class is left out of t.geojson (Region*: 1)"


def test_classes_that_count_leave_no_note(tmp_path: Path) -> None:
    names = ("Tumor", "Star * inside", "Immune cells", "Ignored")
    drawn = [_drawn({"name": n}, 200 * i, 0, 200 * i + 100, 100) for i, n in enumerate(names)]
    tissue = read_tissue(_written(tmp_path / "t.geojson", *drawn))
    assert (tissue.polygons.area, tissue.note) == (4 * 100 * 100, "")


def test_nothing_but_ignored_areas_is_refused_by_their_names(tmp_path: Path) -> None:
    path = _written(tmp_path / "t.geojson", _drawn({"name": "Region*"}, 0, 0, 100, 100))
    with pytest.raises(GeometryError, match=r"beside what QuPath ignores: .*\(Region\*: 1\); give"):
        read_tissue(path)


def _core(x0: float, *, missing: bool, kind: str = "tma_core") -> dict[str, object]:
    core = _drawn(None, x0, 0, x0 + 100, 100)
    return core | {"properties": {"objectType": kind, "isMissing": missing}}


def test_missing_cores_of_a_tissue_microarray_are_left_out_and_counted(tmp_path: Path) -> None:
    cores = [_core(200 * i, missing=i in {1, 3}) for i in range(5)]
    tissue = read_tissue(_written(tmp_path / "t.geojson", *cores))
    assert tissue.polygons.area == 3 * 100 * 100
    assert not tissue.contains(np.array([[250.0, 50.0]])).any()
    assert tissue.note == "2 cores marked as missing are left out of t.geojson"
    within = (_drawn(None, 0, 0, 500, 100), _drawn({"name": "Region*"}, 0, 0, 900, 900), cores[1])
    tissue = read_tissue(_written(tmp_path / "t.geojson", *within))
    assert tissue.polygons.area == 500 * 100  # what is drawn counts
    assert tissue.note.endswith("(Region*: 1), a core marked as missing is left out of t.geojson")
    all_there = [_core(0, missing=False), _core(200, missing=True, kind="annotation")]
    tissue = read_tissue(_written(tmp_path / "t.geojson", *all_there))
    assert (tissue.polygons.area, tissue.note) == (2 * 100 * 100, "")
    with pytest.raises(GeometryError, match=r"ignores: a core marked as missing .*; mark cores"):
        read_tissue(_written(tmp_path / "t.geojson", cores[1]))


CROSSING = [
    [[170, 120], [100, 50], [60, 0], [10, 0], [30, 160], [120, 180], [170, 120]],
    [[100, 120], [190, 140], [120, 100], [110, 180], [50, 160], [130, 0], [100, 120]],
    [[70, 170], [110, 0], [150, 140], [160, 30], [10, 170], [0, 100], [70, 170]],
]


def test_drawn_areas_that_cross_themselves_and_one_another_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "t.geojson"
    areas = [{"type": "Polygon", "coordinates": [ring]} for ring in CROSSING]
    path.write_text(json.dumps(areas))
    tissue = read_tissue(path)
    points = np.array([[40.0, 60.0], [155.0, 60.0], [190.0, 20.0]])
    assert tissue.contains(points).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "expected GeoJSON in .*t.geojson, found"),
        ('{"a": 1}', "expected GeoJSON"),
        ("", "found an empty file; copy or make it again"),
        ("\n", "found an empty file"),
        *(
            (
                json.dumps(SQUARE).replace("[0, 100]", f"[0, {number}]"),
                r"t\.geojson, found: coordinates that are NaN or infinite; export it",
            )
            for number in ("NaN", "-Infinity", "1e999")
        ),
        ('{"type": "Point", "coordinates": [1, 2]}', "expected the outline of tissue.*found Point"),
        ('{"type": "FeatureCollection", "features": []}', "found no geometry; draw an area"),
    ],
)
def test_what_is_no_outline_is_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "t.geojson"
    path.write_text(text)
    with pytest.raises(GeometryError, match=match):
        read_tissue(path)


@pytest.mark.parametrize("brightness", [0.5, 0.22])
def test_a_dark_picture_has_the_outline_of_the_bright_one(
    brightness: float, tmp_path: Path
) -> None:
    image = paint_tissue()
    areas = []
    for factor in (1.0, brightness):
        path = write_slide(tmp_path / f"{factor}.png", (image * factor).astype(np.uint8))
        with open_slide(path, mpp=2.0) as slide:
            areas.append(find_tissue(slide, 2.0).polygons)
    assert areas[1].intersection(areas[0]).area > 0.95 * areas[0].union(areas[1]).area
