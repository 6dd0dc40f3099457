"""Conformal intervals: coverage as stated where sections are exchangeable, errors where they cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from hespotex.errors import HESpotExError
from hespotex.evaluation.intervals import LEVELS, HeldOutErrors, calibrate, coverage, offset_share


def draw(
    rng: np.random.Generator, n: int = 150, n_genes: int = 30, shift: float = 0.0
) -> HeldOutErrors:
    """Errors whose size the ensemble's spread partly tells; skewed, and another size for every gene."""
    spread = rng.gamma(2, 0.3, (n, n_genes))
    predicted = 3 + rng.normal(size=(n, n_genes))
    noise = np.linspace(0.2, 3, n_genes) * (rng.gamma(2, 1, (n, n_genes)) - 2)
    return HeldOutErrors(predicted, predicted + np.hypot(spread, 1) * noise + shift, spread)


@pytest.mark.parametrize("n_sections", [2, 5])
def test_coverage_is_within_two_points_of_nominal_on_exchangeable_sections(n_sections: int) -> None:
    seen = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        intervals = calibrate([draw(rng) for _ in range(n_sections)])
        seen.append(coverage(intervals, [draw(rng) for _ in range(3)], floor=-99).mean(axis=1))
    np.testing.assert_allclose(np.mean(seen, axis=0), LEVELS, atol=0.02)


def _left_out_in_turn(sections: list[npt.NDArray[np.float64]]) -> list[HeldOutErrors]:
    """Every section predicted by the mean of the others, its mean error brought to that of the mean of all."""
    share = offset_share(len(sections) - 1, len(sections))
    held = []
    for i, measured in enumerate(sections):
        others = [s.mean(axis=0) for j, s in enumerate(sections) if j != i]
        error = measured - np.mean(others, axis=0)
        error -= (1 - share) * error.mean(axis=0)
        held.append(HeldOutErrors(np.zeros_like(error), error))
    return held


@pytest.mark.parametrize(("n_sections", "between"), [(2, 0.5), (3, 0.5), (5, 0.5), (5, 1.0)])
def test_coverage_holds_where_all_spots_of_a_section_err_alike(
    n_sections: int, between: float
) -> None:
    seen = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        drawn = [rng.normal(between * rng.normal(size=100), size=(150, 100)) for _ in range(11)]
        train, others = drawn[:n_sections], drawn[n_sections:]
        centre = np.mean([s.mean(axis=0) for s in train], axis=0)
        new = [HeldOutErrors(np.broadcast_to(centre, s.shape), s) for s in others]
        intervals = calibrate(_left_out_in_turn(train))
        seen.append(coverage(intervals, new, floor=-np.inf).mean(axis=1))
    np.testing.assert_allclose(np.mean(seen, axis=0), LEVELS, atol=0.02)


def test_far_quantiles_move_out_where_few_units_err_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    alike = [
        HeldOutErrors(np.zeros((50, 1)), rng.normal(m, 1e-3, (50, 1))) for m in (-1.0, 1.0)
    ] * 2
    levels = (0.5, 0.9)
    patients = [replace(section, unit=unit) for section, unit in zip(alike, "ABAB", strict=True)]
    few, many = calibrate(patients, levels), calibrate(alike, levels)
    # All of the error is the sections': n - 1 degrees of freedom, against the normal, against the 50 % level.
    for n, intervals in ((2, few), (4, many)):
        t, z = (d.ppf([0.75, 0.95]) for d in (stats.t(n - 1), stats.norm))
        factor = (t / z)[1] / (t / z)[0]
        assert intervals.upper[0, 0] == pytest.approx(1, rel=0.01)
        assert intervals.upper[1, 0] == pytest.approx(factor, rel=0.01)
        assert intervals.lower[1, 0] == pytest.approx(-factor, rel=0.01)


def test_quantiles_stay_where_no_error_is_shared_by_a_section() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(3, 400, 5))
    errors -= errors.mean(axis=1, keepdims=True)
    held = [HeldOutErrors(np.zeros((400, 5)), e) for e in errors]
    two = calibrate([replace(h, unit=unit) for h, unit in zip(held, "AAB", strict=True)])
    np.testing.assert_allclose(two.upper, calibrate(held).upper, rtol=1e-5)


def test_intervals_of_sections_that_all_err_to_one_side_hold_one_another() -> None:
    rng = np.random.default_rng(0)
    held = [
        HeldOutErrors(np.zeros((200, 5)), rng.normal(m, 0.1, (200, 5))) for m in (1.0, 1.2, 1.4)
    ]
    intervals = calibrate(held)
    assert (np.diff(intervals.lower, axis=0) <= 0).all()
    assert (np.diff(intervals.upper, axis=0) >= 0).all()
    assert (coverage(intervals, held).mean(axis=1) >= np.array(LEVELS) - 0.02).all()


def test_units_are_counted_gene_by_gene_where_they_were_measured() -> None:
    rng = np.random.default_rng(0)
    errors = [rng.normal(m, 1e-3, (50, 2)) for m in (-1.0, 1.0, -1.0, 1.0)]
    genes = [np.array([True, unit in "AB"]) for unit in "ABCD"]
    held = [
        HeldOutErrors(np.zeros((50, 2)), e, genes=g, unit=unit)
        for e, g, unit in zip(errors, genes, "ABCD", strict=True)
    ]
    four, two = calibrate(held).upper[LEVELS.index(0.9)]
    assert two > 1.5 * four


