"""Levels of slides over a run: where each fold's model sees the slides, and the scores over all held-out patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hespotex.evaluation.held_out import HeldOut
from hespotex.evaluation.level_ridge import LevelRidge, mean_feature
from hespotex.evaluation.level_scores import (
    FEWEST_PATIENTS,
    LevelFold,
    LevelScores,
    score_external,
    score_levels,
)
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle
from hespotex.models.default.level import SlideLevel, by_patient, log_shares, patient_names
from hespotex.models.preprocessing import feature_stats
from hespotex.models.types import Cohort, EncodedSection

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FoldLooks:
    """Where slides lie for the model of one fold.

    Attributes:
        looks: (K,) by section, training and held out; empty for a model without a level.
        depth: by held-out section, mean log of its predicted depth.
        tells: whether the model tells slides apart.
        new: held-out sections whose patient is not in the fold's training.
        slopes: (K,) by gene of the model's panel: what a step along a look means inside the training slides.
    """

    looks: Mapping[str, Float64]
    depth: Mapping[str, float]
    tells: bool
    new: frozenset[str]
    slopes: Mapping[str, Float64] = field(default_factory=dict)


def fold_looks(bundle: Bundle, held_out: Sequence[HeldOut], new: Sequence[str]) -> FoldLooks:
    """The looks of a fold's slides.

    Args:
        bundle: the model of the fold.
        held_out: what it held out.
        new: as of `FoldLooks`.
    """
    depth = {h.item.section.section_id: _log_depth(h) for h in held_out}
    level = SlideLevel.from_tensors(bundle.model.tensors)
    if level is None:
        return FoldLooks({}, depth, False, frozenset(new))
    looks = {
        s.section_id: np.asarray(look, np.float64)
        for s, look in zip(bundle.sections, level.looks, strict=True)
    }
    for held in held_out:
        stats = feature_stats(held.item.features)
        looks[held.item.section.section_id] = level.look(stats)
    of_genes = level.slopes[:, :-1].T.astype(np.float64)
    slopes = dict(zip(bundle.genes, of_genes, strict=True))
    return FoldLooks(looks, depth, level.tells, frozenset(new), slopes)


def cross_validated_levels(
    cohort: Cohort, folds: Sequence[FoldLooks], genes: Sequence[str], *, seed: int
) -> LevelScores | None:
    """Scores over the patients that some fold holds out as new ones; None for models without a level.

    Args:
        cohort: all sections with their counts.
        folds: of the run.
        genes: that were predicted in some fold.
        seed: of the null and the bootstrap.
    """
    if not folds or not all(fold.looks for fold in folds):
        return None
    ids, owners = _owners(cohort.items)
    values = _log_shares(cohort.items, genes)
    names, by_owner = by_patient(values, owners)
    place = {name: k for k, name in enumerate(names)}
    of_section = {i: place[o] for i, o in zip(ids, owners, strict=True)}
    found: list[LevelFold] = []
    for fold in folds:
        held = sorted({of_section[i] for i in fold.new})
        known = [i for i in ids if i in fold.looks]
        train = sorted({of_section[i] for i in known} - set(held))
        # A foreign model that stayed as it came knows no patient of the cohort.
        if not held or not train:
            continue
        seen, of_patients = by_patient(
            np.stack([fold.looks[i] for i in known]), [names[of_section[i]] for i in known]
        )
        looks = np.zeros((len(names), of_patients.shape[1]))
        looks[[place[n] for n in seen]] = of_patients
        slopes = _slopes_of(fold, genes, looks.shape[1])
        found.append(LevelFold(np.array(train), np.array(held), looks, slopes, fold.tells))
    scored = sorted({int(k) for fold in found for k in fold.held_out})
    if len(scored) < len(names):  # patients that were never held out as new ones
        return score_external(
            np.zeros((0, len(genes))), np.zeros((0, len(genes))), genes, {}, np.zeros(len(genes))
        )
    depth = {i: d for fold in folds for i, d in fold.depth.items()}
    beside = _baselines(cohort.items, depth)
    return score_levels(
        found, by_owner, genes, {n: by_patient(x, owners)[1] for n, x in beside.items()},
        seed=seed, n_permutations=None if len(names) >= FEWEST_PATIENTS else 0,
    )  # fmt: skip


def _slopes_of(fold: FoldLooks, genes: Sequence[str], k: int) -> Float64:
    """(K, G); a gene that the fold's panel lacks has none."""
    none = np.zeros(k)
    return np.stack([fold.slopes.get(gene, none) for gene in genes], axis=1)


def external_levels(
    bundle: Bundle, held_out: Sequence[HeldOut], new: Sequence[str]
) -> LevelScores | None:
    """Scores of a model on patients outside its training; None for a model without a level."""
    level = SlideLevel.from_tensors(bundle.model.tensors)
    if level is None:
        return None
    items = [h.item for h in held_out if h.item.section.section_id in set(new)]
    genes, n = bundle.genes, len(bundle.genes)
    log_pooled = np.log(bundle.pooled)
    if not items:
        return score_external(np.zeros((0, n)), np.zeros((0, n)), genes, {}, log_pooled)
    _, owners = _owners(items)
    shifts = np.stack([level(feature_stats(i.features))[0] for i in items])
    depth = {h.item.section.section_id: _log_depth(h) for h in held_out}
    beside = _baselines(items, depth)
    _, seen = by_patient(beside.pop("ridge"), owners)
    ridge = LevelRidge.from_tensors(bundle.trust)
    return score_external(
        by_patient(shifts.astype(np.float64), owners)[1],
        by_patient(_log_shares(items, genes), owners)[1],
        genes,
        {name: by_patient(x, owners)[1] for name, x in beside.items()},
        log_pooled,
        ridge=None if ridge is None else ridge.predict(seen),
        seed=bundle.config.seed,
    )


def _log_depth(held: HeldOut) -> float:
    return float(np.log1p(np.nan_to_num(held.prediction.depth, nan=0.0)).mean())


def _owners(items: Sequence[EncodedSection]) -> tuple[list[str], list[str]]:
    ids = [i.section.section_id for i in items]
    return ids, patient_names([i.section.patient_id for i in items], ids)


def _log_shares(items: Sequence[EncodedSection], genes: Sequence[str]) -> Float64:
    """(n, G) of each slide's counts; NaN where a gene was not measured."""
    panel, rows = GenePanel(tuple(genes)), []
    for item in items:
        counts = panel.counts(item.section)
        row = log_shares(np.asarray(counts.counts.sum(axis=0), np.float64).ravel())
        rows.append(np.where(counts.measured, row, np.nan))
    return np.stack(rows)


def _baselines(items: Sequence[EncodedSection], depth: Mapping[str, float]) -> dict[str, Float64]:
    """(n, F) what each baseline sees of a slide: square millimetres under spots, predicted depth, the mean raw feature."""
    area = [i.section.n_spots * i.section.geometry.spot_pitch_um**2 / 1e6 for i in items]
    return {
        "area": np.array(area)[:, None],
        "depth": np.array([depth[i.section.section_id] for i in items])[:, None],
        "ridge": np.stack([mean_feature(i.features) for i in items]),
    }
