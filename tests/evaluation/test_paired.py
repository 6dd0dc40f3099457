"""Two predictions of the same sections: the difference of their mean correlation, and what its interval rests on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, t, ttest_1samp

from hespotex.evaluation.paired import SectionDifference, over_sections, section_difference


def _squares(side: int) -> np.ndarray:
    return 100.0 * np.stack(np.divmod(np.arange(side * side), side), axis=1)


def test_a_section_s_difference_is_that_of_scipy_over_genes_that_both_have():
    rng = np.random.default_rng(0)
    measured, noise = rng.normal(size=(2, 144, 5))
    first, second = measured + 0.5 * noise, measured + 2 * noise
    first[:, 4] = 1.0
    found = section_difference(first, second, measured, _squares(12))
    expected = [
        pearsonr(first[:, g], measured[:, g])[0] - pearsonr(second[:, g], measured[:, g])[0]
        for g in range(4)
    ]
    assert found.value == pytest.approx(np.mean(expected))
    assert found.n_blocks == 10
    assert 0 < found.deviation < 0.1
    few = section_difference(first[:49], second[:49], measured[:49], _squares(7))
    assert np.isnan(few.deviation)


def test_four_patients_give_the_t_interval_over_their_means():
    values = [0.1, 0.3, 0.0, -0.1, 0.4]
    found = over_sections([SectionDifference(v, 9.0, 10) for v in values], list("AABCD"))
    expected = ttest_1samp([0.2, 0.0, -0.1, 0.4], 0).confidence_interval()
    assert found.units == "patients"
    assert found.value == pytest.approx(0.125)
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high))


def test_fewer_patients_give_an_interval_over_blocks_and_every_patient_counts_alike():
    sections = [SectionDifference(v, d, 6) for v, d in ((0.1, 0.2), (0.3, 0.2), (0.0, 0.1))]
    found = over_sections(sections, ["A", "A", "B"])
    half = t.ppf(0.975, 15) * np.sqrt(0.05**2 + 0.05**2 + 0.05**2)
    assert found.units == "blocks"
    assert found.value == pytest.approx(0.1)
    assert found.upper - found.value == pytest.approx(half)


def test_sections_too_small_for_blocks_have_no_interval():
    found = over_sections([SectionDifference(0.1, float("nan"), 1)] * 2, ["A", "B"])
    assert found.value == pytest.approx(0.1)
    assert found.units == ""
    assert np.isnan([found.lower, found.upper]).all()
