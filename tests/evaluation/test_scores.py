"""Scores equal the libraries' and count what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from hespotex.errors import HESpotExError
from hespotex.evaluation.baselines import depth_only
from hespotex.evaluation.scores import (
    ScoreSummary,
    Targets,
    aggregate,
    deviance_explained,
    pcc_per_gene,
    pcc_per_spot,
    rmse_per_gene,
    score_section,
    spearman_per_gene,
    without,
)
from hespotex.genes.panel import log1p_cpm, pearson_residuals

ALL_ABUNDANT = np.arange(1000)


@given(st.integers(0, 10_000), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=30, deadline=None)
def test_pcc_and_spearman_equal_scipys(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    n, g = int(rng.integers(3, 40)), 7
    a = (rng.normal(size=(n, g)) + 5).astype(dtype)
    b = rng.poisson(2.0, (n, g)).astype(dtype)
    b[:2] = [[0], [4]]  # no constant gene here
    expected = [stats.pearsonr(a[:, j], b[:, j])[0] for j in range(g)]
    np.testing.assert_allclose(pcc_per_gene(a, b), expected, rtol=2e-6, atol=2e-6)
    expected = [stats.spearmanr(a[:, j], b[:, j])[0] for j in range(g)]
    np.testing.assert_allclose(spearman_per_gene(a, b), expected, rtol=1e-9, atol=1e-12)


def test_more_genes_than_a_block_are_all_scored() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9, 1100))
    expected = [np.corrcoef(a[:, j], b[:, j])[0, 1] for j in range(1100)]
    np.testing.assert_allclose(pcc_per_gene(a, b), expected, atol=1e-12)


@pytest.mark.parametrize("side", ["predicted", "measured"])
@pytest.mark.parametrize("score", [pcc_per_gene, spearman_per_gene])
def test_a_constant_gene_is_nan_on_either_side(score, side: str) -> None:  # type: ignore[no-untyped-def]
    varied = np.random.default_rng(0).normal(size=(10, 2))
    flat = varied.copy()
    flat[:, 1] = 0.1
    result = score(flat, varied) if side == "predicted" else score(varied, flat)
    assert np.isfinite(result[0])
    assert np.isnan(result[1])


def test_a_prediction_that_varies_by_rounding_alone_is_constant() -> None:
    flat = np.full((10, 1), 3.3, dtype=np.float32)
    flat[3] = np.nextafter(flat[3], np.float32(9))
    assert np.isnan(pcc_per_gene(flat, np.arange(10.0)[:, None])).all()


def test_nan_in_a_prediction_makes_that_gene_nan_alone() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 10, 2))
    a[3, 0] = np.nan
    assert np.isnan(pcc_per_gene(a, b)).tolist() == [True, False]


def test_one_spot_has_no_correlation() -> None:
    assert np.isnan(pcc_per_gene(np.ones((1, 3)), np.ones((1, 3)))).all()


def test_one_map_stands_for_every_gene() -> None:
    rng = np.random.default_rng(0)
    one, b = rng.normal(size=(12, 1)), rng.normal(size=(12, 700))
    every = np.repeat(one, 700, axis=1)
    for score in (pcc_per_gene, spearman_per_gene, rmse_per_gene):
        np.testing.assert_allclose(score(one, b), score(every, b), rtol=1e-12)


def test_shapes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(HESpotExError, match=r"shape \(5, 3\), found \(5, 2\)"):
        pcc_per_gene(np.zeros((5, 2)), np.zeros((5, 3)))


@pytest.fixture
def counts() -> sparse.csr_matrix:
    rng = np.random.default_rng(1)
    table = rng.poisson(rng.uniform(1, 8, 60), (30, 60)).astype(np.float32)
    table[:, 5] = 0  # constant
    return sparse.csr_matrix(table)


def test_section_scores_are_the_definitions(counts: sparse.csr_matrix) -> None:
    rng = np.random.default_rng(2)
    predicted = log1p_cpm(counts) + rng.normal(size=counts.shape)
    composition = pearson_residuals(counts) + 2 * rng.normal(size=counts.shape)
    abundant = np.array([3, 1, 8])
    result = score_section(
        predicted, composition, Targets.of(counts, np.ones(60, dtype=bool)), abundant
    )
    kept = [j for j in range(60) if j != 5]
    target, residual = log1p_cpm(counts), pearson_residuals(counts)
    pcc = np.array([np.corrcoef(predicted[:, j], target[:, j])[0, 1] for j in kept])
    comp = np.array(
        [np.corrcoef(composition[:, j], residual[:, j])[0, 1] for j in range(60) if j != 5]
    )
    summary = result.summary
    assert summary.pcc_log1p_mean == pytest.approx(pcc.mean())
    assert summary.pcc_log1p_median == pytest.approx(np.median(pcc))
    assert summary.pcc_log1p_top50 == pytest.approx(np.sort(pcc)[-50:].mean())
    assert summary.pcc_composition_mean == pytest.approx(comp.mean())
    assert summary.pcc_composition_abundant200 == pytest.approx(comp[[3, 1, 7]].mean())
    assert summary.rmse_log1p == pytest.approx(
        np.sqrt(np.mean((predicted - target) ** 2)), rel=1e-6
    )
    assert summary.n_constant_genes == 1
    assert np.flatnonzero(np.isnan(result.pcc_log1p)).tolist() == [5]
    np.testing.assert_allclose(result.mean_count, counts.toarray().mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(("step", "constant"), [(2.0**-21, True), (2.0**-12, False)])
def test_a_log_ratio_near_zero_varies_only_beyond_the_rounding_of_its_terms(
    step: float, constant: bool
) -> None:
    """log(p) - log(pooled p) of one map: one step of float32 at 4 stays between spots that are the same."""
    predicted = np.float32(0.06) + np.float32(step) * (np.arange(9)[:, None] % 2).astype(np.float32)
    measured = np.arange(9.0)[:, None] ** 2
    assert np.isnan(pcc_per_gene(predicted, measured)[0]) == constant


def test_a_constant_gene_counts_as_zero_only_on_demand(counts: sparse.csr_matrix) -> None:
    predicted = log1p_cpm(counts) + np.random.default_rng(0).normal(size=counts.shape)
    everything = (
        predicted,
        predicted,
        Targets.of(counts, np.ones(60, dtype=bool)),
        ALL_ABUNDANT[:60],
    )
    left_out = score_section(*everything).summary.pcc_log1p_mean
    as_zero = score_section(*everything, nan_as_zero=True).summary.pcc_log1p_mean
    assert as_zero == pytest.approx(left_out * 59 / 60)


def test_an_unmeasured_gene_is_not_scored_even_with_nan_as_zero(counts: sparse.csr_matrix) -> None:
    measured = np.ones(60, dtype=bool)
    measured[[2, 5]] = False
    predicted = log1p_cpm(counts) + np.random.default_rng(0).normal(size=counts.shape)
    result = score_section(
        predicted, predicted, Targets.of(counts, measured), ALL_ABUNDANT[:60], nan_as_zero=True
    )
    assert np.isnan(result.pcc_log1p[2])
    assert np.isnan(result.rmse_log1p[2])
    assert result.summary.n_constant_genes == 0
    assert result.summary.pcc_log1p_mean == pytest.approx(np.nanmean(result.pcc_log1p))


@pytest.mark.parametrize("nan_as_zero", [False, True])
def test_the_train_mean_has_an_error_in_units_but_no_correlation(
    counts: sparse.csr_matrix, nan_as_zero: bool
) -> None:
    constant = np.broadcast_to(log1p_cpm(counts).mean(axis=0), counts.shape)
    summary = score_section(
        constant,
        None,
        Targets.of(counts, np.ones(60, dtype=bool)),
        ALL_ABUNDANT[:60],
        nan_as_zero=nan_as_zero,
    ).summary
    assert np.isnan(summary.pcc_log1p_mean)
    assert np.isnan(summary.pcc_log1p_top50)
    assert np.isnan(summary.pcc_composition_mean)
    assert summary.rmse_log1p == pytest.approx(
        np.sqrt(log1p_cpm(counts).var(axis=0, dtype=np.float64).mean()), rel=1e-5
    )


def test_depth_has_no_error_in_units(counts: sparse.csr_matrix) -> None:
    depth = depth_only(counts)
    summary = score_section(
        depth, depth, Targets.of(counts, np.ones(60, dtype=bool)), ALL_ABUNDANT[:60], in_units=False
    ).summary
    assert np.isnan(summary.rmse_log1p)
    assert np.isfinite(summary.pcc_log1p_mean)


def test_sections_are_averaged_within_their_fold_first_and_nan_is_left_out() -> None:
    def summary(value: float) -> ScoreSummary:
        values = dict.fromkeys(ScoreSummary.model_fields, value)
        return ScoreSummary(**values | {"pcc_composition_mean": float("nan")})

    mean = aggregate([[summary(1.0)], [summary(2.0), summary(4.0), summary(float("nan"))]])
    assert mean.pcc_log1p_mean == 2.0
    assert np.isnan(mean.pcc_composition_mean)


def test_a_fold_without_sections_is_an_error() -> None:
    with pytest.raises(HESpotExError, match="at least one section in every fold"):
        aggregate([[]])


@pytest.mark.slow
@pytest.mark.parametrize("section", ["C2", "C3", "C4"])
def test_depth_alone_scores_what_the_reference_table_says(
    section: str, shared_data: Path, shared_golden: Path
) -> None:
    reference = json.loads((shared_golden / "reference_her2st.json").read_text())
    path = shared_data / "her2st" / "counts" / f"{section}.tsv.gz"
    table = pd.read_csv(path, sep="\t", index_col=0)[reference["genes"]]
    counts = sparse.csr_matrix(table.to_numpy(dtype=np.float32))
    depth = depth_only(counts)
    scores = score_section(
        depth,
        depth,
        Targets.of(counts, np.ones(len(reference["genes"]), dtype=bool)),
        np.arange(200),
    )
    expected = reference["sections"][section]["depth_alone"]["log1p"]
    assert scores.summary.pcc_log1p_mean == pytest.approx(expected, abs=5e-5)


class TestGivenDepth:
    def test_partial_correlation_is_the_textbook_formula(self) -> None:
        rng = np.random.default_rng(0)
        z = rng.normal(size=(40, 1))
        a, b = (rng.normal(size=(40, 3)) + z for _ in range(2))
        result = pcc_per_gene(without(a, z), without(b, z))
        for j in range(3):
            ab, az, bz = (
                np.corrcoef(*pair)[0, 1]
                for pair in ((a[:, j], b[:, j]), (a[:, j], z[:, 0]), (b[:, j], z[:, 0]))
            )
            assert result[j] == pytest.approx((ab - az * bz) / np.sqrt((1 - az**2) * (1 - bz**2)))

    def test_depth_itself_has_nothing_left(self) -> None:
        rng = np.random.default_rng(0)
        z = rng.normal(size=(40, 1))
        left = without(rng.normal(size=(40, 4)), z)
        assert np.isnan(pcc_per_gene(without(3 * z + 1, z), left)).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("section", ["C2", "C3", "C4"])
    def test_the_references_partial_score_is_found_again(
        self, section: str, shared_data: Path, shared_golden: Path
    ) -> None:
        reference = json.loads((shared_golden / "reference_her2st.json").read_text())
        predictions = np.load(shared_golden / "reference_her2st_predictions.npz")
        path = shared_data / "her2st" / "counts" / f"{section}.tsv.gz"
        table = pd.read_csv(path, sep="\t", index_col=0).loc[predictions[f"{section}_spots"]]
        counts = sparse.csr_matrix(table[reference["genes"]].to_numpy(dtype=np.float32))
        predicted = predictions[f"{section}_prediction"]
        depth = depth_only(counts)
        partial = pcc_per_gene(without(predicted, depth), without(log1p_cpm(counts), depth))
        # The table holds the mean of three seeds, the file one of them.
        expected = reference["sections"][section]["reference_last_epoch"]["log1p_depth_removed"]
        assert np.nanmean(partial) == pytest.approx(expected, abs=0.03)


def test_pcc_per_spot_runs_across_genes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600, 8))
    expected = [np.corrcoef(a[i], b[i])[0, 1] for i in range(600)]
    np.testing.assert_allclose(pcc_per_spot(a, b), expected, atol=1e-12)


class TestDevianceExplained:
    def test_equals_scikit_learns_poisson_deviance(self) -> None:
        from sklearn.metrics import mean_poisson_deviance

        rng = np.random.default_rng(0)
        pooled = rng.dirichlet(np.ones(6))
        table = rng.poisson(50 * pooled, (30, 6)).astype(float)
        composition = 0.3 * rng.normal(size=(30, 6))
        share = pooled * np.exp(composition)
        total = table.sum(axis=1, keepdims=True)
        model, null = total * share / share.sum(axis=1, keepdims=True), total * pooled
        expected = [
            1
            - mean_poisson_deviance(table[:, j], model[:, j])
            / mean_poisson_deviance(table[:, j], null[:, j])
            for j in range(6)
        ]
        result = deviance_explained(composition, pooled, sparse.csr_matrix(table))
        np.testing.assert_allclose(result, expected, rtol=1e-8)

    def test_the_train_mean_explains_nothing_and_an_unseen_gene_has_no_deviance(self) -> None:
        counts = sparse.csr_matrix([[3.0, 1.0, 0.0], [1.0, 5.0, 0.0]])
        pooled = np.array([0.5, 0.4, 0.1])
        result = deviance_explained(np.zeros((2, 3)), pooled, counts)
        np.testing.assert_allclose(result[:2], 0, atol=1e-12)
        assert np.isnan(result[2])

    def test_a_gene_that_the_pooled_shares_fit_exactly_has_nothing_to_explain(self) -> None:
        counts = sparse.csr_matrix(np.full((4, 2), 3.0))
        assert np.isnan(deviance_explained(np.zeros((4, 2)), np.array([0.5, 0.5]), counts)).all()


def test_rmse_equals_scikit_learns() -> None:
    from sklearn.metrics import root_mean_squared_error

    a, b = np.random.default_rng(0).normal(size=(2, 15, 6))
    expected = root_mean_squared_error(b, a, multioutput="raw_values")
    np.testing.assert_allclose(rmse_per_gene(a, b), expected, rtol=1e-12)
