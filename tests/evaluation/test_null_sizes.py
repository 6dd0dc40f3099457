"""The spatial null tests no lattice that is finer than its false discoveries were simulated for; scores stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.fine_cohort import fine_cohort
from hespotex.config import RunConfig
from hespotex.evaluation.held_out import HeldOut, evaluate_bundle
from hespotex.genes.gene_sets import GeneSet
from hespotex.models.bundle import Bundle
from hespotex.models.fit import fit_bundle
from hespotex.models.types import Cohort

QUICK = {"model": {"epochs": 2, "ensemble": 1}, "trust": {"calibrate": False}}
SETS = (GeneSet("some", tuple(f"G{j:02d}" for j in range(8))),)


@pytest.fixture(scope="module")
def fitted() -> tuple[Bundle, Cohort]:
    """A model of two sections, and the third."""
    cohort = fine_cohort()
    bundle = fit_bundle(cohort.subset(["A1", "A2"]), RunConfig.from_values(QUICK))
    return replace(bundle, gene_sets=SETS), cohort.subset(["B1"])


def judged(fitted: tuple[Bundle, Cohort], pitch_um: float) -> HeldOut:
    """The section as spots so far apart, which were not summed, as where features are given."""
    bundle, cohort = fitted
    item = cohort.items[0]
    geometry = replace(item.section.geometry, spot_pitch_um=pitch_um)
    given = replace(item, section=replace(item.section, geometry=geometry, bins=None))
    (found,) = evaluate_bundle(bundle, None, replace(cohort, items=(given,)))
    return found


def test_spots_16_um_apart_are_tested_and_closer_ones_only_scored(
    fitted: tuple[Bundle, Cohort],
) -> None:
    shown, finer = judged(fitted, 16.0), judged(fitted, 8.0)
    assert shown.gene_sets is not None
    assert finer.gene_sets is not None
    assert np.isfinite(shown.evidence.null_z).all()
    assert np.isfinite(shown.gene_sets["null_z"]).all()
    for tested in (finer.evidence.null_z, finer.evidence.null_p, finer.gene_sets["null_z"]):
        assert np.isnan(tested).all()
    np.testing.assert_array_equal(finer.evidence.pcc_partial, shown.evidence.pcc_partial)
    assert finer.scores["model"].summary == shown.scores["model"].summary
