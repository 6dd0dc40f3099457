"""Owns the run of one fold: the only place that fits on a part and scores on the rest.

A fit gets the training sections alone; intervals and the out-of-distribution check are calibrated by
leaving out training sections in turn. A held-out section enters twice: without its expression when
it is predicted, and with it when the prediction is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.config import Machine, RunConfig
from hespotex.evaluation import intervals
from hespotex.evaluation.baselines import (
    RidgeBaseline,
    TrainMean,
    depth_only,
    fit_ridge,
    fit_train_mean,
    predicted_depth_only,
)
from hespotex.evaluation.evidence import SectionEvidence, mean_pcc_per_spot, section_evidence
from hespotex.evaluation.neighbours import NearestPatches, fit_nearest, measured_neighbours
from hespotex.evaluation.out_of_distribution import fit_ood
from hespotex.evaluation.scores import ScoreSummary, SectionScores, score_section, summarise
from hespotex.evaluation.set_scores import bundle_sets, score_sets, with_gene_sets
from hespotex.evaluation.trust import Extras, Trust, bundle_grades, bundle_trust
from hespotex.expression import GenePanel, PanelCounts, log1p_cpm
from hespotex.gene_sets import GeneSet
from hespotex.nested_search import Choice, choose
from hespotex.predict import predict_section
from hespotex.runs import StageClock
from hespotex.splits import Fold, inner_folds, spatial_blocks
from hespotex.training.bundle import Bundle
from hespotex.training.fit import fit_bundle, training_section
from hespotex.training.types import Cohort, EncodedSection, Prediction

Floats = npt.NDArray[np.floating[Any]]
Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]

PREDICTORS = (
    "model",
    "ridge",
    "nearest_patches",
    "train_mean",
    "depth_only",
    "predicted_depth_only",
    "neighbours",
)
_BLOCKS = 4
_NEAREST = "nearest."
_MIN_TO_CALIBRATE = 20


@dataclass(frozen=True)
class HeldOut:
    """What a fold says of one held-out section.

    Attributes:
        item: the section with its measured counts.
        counts: its counts over the fold's panel.
        prediction: made without the counts.
        extras: interval, out-of-distribution check, grades.
        scores: by predictor, in the order of PREDICTORS.
        ceiling: what counting noise leaves to a perfect prediction, in the form of scores.
        evidence: what trust in each gene rests on.
        coverage: (L, G) share of measured values inside the intervals; None without intervals.
        pcc_per_spot: mean over spots of the PCC across genes, of the model and of the train mean.
        gene_sets: scores of the bundle's gene sets, one row a set; None where it has none.
    """

    item: EncodedSection
    counts: PanelCounts
    prediction: Prediction
    extras: Extras
    scores: Mapping[str, SectionScores]
    ceiling: ScoreSummary
    evidence: SectionEvidence
    coverage: npt.NDArray[np.float64] | None
    pcc_per_spot: Mapping[str, float]
    gene_sets: pd.DataFrame | None = None


@dataclass(frozen=True)
class FoldOutcome:
    """A fold's model and what it says of every held-out section.

    Attributes:
        fold: held out, and fitted on.
        bundle: the model.
        held_out: in the order of the fold.
        search: what inner folds chose, as `nested_search.Choice.record`; empty where nothing was searched.
    """

    fold: Fold
    bundle: Bundle
    held_out: tuple[HeldOut, ...]
    search: Mapping[str, Any] = field(default_factory=dict)


def run_fold(
    cohort: Cohort,
    fold: Fold,
    config: RunConfig,
    *,
    gene_sets: Sequence[GeneSet] = (),
    nan_as_zero: bool = False,
    machine: Machine | None = None,
    clock: StageClock | None = None,
) -> FoldOutcome:
    """Fit model and baselines on the fold's training sections, then predict and score the others.

    Args:
        cohort: all sections of the run.
        fold: which are held out, and which are fitted on.
        config: panel, profile, model and seed.
        gene_sets: to score beside the genes.
        nan_as_zero: a PCC that does not exist counts as 0 in means.
        machine: device and threads.
        clock: gets the seconds of every stage.
    """
    clock = clock or StageClock()
    train = cohort.subset(fold.train)
    choice = searched(train, config, machine=machine, clock=clock)
    with clock.stage("fit"):
        bundle = fit_bundle(train, choice.config, machine=machine)
    with clock.stage("baselines"):
        bundle = with_baselines(bundle, train)
    with clock.stage("calibrate"):
        bundle = calibrated(bundle, train, machine=machine)
    bundle = with_gene_sets(bundle, gene_sets)
    held_out = evaluate_bundle(
        bundle,
        train,
        cohort.subset(fold.held_out),
        nan_as_zero=nan_as_zero,
        machine=machine,
        clock=clock,
    )
    return FoldOutcome(fold, bundle, held_out, choice.record)


def searched(
    train: Cohort,
    config: RunConfig,
    *,
    machine: Machine | None = None,
    clock: StageClock | None = None,
) -> Choice:
    """The configuration with the values that inner folds of the training sections choose, if any are searched."""
    if not config.search.grid:
        return Choice(config, {})
    with (clock or StageClock()).stage("search"):
        return choose(config, _inner_parts(train, config), machine=machine)


def calibrated(bundle: Bundle, train: Cohort, *, machine: Machine | None = None) -> Bundle:
    """The bundle with intervals and an out-of-distribution check, learnt on its training sections.

    Each training section is predicted by a model fitted on the others (by patient where there are
    two); with a single section, blocks of it are left out, with a gap. The panel stays the bundle's.
    """
    if not bundle.config.trust.calibrate:
        return bundle
    panel = GenePanel(bundle.genes)
    held = []
    for part, rest in _inner_parts(train, bundle.config):
        inner = fit_bundle(rest, bundle.config, machine=machine, genes=bundle.genes)
        fitted = np.any([panel.counts(item.section).measured for item in rest.items], axis=0)
        for item in part.items:
            prediction = predict_section(inner, item.without_expression(), machine=machine)
            counts = panel.counts(item.section)
            # Only the error counts: one table of all spots and genes is kept, not two.
            error = log1p_cpm(counts.counts)
            error -= prediction.log1p
            held.append(
                intervals.HeldOut(
                    np.broadcast_to(np.float32(0), error.shape),
                    error,
                    prediction.spread,
                    counts.measured & fitted,
                )
            )
    enough = sum(len(h.measured) for h in held) >= _MIN_TO_CALIBRATE
    colours = [item.colours for item in train.items]
    trust = Trust(
        intervals.calibrate(held) if enough else None,
        fit_ood(
            [item.features for item in train.items],
            [item.section.xy_um for item in train.items],
            [c for c in colours if c is not None] if all(c is not None for c in colours) else None,
            [item.section.patient_id for item in train.items],
        )
        if enough
        else None,
    )
    return replace(bundle, trust={**bundle.trust, **trust.tensors()})


def with_baselines(bundle: Bundle, train: Cohort, *, nearest_spots: int = 0) -> Bundle:
    """The bundle with ridge and train mean of its training sections, to be scored beside the model.

    Args:
        bundle: the model.
        train: its training sections.
        nearest_spots: so many training spots are kept with their counts, for the nearest patches.
    """
    panel = GenePanel(bundle.genes, bundle.training_totals)
    sections = [training_section(item, panel) for item in train.items]
    counts, measured = [s.counts for s in sections], [s.measured for s in sections]
    ridge = fit_ridge([s.features for s in sections], counts, measured)
    mean = fit_train_mean(counts, measured)
    arrays = {f"ridge.{f.name}": getattr(ridge, f.name) for f in fields(ridge)}
    if nearest_spots:
        nearest = fit_nearest([s.features for s in sections], counts, nearest_spots)
        arrays |= {f"{_NEAREST}{name}": array for name, array in nearest.tensors().items()}
    return replace(bundle, trust={**bundle.trust, **arrays, "train_mean.log1p": mean.log1p})


def evaluate_bundle(
    bundle: Bundle,
    train: Cohort | None,
    held_out: Cohort,
    *,
    nan_as_zero: bool = False,
    machine: Machine | None = None,
    clock: StageClock | None = None,
) -> tuple[HeldOut, ...]:
    """Predict and score sections that the bundle was not fitted on.

    Args:
        bundle: the model.
        train: its training sections, for the nearest patches; None: those that the bundle keeps.
        held_out: sections with expression.
        nan_as_zero: a PCC that does not exist counts as 0 in means.
        machine: device and threads.
        clock: gets the seconds of baselines, predict and score.
    """
    clock = clock or StageClock()
    panel = GenePanel(bundle.genes, bundle.training_totals)
    results = []
    for item in held_out.items:
        blind = item.without_expression()
        with clock.stage("predict"):
            prediction = predict_section(bundle, blind, machine=machine)
            extras = bundle_trust(bundle).extras(
                prediction, blind.features, blind.colours, bundle_grades(bundle)
            )
        with clock.stage("baselines"):
            rivals = _rivals(bundle, panel, train, blind)
        with clock.stage("score"):
            results.append(_judge(bundle, panel, item, prediction, extras, rivals, nan_as_zero))
    return tuple(results)


def _inner_parts(train: Cohort, config: RunConfig) -> list[tuple[Cohort, Cohort]]:
    ids = [item.section.section_id for item in train.items]
    patients = [item.section.patient_id for item in train.items]
    folds = inner_folds(ids, patients, max_folds=config.trust.inner_folds)
    if folds.by != "blocks":
        return [(train.subset(f.held_out), train.subset(f.train)) for f in folds]
    item = train.items[0]
    if item.section.n_spots < 2 * _MIN_TO_CALIBRATE:
        return []
    gap_um = 2 * item.section.geometry.spot_pitch_um
    return [
        (
            replace(train, items=(item.spots(block.held_out),)),
            replace(train, items=(item.spots(block.train),)),
        )
        for block in spatial_blocks(item.section.xy_um, _BLOCKS, gap_um)
    ]


def _rivals(
    bundle: Bundle, panel: GenePanel, train: Cohort | None, item: EncodedSection
) -> dict[str, Pair]:
    """(log1p, composition or None) of every baseline that was fitted on the training sections."""
    rivals: dict[str, Pair] = {}
    if "ridge.mean" in bundle.trust:
        names = (f.name for f in fields(RidgeBaseline))
        ridge = RidgeBaseline(**{name: bundle.trust[f"ridge.{name}"] for name in names})
        rivals["ridge"] = ridge.predict(item.features)
    if train is not None:
        sections = [training_section(t, panel) for t in train.items]
        nearest = fit_nearest([s.features for s in sections], [s.counts for s in sections])
        rivals["nearest_patches"] = nearest.predict(item.features)
    elif f"{_NEAREST}projected" in bundle.trust:
        kept = {
            k.removeprefix(_NEAREST): v for k, v in bundle.trust.items() if k.startswith(_NEAREST)
        }
        rivals["nearest_patches"] = NearestPatches.from_tensors(kept).predict(item.features)
    if "train_mean.log1p" in bundle.trust:
        mean = TrainMean(bundle.trust["train_mean.log1p"])
        rivals["train_mean"] = (mean.predict(item.section.n_spots), None)
    return rivals


def _judge(
    bundle: Bundle,
    panel: GenePanel,
    item: EncodedSection,
    prediction: Prediction,
    extras: Extras,
    rivals: Mapping[str, Pair],
    nan_as_zero: bool,
) -> HeldOut:
    counts = panel.counts(item.section)
    xy_um = item.section.xy_um
    totals = np.maximum(np.asarray(bundle.training_totals), 0.5)
    evidence = section_evidence(
        prediction, counts, xy_um, totals / totals.sum(), seed=bundle.config.seed
    )
    scores = _scores(prediction, rivals, counts, xy_um, panel.abundant(), nan_as_zero)
    trust = bundle_trust(bundle)
    covered = None
    if trust.intervals is not None:
        measured = log1p_cpm(counts.counts)
        held = intervals.HeldOut(prediction.log1p, measured, prediction.spread, counts.measured)
        covered = intervals.coverage(trust.intervals, [held])
    per_spot = {"model": mean_pcc_per_spot(prediction.log1p, counts)}
    if "train_mean" in rivals:
        per_spot["train_mean"] = mean_pcc_per_spot(rivals["train_mean"][0], counts)
    ceiling = summarise(
        evidence.ceiling_log1p,
        evidence.ceiling_composition,
        np.full(len(totals), np.nan),
        scores["model"].constant,
        counts.measured,
        panel.abundant(),
        nan_as_zero=nan_as_zero,
    )
    sets = bundle_sets(bundle)
    of_sets = None
    if sets is not None:
        of_sets = score_sets(
            sets[0],
            prediction.composition,
            counts,
            xy_um,
            totals / totals.sum(),
            seed=bundle.config.seed,
        )
    return HeldOut(
        item, counts, prediction, extras, scores, ceiling, evidence, covered, per_spot, of_sets
    )


def _scores(
    prediction: Prediction,
    rivals: Mapping[str, Pair],
    counts: PanelCounts,
    xy_um: npt.NDArray[np.float64],
    abundant: npt.NDArray[np.intp],
    nan_as_zero: bool,
) -> dict[str, SectionScores]:
    def score(log1p: Any, composition: Any, *, in_units: bool = True) -> SectionScores:
        return score_section(
            log1p,
            composition,
            counts.counts,
            counts.measured,
            abundant,
            nan_as_zero=nan_as_zero,
            in_units=in_units,
        )

    oracle, image = depth_only(counts.counts), predicted_depth_only(prediction.depth)
    around = measured_neighbours(counts.counts, xy_um)
    makers: dict[str, Callable[[], SectionScores]] = {
        "model": lambda: score(prediction.log1p, prediction.composition),
        "depth_only": lambda: score(oracle, oracle, in_units=False),
        "predicted_depth_only": lambda: score(image, image, in_units=False),
        "neighbours": lambda: score(*around),
    }
    for name, pair in rivals.items():
        makers[name] = lambda pair=pair: score(*pair)  # type: ignore[misc]
    return {name: makers[name]() for name in PREDICTORS if name in makers}