def test_coverage_says_what_was_seen_where_sections_are_not_exchangeable() -> None:
    rng = np.random.default_rng(0)
    intervals = calibrate([draw(rng) for _ in range(3)])
    seen = coverage(intervals, [draw(rng, shift=6.0)]).mean(axis=1)
    assert seen[LEVELS.index(0.9)] < 0.6


def test_quantiles_of_one_section_are_order_statistics() -> None:
    measured = np.arange(99.0)[:, None]
    intervals = calibrate([HeldOutErrors(np.zeros((99, 1)), measured)], levels=[0.8])
    lower, upper = intervals.interval(np.zeros((1, 1)), level=0.8)
    # With 99 residuals the new one is the 100th: 10 % lie at or below the 10th, 10 % above the 90th.
    assert (lower[0, 0], upper[0, 0]) == (pytest.approx(9), pytest.approx(89))


def test_a_level_that_so_few_spots_cannot_carry_gives_an_unbounded_interval() -> None:
    measured = np.random.default_rng(0).normal(size=(24, 2))
    intervals = calibrate([HeldOutErrors(np.zeros((24, 2)), measured)], levels=[0.5, 0.95])
    lower, upper = intervals.interval(np.zeros((1, 2)), level=0.95, floor=-np.inf)
    assert np.isneginf(lower).all()
    assert np.isposinf(upper).all()
    assert np.isfinite(intervals.interval(np.zeros((1, 2)), level=0.5)[1]).all()


def test_every_section_weighs_the_same_however_many_spots_it_has() -> None:
    small = HeldOutErrors(np.zeros((50, 1)), np.full((50, 1), 10.0))
    large = HeldOutErrors(np.zeros((5000, 1)), np.full((5000, 1), -10.0))
    intervals = calibrate([small, large], levels=[0.5])
    lower, upper = intervals.interval(np.zeros((1, 1)), level=0.5, floor=-np.inf)
    assert lower[0, 0] == pytest.approx(-10)
    assert upper[0, 0] == pytest.approx(10)


def test_a_larger_spread_gives_a_wider_interval() -> None:
    intervals = calibrate([draw(np.random.default_rng(0))])
    values = np.full((2, 30), 5.0)
    spread = np.stack([np.full(30, 0.1), np.full(30, 3.0)])
    lower, upper = intervals.interval(values, spread, level=0.9, floor=-np.inf)
    width = upper - lower
    assert (width[1] > width[0]).all()


def test_an_interval_never_goes_below_what_can_be_measured() -> None:
    intervals = calibrate([draw(np.random.default_rng(0))])
    lower, upper = intervals.interval(np.zeros((3, 30)), level=0.95)
    assert lower.min() == 0
    assert (upper >= lower).all()


def test_an_unmeasured_gene_is_calibrated_where_it_was_measured() -> None:
    rng = np.random.default_rng(0)
    first, second = draw(rng), draw(rng)
    masked = HeldOutErrors(
        second.predicted, second.measured + 100, second.spread, np.arange(30) > 0
    )
    alone, both = calibrate([first]), calibrate([first, masked])
    np.testing.assert_allclose(alone.lower[:, 0], both.lower[:, 0])
    assert not np.allclose(alone.upper[:, 1], both.upper[:, 1])
    assert np.isnan(coverage(both, [masked])[:, 0]).all()


def test_a_gene_measured_nowhere_has_no_bounds() -> None:
    rng = np.random.default_rng(0)
    section = draw(rng)
    intervals = calibrate(
        [HeldOutErrors(section.predicted, section.measured, section.spread, np.arange(30) > 0)]
    )
    assert np.isneginf(intervals.lower[:, 0]).all()
    assert np.isposinf(intervals.upper[:, 0]).all()


def test_too_few_spots_are_an_error() -> None:
    with pytest.raises(
        HESpotExError, match="at least 20 spots to calibrate intervals on, found 12"
    ):
        calibrate([draw(np.random.default_rng(0), n=12)])


def test_a_level_that_was_not_calibrated_is_an_error() -> None:
    intervals = calibrate([draw(np.random.default_rng(0))])
    with pytest.raises(HESpotExError, match=r"levels \(0.5, 0.8, 0.9, 0.95\), found 0.7"):
        intervals.interval(np.zeros((1, 30)), level=0.7)
    with pytest.raises(HESpotExError, match="between 0 and 1, found"):
        calibrate([draw(np.random.default_rng(0))], levels=[90])


def test_other_genes_are_an_error() -> None:
    intervals = calibrate([draw(np.random.default_rng(0))])
    with pytest.raises(HESpotExError, match="predictions of 30 genes, found 29"):
        intervals.interval(np.zeros((1, 29)))


def test_mean_errors_of_sections_are_brought_to_those_of_the_final_model() -> None:
    rng = np.random.default_rng(0)
    units = rng.normal(size=(200_000, 6))

    def mean_error(n_fitted: int) -> float:
        return float((units[:, -1] - units[:, :n_fitted].mean(axis=1)).std())

    for n_fitted, n_final in ((1, 2), (2, 3), (3, 5)):
        share = offset_share(n_fitted, n_final)
        assert mean_error(n_fitted) * share == pytest.approx(mean_error(n_final), rel=0.01)
    assert offset_share(4, 4) == 1
