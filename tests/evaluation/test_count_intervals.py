"""A count whose expectation is off by a log-normal factor has the distribution that integration gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hespotex.evaluation.count_intervals import mixed_poisson_cdf


@pytest.mark.parametrize("sd", [0.0, 0.2, 0.6, 1.2])
def test_the_distribution_is_that_of_the_integral(sd: float) -> None:
    count, expected = (t.ravel() for t in np.meshgrid([0, 1, 3, 10, 80], [0.2, 1, 4, 12, 70]))
    z, weight = np.polynomial.hermite_e.hermegauss(200)
    exact = stats.poisson.cdf(count[:, None], expected[:, None] * np.exp(sd * z)) @ weight
    exact /= weight.sum()
    found = mixed_poisson_cdf(count.astype(float), expected.astype(float), np.full(25, sd))
    np.testing.assert_allclose(found, exact, atol=0.013)
    np.testing.assert_allclose(found[count > 1], exact[count > 1], atol=0.003)


def test_far_from_what_is_expected_it_stays_between_0_and_1() -> None:
    found = mixed_poisson_cdf(
        np.array([0.0, 0.0, 1e4, 1e4]), np.array([1e-9, 1e6, 1e-9, 1e8]), np.full(4, 0.3)
    )
    np.testing.assert_allclose(found, [1, 0, 1, 0], atol=1e-6)
