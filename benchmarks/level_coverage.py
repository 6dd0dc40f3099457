"""Coverage of intervals under a level that tells slides apart, by scope: painted patients with simulated features."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from hespotex.config import RunConfig
from hespotex.datasets import PaintedPatient, PaintedPlan
from hespotex.datasets.simulated import simulated_cohort
from hespotex.evaluation.region_intervals import region_coverage
from hespotex.evaluation.regions import held_out_regions
from hespotex.evaluation.set_trust import trust_of_sets
from hespotex.genes.gene_sets import GeneSet, PanelSets
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle
from hespotex.sections.splits import Fold
from hespotex.validation.cross_validation import run_fold

PATIENTS, KNOWN = 24, 14
SIZES: Final = (1, 4, 9, 25)
_NINETY: Final = 2  # place of 90 % among the levels


def coverage_by_scope(seed: int) -> dict[str, Any]:
    """Share of counts inside 90 % intervals: of second sections of training patients, and of patients who are new.

    Two sections of each of 24 patients; the first ones of 14 are fitted on. The same of 12 gene sets: neighbours in the panel.
    """
    rng = np.random.default_rng([seed, 41])
    names = ("tumour", "immune", "stroma")
    patients = tuple(
        PaintedPatient(
            f"P{p}", tissue=dict(zip(names, rng.normal(0, 0.8, 3).tolist(), strict=True))
        )
        for p in range(PATIENTS)
    )
    plan = PaintedPlan(
        seed=200 + seed, patients=patients, n_genes=120, lattice="square", side_um=1600, mpp=4.0
    )
    cohort = simulated_cohort(plan)
    train = tuple(f"P{p}S1" for p in range(KNOWN))
    same = tuple(f"P{p}S2" for p in range(KNOWN))
    other = tuple(f"P{p}S1" for p in range(KNOWN, PATIENTS))
    config = RunConfig.from_values({"seed": seed, "model": {"ensemble": 2, "epochs": 20}})
    genes = tuple(plan.genes.genes)
    sets = tuple(GeneSet(f"set {k}", genes[10 * k : 10 * (k + 1)]) for k in range(len(genes) // 10))
    outcome = run_fold(cohort, Fold((*same, *other), train), config, gene_sets=sets)
    found = {h.item.section.section_id: h for h in outcome.held_out}
    return {
        "tells": bool(outcome.bundle.model.hyper["level"]["tells_slides_apart"]),
        "same": _mean(found, same),
        "other": _mean(found, other),
        "sets_same": _mean_of_sets(outcome.bundle, found, same),
        "sets_other": _mean_of_sets(outcome.bundle, found, other),
    }


def _mean(found: dict[str, Any], ids: tuple[str, ...]) -> list[float]:
    """By size of region, mean over sections."""
    return [float(v) for v in np.mean([found[i].region_coverage[:, _NINETY] for i in ids], axis=0)]


def _mean_of_sets(bundle: Bundle, found: dict[str, Any], ids: tuple[str, ...]) -> list[float]:
    """The same of the gene sets of a model."""
    sets, panel = PanelSets.of(bundle.gene_sets, bundle.genes), GenePanel(bundle.genes)
    intervals, shares = trust_of_sets(bundle.trust).regions, []
    assert intervals is not None
    for held in (found[i] for i in ids):
        section = held.item.section
        regions = held_out_regions(
            held.prediction, bundle.pooled, panel.counts(section), section.xy_um
        )
        shares.append(region_coverage(intervals, regions.of_sets(sets))[:, _NINETY])
    return [float(v) for v in np.mean(shares, axis=0)]
