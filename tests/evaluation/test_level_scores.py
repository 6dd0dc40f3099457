"""Scores of levels: what is shown is found, a level of zero scores nothing, and fewer than 8 patients are not graded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from hespotex.evaluation.level_scores import (
    LevelFold,
    _bootstrap,
    deviations,
    score_external,
    score_levels,
)

GENES = [f"G{i}" for i in range(30)]


def _folds(looks: np.ndarray, *, tells: bool = True) -> list[LevelFold]:
    every = np.arange(len(looks))
    slopes = np.full((looks.shape[1], len(GENES)), 0.3)
    slopes[:, :10] = _slopes()
    return [LevelFold(np.delete(every, k), np.array([k]), looks, slopes, tells) for k in every]


def _slopes() -> np.ndarray:
    """(2, 10) of the genes that follow looks; the others have slopes that no slide follows."""
    return np.random.default_rng(9).normal(size=(2, 10))


def _made(n: int, seed: int = 0, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Looks of two numbers; the first 10 genes follow them."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(n, 2))
    values = 0.3 * rng.normal(size=(n, len(GENES)))
    values[:, :10] += strength * looks @ _slopes()
    return looks, values - 5


def test_genes_whose_level_is_shown_are_graded_and_others_are_not():
    looks, values = _made(20)
    grades = score_levels(_folds(looks), values, GENES, {}).table.level_grade
    assert (grades[:10].isin(["A", "B", "C"])).mean() >= 0.8
    assert (grades[10:] == "D").mean() >= 0.9


def test_a_level_of_zero_scores_nothing_though_the_left_out_mean_would_score_minus_one():
    looks, values = _made(20)
    scores = score_levels(_folds(looks, tells=False), values, GENES, {})
    left_out_mean = values - deviations(_folds(looks), values)
    assert pearsonr(left_out_mean[:, 0], values[:, 0]).statistic == pytest.approx(-1)
    assert scores.table.level_pcc.isna().all()
    assert scores.table.level_spearman.isna().all()
    assert set(scores.table.level_grade) == {"D"}
    np.testing.assert_allclose(scores.table.level_rmse, scores.table.train_mean_level_rmse)


def test_scores_are_those_of_scipy_over_the_patients_that_measured_the_gene():
    looks, values = _made(12)
    values[[2, 7], 3] = np.nan
    scores = score_levels(_folds(looks), values, GENES, {}, n_permutations=5)
    for gene in (0, 3):
        known = np.isfinite(scores.measured[:, gene])
        p, m = scores.predicted[known, gene], scores.measured[known, gene]
        row = scores.table.iloc[gene]
        assert known.sum() == (10 if gene == 3 else 12)
        assert row.level_pcc == pytest.approx(pearsonr(p, m).statistic)
        assert row.level_spearman == pytest.approx(spearmanr(p, m).statistic)
        assert row.level_rmse == pytest.approx(np.sqrt(np.mean((p - m) ** 2)))


def test_fewer_than_eight_patients_are_ungraded_whatever_the_scores():
    looks, values = _made(7, strength=5.0)
    table = score_levels(_folds(looks), values, GENES, {}).table
    assert set(table.level_grade) == {"ungraded"}
    assert table.level_q_value.isna().all()
    assert table.level_pcc[:10].mean() > 0.5


def test_a_gene_below_a_baseline_is_not_graded():
    looks, values = _made(20)
    beside = {"ridge": looks, "area": looks[:, :1], "depth": np.zeros((20, 1))}
    table = score_levels(_folds(looks), values, GENES, beside).table
    best = np.nan_to_num(table[["ridge_level_pcc", "area_level_pcc", "depth_level_pcc"]]).max(
        axis=1
    )
    graded = table.level_grade.isin(["A", "B", "C"])
    assert (table.level_pcc[graded] > best[graded]).all()
    assert (~graded & (table.level_q_value <= 0.05)).any()


def test_nothing_of_a_held_out_patient_reaches_its_level():
    looks, values = _made(12)
    folds, other = _folds(looks), values.copy()
    other[4] = np.random.default_rng(1).normal(size=len(GENES)) * 9
    a, b = (score_levels(folds, v, GENES, {}, n_permutations=1).predicted for v in (values, other))
    np.testing.assert_array_equal(a[4], b[4])
    assert not np.allclose(a[5], b[5])


def test_levels_of_a_fitted_model_are_scored_against_its_training_mean():
    looks, values = _made(20)
    mean = np.full(len(GENES), -5.0)
    told = score_external(values - mean, values, GENES, {"area": looks[:, :1]}, mean).table
    assert (told.level_pcc > 0.999).all()
    assert set(told.level_grade) == {"A"}
    none = score_external(np.zeros_like(values), values, GENES, {}, mean).table
    assert set(none.level_grade) == {"D"}


def test_the_interval_holds_the_correlation_and_narrows_with_patients():
    widths = []
    for n in (10, 80):
        looks, values = _made(n, strength=0.4)
        noisy = looks @ np.ones((2, len(GENES)))
        lower, upper = _bootstrap(noisy, values, 0)
        widths.append((upper - lower).mean())
        assert (lower < upper).all()
    assert widths[1] < 0.6 * widths[0]
