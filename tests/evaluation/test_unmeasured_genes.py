"""Sections of targeted panels: what they did not measure moves no score of what they did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from helpers.toy_cohort import N_GENES, toy_cohort
from hespotex.config import RunConfig
from hespotex.evaluation.held_out import evaluate_bundle
from hespotex.evaluation.intervals import HeldOutErrors, calibrate, coverage
from hespotex.evaluation.neighbours import NearestPatches, fit_nearest
from hespotex.evaluation.scores import deviance_explained
from hespotex.evaluation.trust import bundle_trust
from hespotex.evaluation.units import units_compare
from hespotex.genes.panel import GenePanel, log1p_cpm, pooled_composition
from hespotex.models.fit import fit_bundle
from hespotex.models.types import Cohort, EncodedSection
from hespotex.sections.splits import Fold
from hespotex.validation.cross_validation import calibrated, run_fold, with_baselines

QUICK = ["panel.kind='all'", "panel.min_spots=0", "model.epochs=2", "model.ensemble=1"]


def _targeted(item: EncodedSection, genes: slice) -> EncodedSection:
    section = item.section
    assert section.counts is not None
    assert section.genes is not None
    part = replace(
        section,
        counts=sparse.csr_matrix(section.counts[:, genes]),
        genes=section.genes[genes],
        missing_genes="unmeasured",
    )
    return replace(item, section=part)


def _with_targeted(cohort: Cohort, section_id: str) -> Cohort:
    items = tuple(
        _targeted(i, slice(0, N_GENES // 2)) if i.section.section_id == section_id else i
        for i in cohort.items
    )
    return replace(cohort, items=items)


def test_deviance_over_measured_genes_equals_that_of_the_panel_without_the_others() -> None:
    rng = np.random.default_rng(0)
    pooled = rng.dirichlet(np.ones(8))
    composition = rng.normal(size=(20, 8)) * 0.4
    measured = np.arange(8) < 5
    counts = rng.poisson(3.0, (20, 8)) * measured
    found = deviance_explained(composition, pooled, sparse.csr_matrix(counts), measured)
    part = pooled[:5] / pooled[:5].sum()
    alone = deviance_explained(composition[:, :5], part, sparse.csr_matrix(counts[:, :5]))
    np.testing.assert_allclose(found[:5], alone, rtol=1e-9)
    assert np.isnan(found[5:]).all()


def test_units_compare_where_next_to_nothing_is_unmeasured() -> None:
    pooled = np.array([0.6, 0.395, 0.005])
    assert units_compare(pooled, np.array([True, True, False]))
    assert not units_compare(pooled, np.array([True, False, True]))


def test_a_section_with_unmeasured_genes_has_no_error_and_no_coverage_but_correlations() -> None:
    cohort = _with_targeted(toy_cohort(n_side=6), "B1")
    config = RunConfig.from_values({}, QUICK)
    outcome = run_fold(cohort, Fold(("B1", "B2"), ("A1", "A2")), config)
    targeted, whole = outcome.held_out
    for name in ("model", "ridge", "train_mean", "nearest_patches", "neighbours"):
        assert np.isnan(targeted.scores[name].rmse_log1p).all()
        assert np.isfinite(whole.scores[name].summary.rmse_log1p)
    assert np.isfinite(targeted.scores["model"].summary.pcc_log1p_mean)
    assert targeted.coverage is None
    assert whole.coverage is not None


def test_intervals_rest_on_the_sections_whose_units_compare() -> None:
    cohort, config = toy_cohort(n_side=6), RunConfig.from_values({}, QUICK)
    train = _with_targeted(cohort, "A1")
    bundle = calibrated(fit_bundle(train, config), train)
    intervals = bundle_trust(bundle).intervals
    assert intervals is not None
    assert intervals.n_sections == 3
    assert np.isfinite(intervals.upper).all()


def test_pooled_shares_are_those_that_the_composition_is_against() -> None:
    train = _with_targeted(toy_cohort(n_side=6), "A1")
    bundle = fit_bundle(train, RunConfig.from_values({}, QUICK))
    tables = [GenePanel(bundle.genes).counts(i.section) for i in train.items]
    expected = pooled_composition([t.counts for t in tables], [t.measured for t in tables])
    np.testing.assert_allclose(bundle.pooled, expected, rtol=1e-5)
    totals = np.asarray(bundle.training_totals)
    assert not np.allclose(bundle.pooled, totals / totals.sum(), rtol=0.05)


def test_deviance_and_sets_of_a_mixed_model_use_its_own_pooled_shares() -> None:
    train = _with_targeted(toy_cohort(n_side=6), "A1")
    held_out = train.subset(["B2"])
    train = train.subset(["A1", "A2"])
    bundle = with_baselines(fit_bundle(train, RunConfig.from_values({}, QUICK)), train)
    (found,) = evaluate_bundle(bundle, train, held_out)
    expected = deviance_explained(
        found.prediction.composition, bundle.pooled, found.counts.counts, found.counts.measured
    )
    np.testing.assert_allclose(found.evidence.deviance_explained, expected)


def _nearest() -> tuple[NearestPatches, list[sparse.csr_matrix]]:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(12, 3)).astype(np.float32) for _ in range(2)]
    tables = [rng.poisson(4.0, (12, 3)) for _ in range(2)]
    tables[1][:, 2] = 0
    counts = [sparse.csr_matrix(t.astype(np.float32)) for t in tables]
    measured = [np.array([True, True, True]), np.array([True, True, False])]
    return fit_nearest(features, counts, measured=measured), counts


def test_nearest_patches_average_the_neighbours_that_measured_the_gene() -> None:
    nearest, counts = _nearest()
    features = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    log1p, _ = nearest.predict(features, k=24)
    np.testing.assert_allclose(log1p[:, 2], log1p_cpm(counts[0])[:, 2].mean(), rtol=1e-5)


def test_nearest_patches_without_a_measuring_neighbour_say_the_train_mean() -> None:
    nearest, counts = _nearest()
    only = replace(nearest, projected=nearest.projected + 100.0 * (nearest.section == 0)[:, None])
    features = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    log1p, composition = only.predict(features, k=4)
    np.testing.assert_allclose(log1p[:, 2], log1p_cpm(counts[0])[:, 2].mean(), rtol=1e-5)
    np.testing.assert_array_equal(composition[:, 2], 0)


def test_nearest_patches_of_an_older_file_measured_every_gene() -> None:
    arrays = _nearest()[0].tensors()
    del arrays["measured"]
    assert NearestPatches.from_tensors(arrays).measured.all()


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_an_interval_without_bounds_covers_nothing_and_everything_so_it_has_no_coverage(
    level: float,
) -> None:
    section = HeldOutErrors(np.zeros((24, 2)), np.random.default_rng(0).normal(size=(24, 2)))
    intervals = calibrate([section], levels=[level])
    seen = coverage(intervals, [section], floor=-np.inf)
    assert np.isnan(seen).all() == (level == 0.95)
