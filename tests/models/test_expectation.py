"""The table of E[log1p(CPM)] agrees with sums over counts and with averages over depth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nbinom, norm

from hespotex.models.default.expectation import tabulate


def _by_sum(share: float, depth: float, dispersion: float) -> float:
    counts = np.arange(60_000)
    p = nbinom.pmf(counts, dispersion, dispersion / (dispersion + share * depth))
    return float(p @ np.log1p(counts * 1e6 / depth))


@pytest.mark.parametrize("depth", [60.0, 1500.0, 20_000.0])
@pytest.mark.parametrize("share", [1e-5, 1e-3, 0.05])
@pytest.mark.parametrize("dispersion", [2.0, 10.0])
def test_known_depth_gives_the_sum_over_counts(share: float, depth: float, dispersion: float):
    table = tabulate(dispersion, 0.0)
    found = table(np.array([[np.log(share)]], np.float32), np.array([np.log(depth)], np.float32))
    assert found[0, 0] == pytest.approx(_by_sum(share, depth, dispersion), abs=0.06)


@pytest.mark.slow
def test_uncertain_depth_averages_over_depths():
    share, centre, sd = 1e-3, np.log(300.0), 0.8
    grid = np.linspace(-4, 4, 81)
    weight = norm.pdf(grid) / norm.pdf(grid).sum()
    expected = sum(
        w * _by_sum(share, np.exp(centre + sd * g), 10.0) for g, w in zip(grid, weight, strict=True)
    )
    found = tabulate(10.0, sd)(
        np.array([[np.log(share)]], np.float32), np.array([centre], np.float32)
    )
    assert found[0, 0] == pytest.approx(expected, abs=0.05)


def test_beyond_the_table_its_border_holds():
    table = tabulate(10.0, 0.5)
    inside = table(np.array([[-17.999]], np.float32), np.array([15.999], np.float32))
    outside = table(np.array([[-50.0]], np.float32), np.array([40.0], np.float32))
    assert np.isfinite(outside).all()
    np.testing.assert_allclose(outside, inside, atol=0.05)
