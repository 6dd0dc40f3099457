"""A gene set is scored and graded on held-out sections as one gene with its members' counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from helpers.made_claims import validation_of
from helpers.toy_cohort import lattice
from helpers.toy_slide import toy_bundle
from hespotex.evaluation.by_scope import SETS
from hespotex.evaluation.set_scores import (
    bundle_sets,
    judge_sets,
    predicted_sets,
    score_sets,
    with_gene_sets,
)
from hespotex.evaluation.spatial_null import build_modes, score_against_null
from hespotex.genes.gene_sets import GeneSet, PanelSets
from hespotex.genes.panel import PanelCounts, pearson_residuals

N_GENES = 40
GENES = tuple(f"G{j}" for j in range(N_GENES))
# The two sets have two hundredths of the counts, so that one hardly moves the share of the other.
POOLED = np.where(np.arange(N_GENES) < 10, 0.002, 0.98 / 30)
SIGNAL, NOISE = GeneSet("SIGNAL", GENES[:5]), GeneSet("NOISE", GENES[5:10])


def _section(seed: int) -> tuple[np.ndarray, PanelCounts, np.ndarray]:
    """Composition that is right for the first set, and a map of its own for the second."""
    rng = np.random.default_rng(seed)
    xy = lattice(14, 14, hexagonal=False)
    waves = np.sin(xy @ rng.uniform(-0.012, 0.012, size=(2, 12)) + rng.uniform(0, 6, size=12))
    maps = 0.8 * waves @ rng.normal(size=(12, 3)) / np.sqrt(6)
    log_ratio = np.zeros((len(xy), N_GENES))
    log_ratio[:, :5], log_ratio[:, 5:10] = maps[:, [0]], maps[:, [1]]
    share = POOLED * np.exp(log_ratio)
    share /= share.sum(axis=1, keepdims=True)
    depth = rng.gamma(4, 1500, size=len(xy))
    counts = rng.poisson(depth[:, None] * share).astype(np.float32)
    log_ratio[:, 5:10] = maps[:, [2]]
    measured = np.ones(N_GENES, dtype=bool)
    return log_ratio.astype(np.float32), PanelCounts(sparse.csr_matrix(counts), measured), xy


def test_scores_are_those_of_a_gene_with_the_summed_counts() -> None:
    composition, counts, xy = _section(0)
    sets = PanelSets.of([SIGNAL, NOISE], GENES)
    table = score_sets(sets, composition, counts, xy, POOLED).set_index("gene_set")
    own = counts.counts[:, :5].sum(axis=1)
    merged = sparse.csr_matrix(np.column_stack([own, counts.depth - np.asarray(own).ravel()]))
    predicted = sets.scores(composition, POOLED)[:, [0]]
    expected = np.corrcoef(predicted[:, 0], pearson_residuals(merged)[:, 0])[0, 1]
    row = table.loc["SIGNAL"]
    assert row.pcc_composition == pytest.approx(expected, abs=1e-6)
    null = score_against_null(predicted, merged, build_modes(xy))
    assert row.null_z == pytest.approx(null.z[0], abs=1e-4)
    assert row.pcc_composition_lower < row.pcc_composition < row.pcc_composition_upper
    assert row.pcc_composition > 0.7
    assert table.loc["NOISE"].pcc_composition < 0.3
    assert row.mean_count == pytest.approx(float(own.mean()))


def test_a_set_without_enough_measured_genes_has_no_score() -> None:
    composition, counts, xy = _section(0)
    measured = np.ones(N_GENES, dtype=bool)
    measured[:3] = False
    part = PanelCounts(counts.counts @ sparse.diags(measured.astype(np.float32)), measured)
    table = score_sets(PanelSets.of([SIGNAL, NOISE], GENES), composition, part, xy, POOLED)
    assert table.pcc_composition.isna().tolist() == [True, False]


def test_the_false_discovery_rate_runs_over_sets_and_grades_follow_the_rule_of_genes() -> None:
    sets = PanelSets.of([SIGNAL, NOISE], GENES)
    rows = []
    for n in range(3):
        composition, counts, xy = _section(n + 2)
        rows.append(
            score_sets(sets, composition, counts, xy, POOLED).assign(fold=n, section_id=f"S{n}")
        )
    table = pd.concat(rows)
    owners = {f"S{n}": f"P{n}" for n in range(3)}
    judged = judge_sets(table, owners, owners)["between_patients"].set_index("gene_set")
    assert judged.grade.to_dict() == {"SIGNAL": "A", "NOISE": "D"}
    assert judged.q_value["SIGNAL"] < 0.01 < judged.q_value["NOISE"]
    one_patient = judge_sets(table, dict.fromkeys(owners, "P"), dict.fromkeys(owners, "P"))
    assert one_patient["between_patients"].set_index("gene_set").grade["SIGNAL"] == "B"


def test_a_grade_belongs_to_the_very_genes_that_it_was_given_for() -> None:
    bundle = toy_bundle()
    first, second = GeneSet("X", bundle.genes[:4]), GeneSet("Y", bundle.genes[4:9])
    known = replace(
        bundle, gene_sets=(first, second), validation=validation_of({"X": "B", "Y": "C"}, kind=SETS)
    )
    assert with_gene_sets(known, None) is known
    other = with_gene_sets(known, [GeneSet("X", bundle.genes[1:5]), second])
    found = bundle_sets(other)
    assert found is not None
    assert found[1].grades == ("ungraded", "C")
    assert found[1].evidence == ("untested", "predicted")
    unlike = bundle_sets(other, "new", verdict="unlike: tissue")
    assert unlike is not None
    assert unlike[1].grades == ("ungraded", "ungraded")
    assert bundle_sets(with_gene_sets(known, [GeneSet("few", bundle.genes[:2])])) is None
    composition = np.zeros((2, len(bundle.genes)), np.float32)
    scores = predicted_sets(known, composition)
    assert scores is not None
    assert scores.values is not None
    np.testing.assert_allclose(scores.values, 0.0, atol=1e-6)
    assert scores.measured is None


def test_a_set_that_was_not_measured_has_no_residuals() -> None:
    bundle = toy_bundle()
    genes = bundle.genes
    known = with_gene_sets(bundle, [GeneSet("unseen", genes[:3]), GeneSet("seen", genes[3:6])])
    measured = np.arange(len(genes)) >= 2
    table = np.random.default_rng(0).poisson(5.0, (9, len(genes))) * measured
    counts = PanelCounts(sparse.csr_matrix(table.astype(np.float32)), measured)
    scores = predicted_sets(known, np.zeros((9, len(genes)), np.float32), counts)
    assert scores is not None
    assert scores.measured is not None
    assert np.isnan(scores.measured).all(axis=0).tolist() == [True, False]
