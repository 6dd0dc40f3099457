"""Measured composition: what differs between spots is seen, what counting noise explains is not, depth cancels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from hespotex.evaluation.measured_composition import measured_composition

N, GENES = 400, 40


def counts_of(rates: np.ndarray, depth: np.ndarray, seed: int = 0) -> sparse.csr_matrix:
    """Poisson counts of (n, G) rates, whatever they sum to."""
    p = rates / rates.sum(axis=1, keepdims=True)
    drawn = np.random.default_rng(seed).poisson(p * depth[:, None])
    return sparse.csr_matrix(drawn.astype(np.float32))


def depths(mean: float) -> np.ndarray:
    """Very different from spot to spot."""
    return mean * np.exp(np.random.default_rng(9).normal(0, 0.8, N))


def test_a_fourfold_difference_is_seen_as_such_where_counts_are_deep() -> None:
    rates = np.ones((N, GENES))
    rates[: N // 2, 0] = 4.0
    found = measured_composition(counts_of(rates, depths(20_000)))[:, 0]
    p = rates[:, 0] / rates.sum(axis=1)
    difference = found[: N // 2].mean() - found[N // 2 :].mean()
    assert difference == pytest.approx(np.log(p[0] / p[-1]), abs=0.05)
    assert found.mean() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("depth", [50, 2_000])
def test_counting_noise_is_drawn_to_zero_whatever_the_depth(depth: float) -> None:
    found = measured_composition(counts_of(np.ones((N, GENES)), depths(depth)))
    assert np.median(found.std(axis=0)) < 0.05
    # A bare log ratio of the same counts would be far from it.
    assert np.abs(found).max() < 2


def test_a_pattern_in_shallow_counts_is_drawn_in_but_kept_in_place() -> None:
    rates = np.ones((N, GENES))
    rates[: N // 2, 0] = 6.0
    deep, shallow = (measured_composition(counts_of(rates, depths(d)))[:, 0] for d in (20_000, 100))
    assert 0 < shallow.std() < deep.std()
    assert np.corrcoef(deep, shallow)[0, 1] > 0.6


def test_depth_leaves_no_trace() -> None:
    depth = depths(500)
    rates = np.random.default_rng(3).gamma(4.0, 0.25, (N, GENES))
    found = measured_composition(counts_of(rates, depth))
    slopes = [np.corrcoef(found[:, g], np.log(depth))[0, 1] for g in range(GENES)]
    assert np.abs(np.median(slopes)) < 0.1


def test_chosen_genes_are_those_of_the_whole_and_a_spot_without_counts_has_no_value() -> None:
    counts = counts_of(np.ones((N, GENES)), depths(300)).toarray()
    counts[5] = 0
    counts[:, 7] = 0
    table = sparse.csr_matrix(counts)
    whole = measured_composition(table)
    some = measured_composition(table, np.array([3, 7]))
    np.testing.assert_allclose(some, whole[:, [3, 7]], atol=1e-6)
    assert np.isnan(whole[5]).all()
    assert np.isfinite(np.delete(whole, 5, axis=0)).all()
    np.testing.assert_allclose(np.delete(whole[:, 7], 5), 0, atol=1e-6)
