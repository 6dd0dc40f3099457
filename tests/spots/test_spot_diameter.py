"""The spot diameter is a weak source of scale: versions of Space Ranger write circles of 55 to 73 um."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.made_sections import KNOWN, Known, space_ranger, write_scale
from hespotex.errors import GeometryError
from hespotex.geometry import decide_geometry
from hespotex.spots.registry import read_spots


def hexagonal(known: Known) -> Known:
    """The same counts on Visium's array: columns in steps of two, odd rows shifted, 200 px apart."""
    column, row = known.array_xy.T
    array_xy = np.column_stack([2 * column + row % 2, row])
    xy = np.column_stack([array_xy[:, 0] * 100.0, row * 100 * np.sqrt(3)]) + 150.0
    return replace(known, array_xy=array_xy, xy_px0=xy)


@pytest.mark.parametrize(
    ("diameter", "said"),
    [
        (130.0, ""),  # 65 um, as mostly
        (110.0, "does not decide"),  # 55 um, the printed spot
        (140.0, "does not decide"),  # 70 um, as with CytAssist
        (250.0, "are the scale factors of another image or sample?"),
        (20.0, "are the scale factors of another image or sample?"),
    ],
)
def test_the_pitch_decides_and_the_diameter_can_only_raise_a_doubt(
    tmp_path: Path, diameter: float, said: str
) -> None:
    source = space_ranger(tmp_path / "outs", hexagonal(KNOWN))
    write_scale(tmp_path / "outs/spatial/scalefactors_json.json", spot_diameter_fullres=diameter)
    table = read_spots("space_ranger", source)
    found = decide_geometry(table.xy_px0, table.hints)
    assert found.mpp == pytest.approx(0.5)
    assert bool(found.doubts) == ("another image" in said)
    assert said in " ".join(map(str, (*found.notes, *found.doubts)))


def test_a_wrong_tag_is_refused_whatever_the_diameter_says(tmp_path: Path) -> None:
    table = read_spots("space_ranger", space_ranger(tmp_path / "outs", hexagonal(KNOWN)))
    with pytest.raises(GeometryError, match=r"slide tag tiff: 1, spot pitch .*: 0\.5 .*2-fold"):
        decide_geometry(table.xy_px0, table.hints, slide_mpp={"tiff": 1.0})


def test_the_diameter_alone_is_assumed_and_says_so(tmp_path: Path) -> None:
    table = read_spots("space_ranger", space_ranger(tmp_path / "outs", hexagonal(KNOWN)))
    few = replace(table.hints, spot_pitch_um=None)
    found = decide_geometry(table.xy_px0, few)
    assert found.mpp == pytest.approx(0.5)
    assert "0.5 is assumed, 0.4231 to 0.5615 is possible" in str(found.doubts[0])
