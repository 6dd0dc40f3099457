"""The run of one fold: the only place that fits on a part and scores on the rest.

A fit gets the training sections alone; intervals and the out-of-distribution check are calibrated by
leaving out training sections in turn. A held-out section enters twice: without its expression when
it is predicted, and with it when the prediction is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.config import Machine, RunConfig
from hespotex.encoders.cache import spill_of
from hespotex.evaluation import intervals
from hespotex.evaluation.held_out import HeldOut, evaluate_bundle
from hespotex.evaluation.level_ridge import fit_level_ridge
from hespotex.evaluation.out_of_distribution import fit_ood
from hespotex.evaluation.predictors import fitted
from hespotex.evaluation.region_intervals import calibrate_regions, region_errors
from hespotex.evaluation.regions import held_out_regions
from hespotex.evaluation.set_scores import with_gene_sets
from hespotex.evaluation.set_trust import learnt_of_sets, tensors_of_sets
from hespotex.evaluation.trust import Trust
from hespotex.evaluation.units import units_compare
from hespotex.genes.gene_sets import GeneSet, PanelSets
from hespotex.genes.panel import GenePanel, PanelCounts, log1p_cpm
from hespotex.models.bundle import Bundle
from hespotex.models.fit import FEWEST_SPOTS, fit_bundle, training_sections
from hespotex.models.predict import predict_section
from hespotex.models.types import Cohort, Prediction
from hespotex.progress import Advance
from hespotex.sections.splits import Fold, inner_folds, spatial_blocks
from hespotex.storage.clock import StageClock
from hespotex.storage.metrics import Search
from hespotex.validation.nested_search import Choice, choose

_BLOCKS = 4
# A model of fewer sections errs more than the final one: that shows in the coverage of few, and costs fits with many.
_LEFT_OUT_SINGLY, _GROUPS = 5, 3
_MIN_TO_CALIBRATE = 20
# Of all training sections together, so that the table of the largest panel stays small.
_QUARTILE_SPOTS = 4096


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
    search: Search = field(default_factory=Search)


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
        nan_as_zero: a PCC that does not exist counts as 0 in means.
        clock: gets the seconds of every stage.
    """
    clock = clock or StageClock()
    train = cohort.subset(fold.train)
    choice = searched(train, config, machine=machine, clock=clock)
    with clock.stage("fit"):
        bundle = fit_bundle(train, choice.config, machine=machine)
    with clock.stage("baselines"):
        bundle = with_baselines(with_gene_sets(bundle, gene_sets), train, machine=machine)
    with clock.stage("calibrate"):
        bundle = calibrated(bundle, train, machine=machine)
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
        return Choice(config, Search())
    with (clock or StageClock()).stage("search"):
        return choose(config, inner_parts(train, config), machine=machine)


def fit_for_use(
    train: Cohort,
    config: RunConfig,
    *,
    validation: Mapping[str, Any],
    gene_sets: Sequence[GeneSet] = (),
    machine: Machine | None = None,
    advance: Advance | None = None,
) -> Bundle:
    """A model of all these sections, to be kept: searched values, fit, baselines, intervals.

    Args:
        gene_sets: that the model scores in every prediction.
        validation: scores and grades from cross-validation; what a search chose is added.
        advance: called after the fit and after the calibration.
    """
    choice = searched(train, config, machine=machine)
    bundle = with_baselines(
        replace(fit_bundle(train, choice.config, machine=machine), gene_sets=tuple(gene_sets)),
        train,
        nearest_spots=config.trust.nearest_spots,
        machine=machine,
    )
    if advance is not None:
        advance(1)
    record = {"search": choice.record.plain()} if choice.record.chosen else {}
    bundle = replace(
        calibrated(bundle, train, machine=machine), validation={**validation, **record}
    )
    if advance is not None:
        advance(1)
    return bundle


