"""Intervals and upper quartiles of gene sets: learnt as a gene's are, kept with the very same set, held on new sections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
from benchmarks.synthetic import make_cohort

from helpers.stored_model import MODEL
from helpers.toy_cohort import toy_cohort
from hespotex.config import RunConfig
from hespotex.evaluation.region_intervals import region_coverage
from hespotex.evaluation.regions import held_out_regions
from hespotex.evaluation.set_scores import bundle_sets, with_gene_sets
from hespotex.evaluation.set_trust import trust_of_sets
from hespotex.export.h5ad import read_prediction
from hespotex.genes.gene_sets import GeneSet, PanelSets
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle, read_model, write_model
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_section
from hespotex.results.run_outputs import write_fold
from hespotex.sections.splits import Fold
from hespotex.storage.run_folder import RunDir
from hespotex.validation.cross_validation import calibrated, run_fold

CONFIG = RunConfig.from_values(
    {"panel": {"kind": "all"}, "model": {"epochs": 4, "ensemble": 1, "n_components": 8}}
)
FIRST, SECOND = GeneSet("first", ("G00", "G01", "G02", "G03")), GeneSet("second", ("G10", "G11", "G12"))  # fmt: skip


@pytest.fixture(scope="session")
def learnt() -> Bundle:
    """A model of four toy sections, calibrated with two gene sets; a third has too few genes."""
    train = toy_cohort(n_side=8)
    sets = (FIRST, GeneSet("too few", ("G00", "elsewhere", "nowhere")), SECOND)
    return calibrated(replace(fit_bundle(train, CONFIG), gene_sets=sets), train)


def test_a_set_of_all_genes_is_certain_and_others_are_not() -> None:
    train = toy_cohort(n_side=8)
    genes = tuple(f"G{j:02d}" for j in range(30))
    sets = (GeneSet("all", genes), FIRST)
    known = calibrated(replace(fit_bundle(train, CONFIG), gene_sets=sets), train)
    found = trust_of_sets(known.trust)
    width = found.half_width()
    assert width is not None
    assert width[0, 0] < 0.5 * width[0, 1]
    assert found.upper_quartile is not None
    assert abs(found.upper_quartile[0]) < 1e-5  # the whole is the whole in every spot
    assert found.upper_quartile[1] > 0.05


def test_what_is_learnt_travels_with_the_model_and_with_the_very_same_genes_alone(
    learnt: Bundle, tmp_path: Path
) -> None:
    write_model(tmp_path / "m.hespotex", learnt)
    read = read_model(tmp_path / "m.hespotex")
    found, kept = bundle_sets(learnt), bundle_sets(read)
    assert found is not None
    assert kept is not None
    own, width = found[1], found[1].half_width
    assert own.names == ("first", "second")
    assert width is not None
    assert own.upper_quartile is not None
    assert np.isfinite(width).any(axis=0).all()
    np.testing.assert_array_equal(width, kept[1].half_width)
    other = with_gene_sets(read, [SECOND, GeneSet("first", FIRST.genes[1:]), GeneSet("new", FIRST.genes)])  # fmt: skip
    again = bundle_sets(other)
    assert again is not None
    assert again[1].half_width is not None
    assert again[1].upper_quartile is not None
    np.testing.assert_array_equal(again[1].half_width[:, 0], width[:, 1])
    assert np.isnan(again[1].half_width[:, 1:]).all()
    np.testing.assert_array_equal(again[1].upper_quartile, [own.upper_quartile[1], np.nan, np.nan])
    back = with_gene_sets(read, [FIRST])
    np.testing.assert_array_equal(trust_of_sets(back.trust).half_width(), width[:, :1])
    assert not any(name.startswith("sets.") for name in with_gene_sets(read, []).trust)
    for name, values in learnt.trust.items():
        if not name.startswith("sets."):
            np.testing.assert_array_equal(back.trust[name], values, err_msg=name)


def test_a_model_of_before_scores_sets_without_either() -> None:
    old = read_model(MODEL)
    known = with_gene_sets(old, [GeneSet("a", old.genes[:3])])
    found = bundle_sets(known)
    assert found is not None
    assert found[1].half_width is None
    assert found[1].upper_quartile is None


def test_a_prediction_carries_both_beside_the_grade(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    fold = Fold(("B1", "B2"), ("A1", "A2"))
    outcome = run_fold(toy_cohort(n_side=8), fold, CONFIG, gene_sets=(FIRST, SECOND))
    run.begin({"verb": "cross-validate"})
    write_fold(run, 0, outcome)
    path = run.predictions / "B1.h5ad"
    table = anndata.read_h5ad(path).uns["hespotex"]["gene_sets"]
    trust = trust_of_sets(outcome.bundle.trust)
    width = trust.half_width()
    assert width is not None
    np.testing.assert_allclose(table["half_width_9"], width[2])
    np.testing.assert_allclose(table["upper_quartile"], trust.upper_quartile)
    read = read_prediction(path).extras.gene_sets
    assert read is not None
    np.testing.assert_array_equal(read.half_width, width)
    np.testing.assert_array_equal(read.subset(np.array([1])).half_width, width[:, 1:])


@pytest.mark.slow
def test_intervals_of_sets_hold_their_share_on_sections_of_the_same_kind() -> None:
    """Six seeds of five training sections and two more; sets of ten genes, as many regions as there are."""
    shares, above = [], []
    for seed in range(6):
        cohort = make_cohort([300] * 7, 60, dim=16, seed=seed)
        ids = [item.section.section_id for item in cohort.items]
        names = cohort.items[0].section.genes
        assert names is not None
        sets = tuple(
            GeneSet(f"s{k}", tuple(names[10 * k : 10 * (k + 1)].tolist())) for k in range(6)
        )
        config = RunConfig.from_values({"seed": seed, "model": {"ensemble": 1, "epochs": 10}})
        config = config.with_genes(names.tolist())
        train = cohort.subset(ids[:5])
        bundle = calibrated(replace(fit_bundle(train, config), gene_sets=sets), train)
        trust = trust_of_sets(bundle.trust)
        panel_sets = PanelSets.of(sets, bundle.genes)
        assert trust.regions is not None
        assert trust.upper_quartile is not None
        for item in cohort.subset(ids[5:]).items:
            prediction = predict_section(bundle, item.without_expression())
            counts = GenePanel(bundle.genes).counts(item.section)
            regions = held_out_regions(prediction, bundle.pooled, counts, item.section.xy_um)
            shares.append(region_coverage(trust.regions, regions.of_sets(panel_sets))[:, 2])
            scores = panel_sets.scores(prediction.composition, bundle.pooled)
            above.append((scores > trust.upper_quartile).mean())
    mean = np.mean(shares, axis=0)
    assert ((mean > 0.86) & (mean < 0.94)).all(), mean
    assert 0.2 < np.mean(above) < 0.3
