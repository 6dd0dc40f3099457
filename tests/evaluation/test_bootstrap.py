"""The block bootstrap: equal to drawing blocks by hand, wider than for independent spots, honest when small."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cdist
from scipy.special import stdtrit

from hespotex.errors import HESpotExError
from hespotex.evaluation.bootstrap import pcc_interval
from hespotex.sections.splits import halve


def grid(side: int) -> npt.NDArray[np.float64]:
    y, x = np.divmod(np.arange(side * side), side)
    return np.column_stack([100.0 * x, 100.0 * y])


def test_the_matrix_products_equal_blocks_drawn_one_by_one() -> None:
    xy, rng = grid(12), np.random.default_rng(0)
    a, b = rng.normal(size=(2, 144, 3)) + rng.normal(size=(144, 3)) + 50
    result = pcc_interval(a, b, xy, n_replicates=40, seed=5)
    blocks = halve(xy, np.arange(144), 10)
    weights = np.random.default_rng(5).multinomial(10, np.full(10, 0.1), 40)
    drawn = []
    for row in weights:
        spots = np.concatenate([np.tile(block, w) for block, w in zip(blocks, row, strict=True)])
        drawn.append([np.corrcoef(a[spots, j], b[spots, j])[0, 1] for j in range(3)])
    # Noise rests on many modes, so blocks set the degrees of freedom.
    half = stdtrit(9, 0.975) * np.arctanh(drawn).std(axis=0, ddof=1)
    np.testing.assert_allclose(result.lower, np.tanh(np.arctanh(result.pcc) - half), rtol=1e-8)
    np.testing.assert_allclose(result.upper, np.tanh(np.arctanh(result.pcc) + half), rtol=1e-8)
    assert result.n_blocks == 10


def test_intervals_of_independent_spots_cover_as_stated_and_smooth_maps_get_wider_ones() -> None:
    xy, rng = grid(18), np.random.default_rng(1)
    widths = []
    for reach in (1.0, 250.0):
        factor = np.linalg.cholesky(
            np.exp(-((cdist(xy, xy) / reach) ** 2) / 2) + 1e-6 * np.eye(len(xy))
        )
        a, e = (factor @ rng.normal(size=(len(xy), 400)) for _ in range(2))
        result = pcc_interval(a, 0.5 * a + np.sqrt(0.75) * e, xy)
        inside = np.mean((result.lower <= 0.5) & (result.upper >= 0.5))
        assert 0.9 < inside < 0.985
        widths.append(np.mean(result.upper - result.lower))
    assert widths[1] > 2 * widths[0]


def test_a_constant_gene_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 144, 3))
    b[:, 1] = 0
    result = pcc_interval(a, b, grid(12))
    assert (
        np.isnan(result.lower).tolist() == np.isnan(result.upper).tolist() == [False, True, False]
    )


def test_twelve_spots_have_a_score_and_no_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12, 3))
    result = pcc_interval(a, b, grid(4)[:12])
    assert np.isfinite(result.pcc).all()
    assert np.isnan(result.lower).all()
    assert result.n_blocks == 0


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 144, 3))
    one, two = (pcc_interval(a, b, grid(12), seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.lower, two.lower)
    assert not np.array_equal(one.lower, pcc_interval(a, b, grid(12), seed=4).lower)


def test_positions_of_other_spots_are_an_error() -> None:
    with pytest.raises(HESpotExError, match="of 9 spots, found 9 and 4"):
        pcc_interval(np.zeros((9, 1)), np.zeros((9, 1)), grid(2))