def calibrated(
    bundle: Bundle,
    train: Cohort,
    *,
    machine: Machine | None = None,
    refit: Callable[[Cohort], Bundle] | None = None,
) -> Bundle:
    """The bundle with intervals and an out-of-distribution check, learnt on its training sections.

    Each training section is predicted by a model fitted on the others (by patient where there are
    two); with a single section, blocks of it are left out, with a gap. The panel stays the bundle's. Intervals of
    log1p rest on the sections whose units compare with the prediction's (`units_compare`), those of composition on all.

    Args:
        refit: the model of a part of these sections, over the same genes; None fits it on them alone.
    """
    if not bundle.config.trust.calibrate:
        return bundle
    panel, sets = GenePanel(bundle.genes), PanelSets.of(bundle.gene_sets, bundle.genes)
    by_patient = _by_patient(train)
    held, regions, set_regions, n_spots = [], [], [], 0
    of_spots = max(1, _QUARTILE_SPOTS // len(train.items))
    compositions, spill = [], spill_of(machine)
    for part, rest in inner_parts(train, bundle.config):
        share = intervals.offset_share(*_n_units(rest, train))
        inner = (
            fit_bundle(rest, bundle.config, machine=machine, genes=bundle.genes)
            if refit is None
            else refit(rest)
        )
        fitted = np.any([panel.counts(item.section).measured for item in rest.items], axis=0)
        for item, owner in zip(part.items, _owners(part), strict=True):
            prediction = predict_section(inner, item.without_expression(), machine=machine)
            counts = panel.counts(item.section)
            n_spots += counts.counts.shape[0]
            step = max(1, counts.counts.shape[0] // of_spots)
            compositions.append(
                prediction.composition[::step]
                + np.log(np.maximum(inner.pooled, 1e-30) / np.maximum(bundle.pooled, 1e-30))
            )
            unit = owner if by_patient else ""
            of_item = held_out_regions(
                prediction, inner.pooled, counts, item.section.xy_um, fitted=fitted, unit=unit
            )
            regions.append(region_errors(of_item.with_offsets(share), seed=bundle.config.seed))
            if len(sets):
                of_item = of_item.of_sets(sets).with_offsets(share)
                set_regions.append(region_errors(of_item, seed=bundle.config.seed))
            if not units_compare(inner.pooled, counts.measured):
                continue
            errors = _errors(counts, prediction, counts.measured & fitted, share)
            spread = None if errors.spread is None else spill.array(errors.spread)
            kept = replace(errors, measured=spill.array(errors.measured), spread=spread, unit=unit)
            held.append(kept)
    in_units = sum(len(h.measured) for h in held)
    of_log1p = intervals.calibrate(held) if in_units >= _MIN_TO_CALIBRATE else None
    held.clear()  # the largest tables: gone before the next are made
    looks = [item.appearance for item in train.items if item.appearance is not None]
    trust = Trust(
        of_log1p,
        fit_ood(
            [item.features for item in train.items],
            [item.section.xy_um for item in train.items],
            looks if len(looks) == len(train.items) else None,
            [item.section.patient_id for item in train.items],
        )
        if n_spots >= _MIN_TO_CALIBRATE
        else None,
        calibrate_regions(regions, seed=bundle.config.seed),
        upper_quartile=_upper_quartile(compositions),
    )
    scores = [sets.scores(c, bundle.pooled) for c in compositions if len(sets)]
    of_sets = learnt_of_sets(scores, set_regions, seed=bundle.config.seed)
    return replace(bundle, trust={**bundle.trust, **trust.tensors(), **tensors_of_sets(of_sets)})


def _upper_quartile(
    compositions: Sequence[npt.NDArray[Any]],
) -> npt.NDArray[np.float32] | None:
    """(G,) over spots that were left out; None without such."""
    if not compositions:
        return None
    found = np.quantile(np.concatenate(compositions), 0.75, axis=0)
    return np.asarray(found, dtype=np.float32)


def with_baselines(
    bundle: Bundle, train: Cohort, *, nearest_spots: int = 0, machine: Machine | None = None
) -> Bundle:
    """The bundle with what the baselines keep of its training sections, to be scored beside the model.

    Args:
        nearest_spots: so many training spots are kept with their counts, for the nearest patches.
    """
    panel = GenePanel(bundle.genes, bundle.training_totals)
    sections = training_sections(train, panel, machine)
    kept = fitted(sections, nearest_spots)
    if bundle.model.profile == "default":
        kept |= fit_level_ridge(sections)
    return replace(bundle, trust={**bundle.trust, **kept})


def _n_units(*cohorts: Cohort) -> list[int]:
    """How many units inner folds leave out in each cohort: patients or sections, whichever the last cohort has."""
    by_patient = _by_patient(cohorts[-1])
    return [len(set(_owners(c))) if by_patient else len(c.items) for c in cohorts]


def _by_patient(cohort: Cohort) -> bool:
    """Whether inner folds leave out patients; with one patient, or unknown ones, they leave out sections."""
    owners = _owners(cohort)
    return len(set(owners)) > 1 and all(owners)


def _owners(cohort: Cohort) -> list[str]:
    return [item.section.patient_id.strip() for item in cohort.items]


def _errors(
    counts: PanelCounts, prediction: Prediction, genes: npt.NDArray[np.bool_], offset_share: float
) -> intervals.HeldOutErrors:
    """What intervals need of a section: errors and spread, no two tables more, in half precision (0.05 %).

    Of the gene's mean error over the section only a share is kept, see `offset_share`.
    """
    error = log1p_cpm(counts.counts)
    error -= prediction.log1p
    error -= (1 - offset_share) * error.mean(axis=0)
    spread = None if prediction.spread is None else prediction.spread.astype(np.float16)
    return intervals.HeldOutErrors(
        np.broadcast_to(np.float32(0), error.shape), error.astype(np.float16), spread, genes
    )


def inner_parts(train: Cohort, config: RunConfig) -> list[tuple[Cohort, Cohort]]:
    """What is left out of the training sections in turn, and the rest that a fit of it may see.

    Patients where there are two, else sections, else blocks of the one section; none of fewer than 40 spots.
    """
    ids = [item.section.section_id for item in train.items]
    patients = [item.section.patient_id for item in train.items]
    n_units = _n_units(train)[0]
    usual = max(n_units, 2) if n_units <= _LEFT_OUT_SINGLY else _GROUPS
    folds = inner_folds(ids, patients, max_folds=config.trust.inner_folds or usual)
    if folds.by != "blocks":
        parts = [(train.subset(f.held_out), train.subset(f.train)) for f in folds]
        return [
            (left_out, rest)
            for left_out, rest in parts
            if sum(item.section.n_spots for item in rest.items) >= FEWEST_SPOTS
        ]
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
