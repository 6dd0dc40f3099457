"""Contracts of pooling: each point goes to its nearest centre, sums are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hespotex.config import Grid
from hespotex.errors import SpotTableError
from hespotex.spots.pooling import pool_points


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["square", "hexagonal"]),
    pitch=st.floats(5, 200),
    shift=st.floats(-1e4, 1e4),
    seed=st.integers(0, 999),
)
def test_every_point_goes_to_the_nearest_of_all_centres(
    kind: Grid, pitch: float, shift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    xy = rng.random((200, 2)) * 500 + shift
    counts = sparse.csr_matrix(rng.poisson(1.0, (200, 4)))
    pooled = pool_points(xy, counts, pitch_um=pitch, kind=kind)
    assert pooled.n_outside == 0
    assert pooled.n_points.sum() == 200
    assert pooled.counts is not None
    np.testing.assert_array_equal(pooled.counts.sum(axis=0), counts.sum(axis=0))
    distance = np.hypot(*(xy[:, None] - pooled.xy_um[None]).transpose(2, 0, 1))
    reach = pitch / np.sqrt(2) if kind == "square" else pitch / np.sqrt(3)
    assert distance.min(axis=1).max() <= reach * (1 + 1e-9)
    nearest = np.bincount(distance.argmin(axis=1), minlength=len(pooled.xy_um))
    np.testing.assert_array_equal(nearest, pooled.n_points)


def test_the_centres_form_the_grid_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    xy = rng.random((5000, 2)) * 400
    for kind, steps in (("square", 4), ("hexagonal", 6)):
        pooled = pool_points(xy, None, pitch_um=50.0, kind=kind)  # type: ignore[arg-type]
        distance = np.hypot(*(pooled.xy_um[:, None] - pooled.xy_um[None]).transpose(2, 0, 1))
        neighbours = np.isclose(distance, 50.0).sum(axis=1)
        assert neighbours.max() == steps
        assert distance[distance > 0].min() == pytest.approx(50.0)


def test_points_between_round_spots_are_left_out_and_counted() -> None:
    xy = np.array([[0.0, 0.0], [20.0, 0.0], [50.0, 0.0], [100.0, 0.0]])
    counts = sparse.csr_matrix(np.array([[1], [2], [4], [8]]))
    pooled = pool_points(
        xy, counts, pitch_um=100.0, diameter_um=55.0, kind="square", origin_um=(0.0, 0.0)
    )
    assert pooled.n_outside == 1
    assert pooled.counts is not None
    assert pooled.counts.toarray().ravel().tolist() == [3, 8]
    assert pooled.xy_um.tolist() == [[0, 0], [100, 0]]
    assert pooled.grid_xy.tolist() == [[0, 0], [1, 0]]


def test_faults_are_named() -> None:
    xy = np.array([[0.0, 0.0]])
    with pytest.raises(SpotTableError, match="pitch above 0 um, found 0"):
        pool_points(xy, None, pitch_um=0.0)
    with pytest.raises(SpotTableError, match="inside spots of 10 um every 100 um, found none"):
        pool_points(xy, None, pitch_um=100.0, diameter_um=10.0)
