"""One held-out section: predicted without its expression, scored with it beside every baseline.

Nothing is fitted here: model and baselines come as they are in a bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.config import Machine
from hespotex.evaluation import intervals, run_tables
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.evaluation.by_size import OfSize, score_sizes
from hespotex.evaluation.claims import Patient
from hespotex.evaluation.evidence import SectionEvidence, mean_pcc_per_spot, section_evidence
from hespotex.evaluation.level_evidence import bundle_level_grades
from hespotex.evaluation.level_ridge import level_by_ridge, mean_feature
from hespotex.evaluation.predictors import MODEL, PREDICTORS, Rival, oracles, rivals
from hespotex.evaluation.region_intervals import region_coverage, spread_follows_error
from hespotex.evaluation.regions import held_out_regions
from hespotex.evaluation.ridge_maps import ridge_maps
from hespotex.evaluation.scores import SectionScores, Targets, score_section, summarise
from hespotex.evaluation.set_scores import bundle_sets, score_sets
from hespotex.evaluation.trust import Extras, bundle_trust
from hespotex.evaluation.units import units_compare
from hespotex.genes.panel import GenePanel, PanelCounts, log1p_cpm
from hespotex.models.bundle import Bundle
from hespotex.models.predict import predict_section
from hespotex.models.types import Cohort, EncodedSection, Prediction
from hespotex.sections.fine import null_holds
from hespotex.storage.clock import StageClock
from hespotex.storage.metrics import ScoreSummary, SizeScores

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Everything that a fold finds of one held-out section.

    Attributes:
        item: the section with its measured counts.
        counts: its counts over the fold's panel.
        prediction: made without the counts.
        extras: interval, out-of-distribution check, grades.
        scores: by predictor, in the order of PREDICTORS.
        ceiling: what counting noise leaves to a perfect prediction, in the form of scores.
        evidence: what trust in each gene rests on.
        coverage: (L, G) share of measured values inside the intervals; None without intervals, or where units do
            not compare (`units_compare`).
        region_coverage: (S, L) share of measured counts inside the intervals of composition, by size of region; None
            without such intervals.
        spread_spearman: (G,) whether the ensemble's spread follows the error (`spread_follows_error`); None likewise,
            or without a spread.
        pcc_per_spot: mean over spots of the PCC across genes, of the model and of the train mean.
        gene_sets: scores of the bundle's gene sets, one row a set; None where it has none.
        sizes: scores at every size of square; empty where spots are no squares of fine bins.
    """

    item: EncodedSection
    counts: PanelCounts
    prediction: Prediction
    extras: Extras
    scores: Mapping[str, SectionScores]
    ceiling: ScoreSummary
    evidence: SectionEvidence
    coverage: npt.NDArray[np.float64] | None
    region_coverage: npt.NDArray[np.float64] | None
    spread_spearman: npt.NDArray[np.float64] | None
    pcc_per_spot: Mapping[str, float]
    gene_sets: pd.DataFrame | None = None
    sizes: tuple[OfSize, ...] = ()


def evaluate_bundle(
    bundle: Bundle,
    train: Cohort | None,
    held_out: Cohort,
    *,
    nan_as_zero: bool = False,
    patients: Mapping[str, Patient] | None = None,
    machine: Machine | None = None,
    clock: StageClock | None = None,
) -> tuple[HeldOut, ...]:
    """Predict and score sections that the bundle was not fitted on.

    Args:
        train: its training sections, for the nearest patches; None: those that the bundle keeps.
        held_out: sections with expression.
        nan_as_zero: a PCC that does not exist counts as 0 in means.
        patients: whose a section is, by its id, for what the model may claim there; None: all are of new patients.
        clock: gets the seconds of baselines, predict and score.
    """
    clock = clock or StageClock()
    panel = GenePanel(bundle.genes, bundle.training_totals)
    results = []
    for item in held_out.items:
        blind = item.without_expression()
        with clock.stage("predict"):
            prediction = predict_section(bundle, blind, machine=machine)
            extras = bundle_trust(bundle).extras_of(prediction, blind)
            whose = patients[item.section.section_id] if patients else "new"
            claims = bundle_claims(bundle, whose, verdict=extras.verdict, flagged=extras.ood)
            extras = extras.with_claims(claims, bundle_level_grades(bundle))
            mean = mean_feature(blind.features)
            extras = replace(
                extras,
                ridge=ridge_maps(bundle.trust, blind.features),
                ridge_level=level_by_ridge(bundle.trust, mean),
            )
        with clock.stage("baselines"):
            beside = rivals(bundle.trust, panel, train, blind, prediction)
        with clock.stage("score"):
            results.append(_judge(bundle, panel, item, prediction, extras, beside, nan_as_zero))
    return tuple(results)


