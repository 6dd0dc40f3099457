"""Patients are the units of comparisons over slides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from hespotex.analysis.patients import bootstrap_means, compare_groups, patient_means
from hespotex.errors import HESpotExError

RNG = np.random.default_rng(0)


def test_slides_of_a_patient_become_one_row_and_missing_values_are_left_out() -> None:
    values = np.array([[1.0, np.nan], [3.0, 2.0], [10.0, np.nan]])
    names, means = patient_means(values, ["b", "b", "a"])
    assert names == ["b", "a"]
    np.testing.assert_array_equal(means, [[2.0, 2.0], [10.0, np.nan]])


def test_every_row_needs_a_patient() -> None:
    with pytest.raises(HESpotExError, match="expected a patient for each of 3 rows, found 2"):
        patient_means(np.zeros((3, 1)), ["a", "b"])


def test_all_sharings_of_few_patients_give_scipys_exact_p_values() -> None:
    values = RNG.normal(size=(9, 4))
    second = np.arange(9) < 4
    found = compare_groups(values, second)
    assert found.n_permutations == 126
    assert found.least_p == 1 / 126
    for gene in range(4):
        expected = permutation_test(
            (values[second, gene], values[~second, gene]),
            lambda a, b, axis: a.mean(axis) - b.mean(axis),
            vectorized=True,
            n_resamples=np.inf,
        )
        # scipy doubles the smaller tail; ours counts differences as large in either direction.
        assert found.difference[gene] == pytest.approx(expected.statistic)
        null = np.abs(expected.null_distribution)
        assert found.p_value[gene] == pytest.approx(
            (null >= abs(expected.statistic) * (1 - 1e-9)).mean()
        )


def test_the_seen_sharing_is_one_of_the_random_ones_and_the_seed_decides() -> None:
    values = RNG.normal(size=(40, 3))
    values[:20, 0] += 5
    second = np.arange(40) < 20
    found = compare_groups(values, second, n_permutations=999)
    assert found.n_permutations == 1000
    assert found.p_value[0] == 1 / 1000
    again = compare_groups(values, second, n_permutations=999)
    np.testing.assert_array_equal(found.p_value, again.p_value)


def test_p_values_of_groups_that_do_not_differ_are_uniform() -> None:
    p = compare_groups(RNG.normal(size=(12, 2000)), np.arange(12) < 6).p_value
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert p.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("second", [np.zeros(4, bool), np.ones(4, bool)])
def test_one_group_alone_is_refused(second: np.ndarray) -> None:
    with pytest.raises(HESpotExError, match="expected patients in both groups"):
        compare_groups(np.zeros((4, 1)), second)


def test_a_missing_value_is_refused() -> None:
    values = np.array([[1.0], [np.nan], [2.0]])
    with pytest.raises(HESpotExError, match="found 1 that do not exist"):
        compare_groups(values, np.array([True, False, False]))


def test_intervals_of_means_over_patients_have_their_coverage() -> None:
    values = RNG.normal(size=(30, 1000))
    lower, upper = bootstrap_means(values)
    assert ((lower <= 0) & (upper >= 0)).mean() == pytest.approx(0.95, abs=0.03)


def test_two_patients_have_no_interval() -> None:
    lower, upper = bootstrap_means(np.zeros((2, 3)))
    assert np.isnan(lower).all()
    assert np.isnan(upper).all()
