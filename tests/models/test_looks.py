"""The look of a slide: what tissue moves is read in full, what moves slides further than spots is not, and no look lies far off."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hespotex.models.default.looks import directions_of, place_of, within
from hespotex.models.preprocessing import FeatureStats, InputProjection


def _projection(size: int, k: int) -> InputProjection:
    """Inputs are the first k features, each in units of its own deviation."""
    return InputProjection(
        np.zeros(size, np.float32),
        np.eye(size, k, dtype=np.float32),
        np.arange(1, k + 1, dtype=np.float32),
    )


def test_a_slide_lies_where_its_mean_spot_lies_along_the_inputs():
    stats = FeatureStats(np.array([[3.0, 8.0, 7.0]], np.float32), np.ones((1, 3), np.float32))
    centre, usual = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 0.0]])
    place = place_of(stats, centre, usual)
    np.testing.assert_allclose(place, [2.0, 2.0, 0.0])  # the last feature varies in no slide
    few = 0.01 * np.random.default_rng(0).normal(size=(9, 3))
    np.testing.assert_allclose(directions_of(few, _projection(3, 2)) @ place, [2.0, 1.0])


def test_of_what_moves_slides_further_than_spots_only_the_part_of_tissue_is_left():
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    along = rng.normal(size=(2000, 4)) * [0.5, 0.3, 9.0, 0.2]  # the third is a scanner
    places = np.zeros((2000, 6))
    places[:, :4] = (along - along.mean(axis=0)) @ turn.T * np.arange(1, 5)
    looks = places @ directions_of(places, _projection(6, 4)).T @ turn
    spread = looks.std(axis=0)
    np.testing.assert_allclose(spread[[0, 1, 3]], [0.5, 0.3, 0.2], rtol=0.05)
    assert abs(spread[2] - 1 / 9) < 0.02


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.floats(0, 5), st.integers(0, 10_000))
def test_no_look_is_further_away_than_the_farthest_training_slide_and_none_turns(k, farthest, seed):
    look = 3 * np.random.default_rng(seed).normal(size=k)
    drawn = within(look, farthest)
    size = np.linalg.norm(look)
    assert np.linalg.norm(drawn) <= min(size, farthest) + 1e-9
    np.testing.assert_allclose(drawn * size, look * np.linalg.norm(drawn), atol=1e-9)
    np.testing.assert_array_equal(within(look, float(size) + 1), look)


def test_the_mean_slide_has_no_look():
    np.testing.assert_array_equal(within(np.zeros(3), 0.0), np.zeros(3))