def _judge(
    bundle: Bundle,
    panel: GenePanel,
    item: EncodedSection,
    prediction: Prediction,
    extras: Extras,
    beside: Mapping[str, Rival],
    nan_as_zero: bool,
) -> HeldOut:
    counts = panel.counts(item.section)
    xy_um = item.section.xy_um
    pooled = bundle.pooled
    in_units = units_compare(pooled, counts.measured)
    evidence = section_evidence(prediction, counts, xy_um, pooled, seed=bundle.config.seed)
    abundant = panel.abundant() if panel.training_totals else np.zeros(0, np.intp)  # imported
    known = oracles(panel, item.without_expression(), prediction, counts.counts)
    every = {MODEL: Rival(prediction.log1p, prediction.composition), **beside, **known}
    scores = _scores(every, counts, abundant, nan_as_zero, in_units)
    covered = _coverage(bundle, prediction, counts) if in_units else None
    of_regions, follows = _of_regions(bundle, prediction, counts, xy_um)
    per_spot = {MODEL: mean_pcc_per_spot(prediction.log1p, counts)}
    if "train_mean" in beside:
        per_spot["train_mean"] = mean_pcc_per_spot(beside["train_mean"].log1p, counts)
    ceiling = summarise(
        evidence.ceiling_log1p,
        evidence.ceiling_composition,
        np.full(len(bundle.genes), np.nan),
        scores[MODEL].constant,
        counts.measured,
        abundant,
        nan_as_zero=nan_as_zero,
    )
    fitted = SizeScores(
        size_um=item.section.geometry.spot_pitch_um,
        n_squares=item.section.n_spots,
        n_fitted=1,
        scores={name: found.summary for name, found in scores.items()},
        ceiling=ceiling,
    )
    sizes = score_sizes(
        item.section, every, panel, abundant,
        fitted=OfSize(fitted, scores[MODEL].pcc_composition, evidence.ceiling_composition), nan_as_zero=nan_as_zero, seed=bundle.config.seed,
    )  # fmt: skip
    sets, of_sets = bundle_sets(bundle), None
    if sets is not None:
        of_sets = score_sets(
            sets[0], prediction.composition, counts, xy_um, pooled, seed=bundle.config.seed
        )
    if not null_holds(item.section):  # given features of a finer lattice: nothing was summed
        none = np.full(len(bundle.genes), np.nan)
        evidence = replace(evidence, null_z=none, null_p=none)
        of_sets = None if of_sets is None else of_sets.assign(**{run_tables.NULL_Z: np.nan})
    return HeldOut(
        item, counts, prediction, extras, scores, ceiling, evidence, covered, of_regions, follows, per_spot,
        of_sets, sizes,
    )  # fmt: skip


def _coverage(bundle: Bundle, prediction: Prediction, counts: PanelCounts) -> Floats | None:
    """(L, G) share of measured values inside the intervals; None without intervals."""
    trusted = bundle_trust(bundle).intervals
    if trusted is None:
        return None
    measured = log1p_cpm(counts.counts)
    held = intervals.HeldOutErrors(prediction.log1p, measured, prediction.spread, counts.measured)
    return intervals.coverage(trusted, [held])


def _of_regions(
    bundle: Bundle, prediction: Prediction, counts: PanelCounts, xy_um: Floats
) -> tuple[Floats | None, Floats | None]:
    """`region_coverage` and `spread_spearman` of a held-out section."""
    trusted, seed = bundle_trust(bundle).regions, bundle.config.seed
    if trusted is None:
        return None, None
    regions = held_out_regions(prediction, bundle.pooled, counts, xy_um)
    covered = region_coverage(trusted, regions, seed=seed)
    if prediction.spread is None:
        return covered, None
    return covered, spread_follows_error(trusted, regions, prediction.spread, seed=seed)


def _scores(
    every: Mapping[str, Rival],
    counts: PanelCounts,
    abundant: npt.NDArray[np.intp],
    nan_as_zero: bool,
    in_units: bool,
) -> dict[str, SectionScores]:
    """Scores of the model and of everything beside it, in the order of the table."""
    targets = Targets.of(counts.counts, counts.measured)
    return {
        name: score_section(
            every[name].log1p,
            every[name].composition,
            targets,
            abundant,
            nan_as_zero=nan_as_zero,
            in_units=in_units and every[name].in_units,
        )
        for name in PREDICTORS
        if name in every
    }
