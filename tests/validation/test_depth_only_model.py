"""A model that knows depth alone: good by the usual score, and told to know no gene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from helpers.toy_cohort import N_GENES, toy_cohort
from hespotex.config import RunConfig
from hespotex.evaluation.by_scope import headline, judge_by_scope
from hespotex.evaluation.grades import count_grades
from hespotex.models.types import Cohort, EncodedSection
from hespotex.results.run_outputs import gene_rows
from hespotex.sections.splits import make_folds
from hespotex.validation.cross_validation import run_fold


def _depth_alone(item: EncodedSection, seed: int) -> EncodedSection:
    """Features that show the depth of a spot, and counts whose genes differ by their own smooth maps."""
    rng = np.random.default_rng([5, seed])
    section, n = item.section, item.section.n_spots
    waves = section.xy_um @ rng.normal(size=(2, N_GENES + 1)) / 250.0
    maps = np.sin(waves + rng.uniform(0, 2 * np.pi, N_GENES + 1))
    depth = 25 * np.exp(0.9 * maps[:, -1:])
    # In turn up and down by the same, so that no gene drags the others.
    swing = 0.5 * maps[:, : N_GENES // 2]
    share = np.concatenate([1 + swing, 1 - swing], axis=1) / N_GENES
    counts = sparse.csr_matrix(rng.poisson(depth * share).astype(np.float32))
    shown = np.log(depth)[:, :, None] * np.random.default_rng(3).normal(size=(1, 2, 12))
    features = shown + 0.1 * rng.normal(size=(n, 2, 12))
    return replace(
        item, section=replace(section, counts=counts), features=features.astype(np.float32)
    )


@pytest.mark.slow
def test_a_model_of_depth_scores_well_in_log1p_and_no_gene_is_found_beyond_depth() -> None:
    plain = toy_cohort(n_side=12)
    cohort: Cohort = replace(
        plain, items=tuple(_depth_alone(item, i) for i, item in enumerate(plain.items))
    )
    genes = [f"G{j:02d}" for j in range(N_GENES)]
    config = RunConfig.from_values(
        {"model": {"ensemble": 1, "epochs": 5}, "trust": {"calibrate": False}}
    ).with_genes(genes)
    ids = [item.section.section_id for item in cohort.items]
    owners = {item.section.section_id: item.section.patient_id for item in cohort.items}
    rows, trained_on, scores = [], {}, []
    for number, fold in enumerate(make_folds(ids, list(owners.values()), "patient")):
        outcome = run_fold(cohort, fold, config)
        trained_on |= dict.fromkeys(fold.held_out, fold.train)
        for held in outcome.held_out:
            rows.append(gene_rows(number, outcome.bundle.genes, held))
            scores.append(held.scores["model"].summary)
    judged = judge_by_scope(pd.concat(rows), owners, owners, nominal=0.9, trained_on=trained_on)
    # Of what measured depth itself would score (an oracle), nearly everything.
    assert np.mean([s.pcc_log1p_mean for s in scores]) > 0.25
    assert abs(np.mean([s.pcc_composition_mean for s in scores])) < 0.1
    assert headline(judged, owners).startswith(
        f"No gene is predicted better than a smooth random map beyond depth ({N_GENES} tested)"
    )
    assert count_grades(judged["between_patients"]["grade"].to_numpy(dtype=str))["D"] == N_GENES
