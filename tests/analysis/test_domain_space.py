"""Smoothing in microns: what it keeps, what it leaves out, and that fine and coarse lattices agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hespotex.analysis.domain_space import smoothed, smoothed_apart


def lattice(side_um: float, pitch_um: float) -> np.ndarray:
    at = np.arange(0.0, side_um, pitch_um)
    return np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)


def direct(values: np.ndarray, xy: np.ndarray, length: float) -> np.ndarray:
    d = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    weight = np.exp(-0.5 * (d / length) ** 2) * (d <= 3 * length)
    return weight @ values / weight.sum(axis=1, keepdims=True)


def test_a_coarse_lattice_is_averaged_with_the_stated_weights() -> None:
    xy = lattice(1000.0, 100.0)
    values = np.random.default_rng(0).normal(size=(len(xy), 3)).astype(np.float32)
    np.testing.assert_allclose(smoothed(values, xy, 70.0), direct(values, xy, 70.0), atol=1e-5)


def test_squares_of_a_fine_lattice_stand_for_their_spots_within_two_percent_of_the_range() -> None:
    xy = lattice(600.0, 12.0)
    values = np.stack([np.sin(xy[:, 0] / 150), np.cos(xy[:, 1] / 100)], axis=1).astype(np.float32)
    off = np.abs(smoothed(values, xy, 70.0) - direct(values, xy, 70.0))
    assert 0 < off.max() < 0.04  # squares were taken; the range is 2


def test_fine_and_coarse_lattices_of_one_field_agree_at_the_same_places() -> None:
    def field(xy: np.ndarray) -> np.ndarray:
        return np.sin(xy[:, :1] / 200) * np.cos(xy[:, 1:] / 250)

    fine, coarse = lattice(2000.0, 20.0), lattice(2000.0, 60.0)
    of_fine = smoothed(field(fine).astype(np.float32), fine, 100.0)
    of_coarse = smoothed(field(coarse).astype(np.float32), coarse, 100.0)
    at = {tuple(p): v for p, v in zip(fine.tolist(), of_fine[:, 0].tolist(), strict=True)}
    inner = [k for k, p in enumerate(coarse.tolist()) if all(300 < c < 1650 for c in p)]
    for k in inner:
        assert of_coarse[k, 0] == pytest.approx(at[tuple(coarse[k].tolist())], abs=0.03)


def test_a_spot_without_a_value_takes_no_part_and_stays_without_one() -> None:
    xy = lattice(300.0, 100.0)
    values = np.ones((9, 2), np.float32)
    values[4, 1] = np.nan
    found = smoothed(values, xy, 100.0)
    assert np.isnan(found[4]).all()
    np.testing.assert_allclose(np.delete(found, 4, axis=0), 1.0)
    assert np.isnan(smoothed(np.full((9, 2), np.nan, np.float32), xy, 100.0)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.one_of(st.just(0.0), st.floats(1.0, 500.0)), st.integers(0, 1000))
def test_means_stay_in_the_range_of_values(n: int, length: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 1)).astype(np.float32)
    found = smoothed(values, rng.uniform(0, 1000, (n, 2)), length)
    assert found.min() >= values.min() - 1e-5
    assert found.max() <= values.max() + 1e-5


def test_spots_that_are_not_usable_give_nothing_to_others_and_take_from_all() -> None:
    xy = lattice(1000.0, 100.0)
    values = np.random.default_rng(0).normal(size=(len(xy), 2)).astype(np.float32)
    usable = np.random.default_rng(1).random(len(xy)) < 0.8
    found = smoothed_apart(values, xy, 70.0, usable)
    alone = direct(values[usable], xy[usable], 70.0)  # weights over usable neighbours sum to 1
    np.testing.assert_allclose(found[usable], alone, atol=1e-5)
    np.testing.assert_allclose(found[~usable], direct(values, xy, 70.0)[~usable], atol=1e-5)
    none = smoothed_apart(values, xy, 70.0, np.zeros(len(xy), bool))
    np.testing.assert_allclose(none, direct(values, xy, 70.0), atol=1e-5)
