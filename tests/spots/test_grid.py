"""Grids stand at their pitch in microns; given positions are read as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from hespotex.errors import GeometryError, SpotTableError
from hespotex.spots.given import read_positions
from hespotex.spots.grid import spot_grid


@settings(max_examples=50, deadline=None)
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    mpp=st.floats(0.1, 5),
    pitch=st.floats(60, 400),
    kind=st.sampled_from(["hexagonal", "square"]),
)
def test_spots_lie_inside_at_the_pitch(
    width: int, height: int, mpp: float, pitch: float, kind: str
) -> None:
    xy, places = spot_grid(width, height, mpp, pitch, kind)  # type: ignore[arg-type]
    assert (xy >= 0).all()
    assert (xy < [width, height]).all()
    assert len(np.unique(places, axis=0)) == len(xy)
    if len(xy) > 1:
        nearest = cKDTree(xy).query(xy, k=2)[0][:, 1] * mpp
        assert nearest.min() >= pitch * (1 - 1e-9)
        if len(np.unique(places[:, 1])) < len(places):  # some row holds two
            assert nearest.min() == pytest.approx(pitch, rel=1e-9)


def test_inner_spots_have_six_or_four_neighbours() -> None:
    for kind, count in (("hexagonal", 6), ("square", 4)):
        xy, _ = spot_grid(2000, 2000, 0.5, 100.0, kind)  # type: ignore[arg-type]
        inner = ((xy > 400) & (xy < 1600)).all(axis=1)
        near = cKDTree(xy).query_ball_point(xy[inner], 200 * 1.01, return_length=True)
        assert (near - 1 == count).all()


def test_a_pitch_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(
        GeometryError, match=r"at most 5,000,000 spots, found 1 um.*--spot-pitch-um"
    ):
        spot_grid(10_000, 10_000, 0.25, 1.0)


def test_table_of_positions_keeps_names_and_order(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("name,x,y,note\na,10.5,20,q\nb,1,2,r\n")
    table = read_positions(path)
    assert table.barcodes.tolist() == ["a", "b"]
    np.testing.assert_array_equal(table.xy_px0, [[10.5, 20], [1, 2]])
    (tmp_path / "q.tsv").write_text("x\ty\n1\t2\n")
    assert read_positions(tmp_path / "q.tsv").barcodes.tolist() == ["spot1"]


def test_spot_file_of_legacy_st_is_known(shared_data: Path) -> None:
    table = read_positions(shared_data / "her2st" / "spots" / "C2_selection.tsv")
    assert table.array_xy is not None
    assert table.xy_px0.max() > 3000


def test_space_ranger_positions_are_known(shared_data: Path) -> None:
    folder = shared_data / "visium_crc16" / "outs" / "spatial"
    path = next(folder.glob("tissue_positions*"))
    table = read_positions(path)
    assert table.n_spots == 3106


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b\n1,2\n", "expected columns x and y.*found a, b"),
        ("x,y\n1,two\n", "expected numbers in column y.*'two' in row 2"),
        ("name,x,y\na,1,2\na,3,4\n", "every spot once"),
    ],
)
def test_what_holds_no_positions_is_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(SpotTableError, match=match):
        read_positions(path)
