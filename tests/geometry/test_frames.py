"""Frames in microns: maps compose and turn back, outlines move with their points, files keep every digit."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from hespotex.errors import GeometryError
from hespotex.geometry import Affine, CommonFrame, SectionFrame, read_frames, write_frames

_degrees = st.floats(-360, 360)
_microns = st.floats(-1e5, 1e5)
_factor = st.floats(0.5, 2.0)


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    """A turn, a stretch, possibly a mirror, and a shift."""
    mirror = draw(st.sampled_from([1.0, -1.0]))
    stretch = Affine.of(np.diag([draw(_factor), mirror * draw(_factor)]))
    shift = Affine.of(np.eye(2), (draw(_microns), draw(_microns)))
    return shift @ Affine.turn(draw(_degrees)) @ stretch @ Affine.turn(draw(_degrees))


_points = st.lists(st.tuples(_microns, _microns), min_size=1, max_size=20).map(np.array)


@given(affines(), _points)
def test_the_way_back_gives_the_points_again(affine: Affine, xy_um: np.ndarray) -> None:
    np.testing.assert_allclose(affine.inverse()(affine(xy_um)), xy_um, atol=1e-5)


@given(affines(), affines(), _points)
def test_a_product_is_first_the_right_one_then_the_left_one(
    second: Affine, first: Affine, xy_um: np.ndarray
) -> None:
    np.testing.assert_allclose((second @ first)(xy_um), second(first(xy_um)), atol=1e-4)


@given(affines(), st.floats(0.1, 5), st.floats(0.1, 5), _points)
def test_points_go_to_another_section_and_back_in_pixels(
    affine: Affine, one: float, other: float, xy_px0: np.ndarray
) -> None:
    frames = CommonFrame({"a": SectionFrame(one, affine), "b": SectionFrame(other)})
    there = frames.between_px0("a", "b")(xy_px0)
    np.testing.assert_allclose(there, affine(xy_px0 * one) / other, rtol=1e-9, atol=1e-4)
    np.testing.assert_allclose(frames.between_px0("b", "a")(there), xy_px0, atol=1e-4)


@settings(max_examples=25)
@given(affines(), st.floats(0.01, 100))
def test_a_file_keeps_every_digit(
    tmp_path_factory: pytest.TempPathFactory, affine: Affine, mpp: float
) -> None:
    path = tmp_path_factory.mktemp("frames") / "frames.json"
    frames = CommonFrame({"C2": SectionFrame(mpp, affine), "C3": SectionFrame(0.5)})
    write_frames(path, frames)
    assert read_frames(path) == frames
    assert json.loads(path.read_text())["unit"] == "um"


def test_a_quarter_turn_goes_from_x_to_y_about_its_centre() -> None:
    turned = Affine.turn(90, about=(100.0, 50.0))([[110.0, 50.0], [100.0, 50.0]])
    np.testing.assert_allclose(turned, [[100.0, 60.0], [100.0, 50.0]], atol=1e-12)


def test_mirror_and_stretch_are_told() -> None:
    affine = Affine.turn(30) @ Affine.of(np.diag([-1.04, 0.97]))
    assert affine.mirrors
    assert not (affine @ affine).mirrors
    assert affine.stretches == pytest.approx((1.04, 0.97))


def test_geojson_moves_with_its_points_and_keeps_the_rest() -> None:
    ring = [[0.0, 0.0, 7.0], [10.0, 0.0, 7.0], [10.0, 20.0, 7.0], [0.0, 0.0, 7.0]]
    cell = {
        "type": "Feature",
        "bbox": [0, 0, 10, 20],
        "properties": {"name": "tumour", "coordinates": "kept"},
        "geometry": {"type": "MultiPolygon", "coordinates": [[ring]]},
        "nucleusGeometry": {"type": "Point", "coordinates": [1.0, 2.0]},
    }
    given_ = {"type": "FeatureCollection", "features": [cell]}
    moved = Affine.of(np.diag([2.0, 3.0]), (1.0, -1.0)).geojson(given_)
    feature = moved["features"][0]
    assert feature["geometry"]["coordinates"][0][0][2] == [21.0, 59.0, 7.0]
    assert feature["nucleusGeometry"]["coordinates"] == [3.0, 5.0]
    assert feature["properties"] == cell["properties"]
    assert "bbox" not in feature
    assert ring[2] == [10.0, 20.0, 7.0], "what was given stays as it was"


def test_an_outline_scales_by_the_determinant() -> None:
    affine = Affine.turn(17) @ Affine.of([[2.0, 0.3], [0.0, 0.5]], (5.0, 6.0))
    square = shapely.box(0, 0, 10, 10)
    assert affine.outline(square).area == pytest.approx(100.0)
    assert affine.outline(square).contains(shapely.Point(affine([[5.0, 5.0]])[0]))


def test_a_table_is_placed_in_microns_of_the_common_frame() -> None:
    table = anndata.AnnData(np.zeros((2, 1), np.float32))
    table.obsm["spatial"] = np.array([[0.0, 0.0], [100.0, 0.0]])
    frame = SectionFrame(0.5, Affine.turn(90) @ Affine.of(np.eye(2), (10.0, 0.0)))
    CommonFrame({"C2": frame}).place(table, "C2")
    placed = table.obsm["spatial_common_um"]
    np.testing.assert_allclose(placed, [[0.0, 10.0], [0.0, 60.0]], atol=1e-12)


def test_maps_that_cannot_be_turned_back_are_refused() -> None:
    with pytest.raises(GeometryError, match="expected a map that can be turned back"):
        Affine.of([[1.0, 2.0], [2.0, 4.0]])
    with pytest.raises(GeometryError, match="expected 2 rows of 3 finite numbers"):
        Affine(((1.0, 0.0, float("nan")), (0.0, 1.0, 0.0)))
    with pytest.raises(GeometryError, match=r"shape \(n, 2\), found shape \(3,\)"):
        Affine()([1.0, 2.0, 3.0])


def test_an_unknown_section_and_an_impossible_scale_are_named() -> None:
    frames = CommonFrame({"C2": SectionFrame(0.5)})
    with pytest.raises(GeometryError, match="expected one of the sections C2, found C9"):
        frames.between("C2", "C9")
    with pytest.raises(GeometryError, match="microns per pixel above 0, found -1"):
        SectionFrame(-1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unit": "px"}, r"unit 'um' in .*frames.json, found .*px"),
        ({"format": "other"}, "expected format 'hespotex section frames 1'"),
        ({"sections": {"C2": {"mpp_um_per_px0": 0.5}}}, "KeyError: 'to_common_um'"),
        (
            {"sections": {"C2": {"mpp_um_per_px0": 0, "to_common_um": [[1, 0, 0], [0, 1, 0]]}}},
            r"section C2: expected microns per pixel above 0 in .*frames\.json, found 0",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "frames.json"
    write_frames(path, CommonFrame({"C2": SectionFrame(0.5)}))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(GeometryError, match=said):
        read_frames(path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 3}'])
def test_what_is_no_frame_at_all_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "frames.json"
    path.write_text(text)
    with pytest.raises(GeometryError, match=r"frames of sections as JSON in .*frames\.json"):
        read_frames(path)
    with pytest.raises(GeometryError, match=r"none\.json"):
        read_frames(tmp_path / "none.json")


def test_pixels_lie_where_their_middles_do() -> None:
    moved = Affine.of(np.eye(2), (4.0, 0.0)).in_pixels(2.0, 1.0)
    # The middle of the first pixel lies at 1 um: 5 um after the shift, between the fifth pixel and the next.
    assert moved(np.zeros((1, 2))).tolist() == [[4.5, 0.5]]
