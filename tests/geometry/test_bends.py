"""Bends: points come back, files keep them, chains of maps become one affine map and one bend, what folds is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from hespotex.errors import GeometryError
from hespotex.geometry import (
    Affine,
    Bend,
    CommonFrame,
    SectionFrame,
    Smooth,
    pixels_of,
    read_frames,
    write_frames,
)

STEP_UM = 300.0
_degrees = st.floats(-180, 180)


@st.composite
def bends(draw: st.DrawFn) -> Bend:
    """Up to 60 um, as smoothly as tissue is bent."""
    noise = np.random.default_rng(draw(st.integers(0, 10**6))).normal(size=(13, 12, 2))
    moved = gaussian_filter(noise, (1.5, 1.5, 0))
    moved *= draw(st.floats(0, 60)) / np.linalg.norm(moved, axis=-1).max()
    return Bend((draw(st.floats(-700, -600)), -650.0), STEP_UM, moved)


def _points(n: int = 400) -> np.ndarray:
    """On the grid and beyond it."""
    return np.random.default_rng(0).uniform(-1500, 4000, (n, 2))


@settings(max_examples=40)
@given(bends(), _degrees)
def test_points_come_back_to_less_than_a_micron(bend: Bend, degrees: float) -> None:
    xy = _points()
    np.testing.assert_allclose(bend.inverse()(bend(xy)), xy, atol=1e-3)
    np.testing.assert_allclose(bend(bend.inverse()(xy)), xy, atol=1e-3)
    whole = Smooth((Affine.turn(degrees), bend, Affine.scale(1.1)))
    np.testing.assert_allclose(whole.inverse()(whole(xy)), xy, atol=1e-2)


def test_a_grid_of_one_displacement_is_a_shift_and_a_slope_is_a_stretch_up_to_the_rim() -> None:
    shift = Bend((0.0, 0.0), 100.0, np.tile([7.0, -3.0], (5, 4, 1)))
    np.testing.assert_allclose(shift(_points()), _points() + np.array([7, -3]))
    assert shift.steepness == pytest.approx(0, abs=1e-9)
    slope = np.zeros((5, 4, 2))
    slope[..., 0] = 20.0 * np.arange(4)
    stretch = Bend((0.0, 0.0), 100.0, slope)
    found = stretch([[150.0, 10], [300, 10], [900, 10], [-50, 10]])
    np.testing.assert_allclose(found, [[180, 10], [360, 10], [960, 10], [-50, 10]], atol=1e-9)
    assert stretch.steepness == pytest.approx(0.2)


@given(bends(), bends(), _degrees)
@settings(max_examples=15)
def test_a_chain_of_maps_becomes_one_affine_map_and_one_bend(
    first: Bend, second: Bend, degrees: float
) -> None:
    turn = Affine.around(Affine.turn(degrees).linear, (1000.0, 800.0))
    chain = Smooth((turn, first)) @ Affine.scale(1.05) @ Smooth((second,)).inverse()
    frame = SectionFrame.of(0.5, chain, (0.0, 0.0), (2000.0, 1600.0))
    inside = np.random.default_rng(1).uniform(0, 1, (300, 2)) * [2000, 1600]
    np.testing.assert_allclose(frame.common_of_um(inside), chain(inside), atol=1.0)


def _bend() -> Bend:
    return Bend((-10.0, 5.5), 250.0, np.random.default_rng(3).uniform(-30, 30, (6, 5, 2)))


def test_a_file_keeps_a_bend_and_says_that_older_readers_must_not_pass_it_over(
    tmp_path: Path,
) -> None:
    path = tmp_path / "frames.json"
    frames = CommonFrame({"A": SectionFrame(0.5, Affine.turn(20), _bend()), "B": SectionFrame(0.5)})
    write_frames(path, frames)
    assert read_frames(path) == frames
    content = json.loads(path.read_text())
    assert content["format"] == "hespotex section frames 2"
    assert "bend" not in content["sections"]["B"]
    xy = _points()
    there = frames.between("A", "B")(xy)
    np.testing.assert_allclose(there, _bend()(Affine.turn(20)(xy)))
    np.testing.assert_allclose(frames.between("B", "A")(there), xy, atol=1e-3)
    back = frames.between_px0("B", "A")(frames.between_px0("A", "B")(xy))
    np.testing.assert_allclose(back, xy, atol=1e-2)
    table = anndata.AnnData(np.zeros((len(xy), 1)), obsm={"spatial": xy / 0.5})
    frames.place(table, "A")
    np.testing.assert_allclose(table.obsm["spatial_common_um"], there)
    write_frames(path, CommonFrame({"B": SectionFrame(0.5)}))
    assert json.loads(path.read_text())["format"] == "hespotex section frames 1"
    assert isinstance(read_frames(path).between("B", "B"), Affine)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x_um": [[0.0] * 4, [0.0] * 4]}, r"frames of sections as JSON in .*frames\.json"),
        ({"x_um": [[0.0] * 4, [0.0] * 3] * 2}, r"frames of sections as JSON in .*frames\.json"),
        ({"step_um": 0.0}, "section A: expected finite displacements on a grid"),
        ({"x_um": [[0.0, 90, 0, 0]] * 4}, "section A: expected displacement that changes by 0.8"),
        ({"x_um": [[0.0] * 2] * 2, "y_um": [[0.0] * 2] * 2}, "section A: .* 4 x 4 nodes or more"),
    ],
)
def test_a_bend_that_cannot_be_is_named_with_its_section(
    tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    path, flat = tmp_path / "frames.json", [[0.0] * 4] * 4
    bend = {"origin_um": [0, 0], "step_um": 50.0, "x_um": flat, "y_um": flat}
    section = {"mpp_um_per_px0": 0.5, "to_common_um": [[1, 0, 0], [0, 1, 0]]}
    content = {"format": "hespotex section frames 2", "unit": "um"}
    path.write_text(json.dumps({**content, "sections": {"A": {**section, "bend": bend}}}))
    assert read_frames(path)["A"].bend is not None
    bend |= change
    path.write_text(json.dumps({**content, "sections": {"A": {**section, "bend": bend}}}))
    with pytest.raises(GeometryError, match=match):
        read_frames(path)


def test_pixels_of_another_picture_lie_where_the_map_says() -> None:
    bend = _bend()
    columns, rows = pixels_of(Smooth((bend,)), 4.0, 10.0, (30, 20))
    assert columns.shape == (20, 30)
    there = np.array([[(columns[7, 11] + 0.5) * 4, (rows[7, 11] + 0.5) * 4]])
    np.testing.assert_allclose(bend(there), [[115.0, 75.0]], atol=1e-2)
