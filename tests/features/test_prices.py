"""Prices of features: the cheaper reading follows from the lattice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hespotex.encoders import offline
from hespotex.encoders.area import ONE, TWO
from hespotex.features import prices
from hespotex.features.area_tiles import tiles_under
from hespotex.features.patches import PatchPlan
from hespotex.features.prices import Price, core_time, price

USUAL = PatchPlan((77.2, 154.5, 309.0, 617.9), 224)


def lattice(side_um: float, pitch_um: float, *, hexagonal: bool) -> npt.NDArray[np.float64]:
    """(n, 2) spots over a square."""
    step = pitch_um * (np.sqrt(3) / 2 if hexagonal else 1)
    y, x = np.mgrid[0 : int(side_um / step) + 1, 0 : int(side_um / pitch_um) + 1]
    return np.stack([(x + (y % 2) / 2 * hexagonal) * pitch_um, y * step], axis=2).reshape(-1, 2)


def test_without_spots_nothing_is_read() -> None:
    assert tiles_under(np.empty((0, 2)), 11.0, 7, offline.TILES) == [0] * 6
    assert price([(np.empty((0, 2)), 1.0)], USUAL) == Price(0.0, 0.0)


@settings(max_examples=15, deadline=None)
@given(st.floats(500, 15_000))
def test_a_lattice_of_100_um_stays_with_patches_whatever_its_size(side_um: float) -> None:
    found = price([(lattice(side_um, 100.0, hexagonal=True), 1.0)], USUAL)
    assert found.cheaper == "patches"
    assert found.much_cheaper("patches") is None


@settings(max_examples=10, deadline=None)
@given(st.floats(800, 4000), st.floats(0.2, 2.0))
def test_a_lattice_of_16_um_is_much_cheaper_by_area(side_um: float, mpp: float) -> None:
    found = price([(lattice(side_um, 16.0, hexagonal=False) / mpp, mpp)], USUAL)
    assert found.cheaper == "area"
    assert found.much_cheaper("patches") == "area"
    assert found.much_cheaper("area") is None


def test_a_mixed_set_is_decided_by_its_sums() -> None:
    coarse = lattice(9000.0, 200.0, hexagonal=False), 1.0
    fine = lattice(1500.0, 25.0, hexagonal=False), 1.0
    alone, other = price([fine], USUAL), price([coarse], USUAL)
    assert (alone.cheaper, other.cheaper) == ("area", "patches")
    both = price([fine, coarse], USUAL)
    assert both.patches == pytest.approx(alone.patches + other.patches)
    assert both.area == pytest.approx(alone.area + other.area)
    assert both.cheaper == "patches"


def test_patches_cost_by_number_and_size() -> None:
    xy = lattice(1000.0, 100.0, hexagonal=False)
    assert price([(xy, 0.5)], USUAL).patches == pytest.approx(121 * 4 * prices.PATCH_S)
    double = PatchPlan((77.2,), 448)
    assert price([(xy, 0.5)], double).patches == pytest.approx(121 * 4 * prices.PATCH_S)


def test_a_network_costs_more_by_area_the_fewer_phases_it_has() -> None:
    spots = [(lattice(3000.0, 50.0, hexagonal=False), 1.0)]
    in_six, in_two, in_one = (
        price(spots, USUAL, tiles).area for tiles in (offline.TILES, TWO, ONE)
    )
    assert in_six < in_two < in_one


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, "0 core-s"), (41.6, "42 core-s"), (95, "1.6 core-min"), (7300, "2 core-h")]
)  # fmt: skip
def test_core_time_has_two_digits(seconds: float, words: str) -> None:
    assert core_time(seconds) == words
