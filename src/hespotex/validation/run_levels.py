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
from hespotex.evaluation.units import LEAST_SHARE, units_compare
from hespotex.genes.panel import GenePanel
from hespotex.genes.parts import measured_parts
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

    Slides that measured a part of the genes, in another unit, are neither scored nor fitted on.

    Args:
        cohort: all sections with their counts.
        folds: of the run.
        genes: that were predicted in some fold.
        seed: of the null and the bootstrap.
    """
    if not folds or not all(fold.looks for fold in folds):
        return None
    totals, measured = _totals(cohort.items, genes)
    items, values = _comparable(
        cohort.items, totals, measured, measured_parts(totals, measured) >= LEAST_SHARE
    )
    if not items:
        return _nobody(genes)
    ids, owners = _owners(items)
    names, by_owner = by_patient(values, owners)
    place = {name: k for k, name in enumerate(names)}
    of_section = {i: place[o] for i, o in zip(ids, owners, strict=True)}
    found: list[LevelFold] = []
    for fold in folds:
        held = sorted({of_section[i] for i in fold.new if i in of_section})
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
        return _nobody(genes)
    depth = {i: d for fold in folds for i, d in fold.depth.items()}
    beside = _baselines(items, depth)
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
    found = [h.item for h in held_out if h.item.section.section_id in set(new)]
    genes = bundle.genes
    if not found:
        return _nobody(genes)
    totals, measured = _totals(found, genes)
    whole = np.array([units_compare(bundle.pooled, m) for m in measured])
    items, values = _comparable(found, totals, measured, whole)
    if not items:
        return _nobody(genes)
    _, owners = _owners(items)
    shifts = np.stack([level(feature_stats(i.features))[0] for i in items])
    depth = {h.item.section.section_id: _log_depth(h) for h in held_out}
    beside = _baselines(items, depth)
    _, seen = by_patient(beside.pop("ridge"), owners)
    ridge = LevelRidge.from_tensors(bundle.trust)
    return score_external(
        by_patient(shifts.astype(np.float64), owners)[1],
        by_patient(values, owners)[1],
        genes,
        {name: by_patient(x, owners)[1] for name, x in beside.items()},
        np.log(bundle.pooled),
        ridge=None if ridge is None else ridge.predict(seen),
        seed=bundle.config.seed,
    )


def _log_depth(held: HeldOut) -> float:
    return float(np.log1p(np.nan_to_num(held.prediction.depth, nan=0.0)).mean())


def _owners(items: Sequence[EncodedSection]) -> tuple[list[str], list[str]]:
    ids = [i.section.section_id for i in items]
    return ids, patient_names([i.section.patient_id for i in items], ids)


def _nobody(genes: Sequence[str]) -> LevelScores:
    """Scores of no patient."""
    none = np.zeros((0, len(genes)))
    return score_external(none, none, genes, {}, np.zeros(len(genes)))


def _totals(
    items: Sequence[EncodedSection], genes: Sequence[str]
) -> tuple[Float64, npt.NDArray[np.bool_]]:
    """(n, G) counts of each slide, and which genes it measured."""
    panel = GenePanel(tuple(genes))
    found = [panel.counts(item.section) for item in items]
    totals = [np.asarray(c.counts.sum(axis=0), np.float64).ravel() for c in found]
    return np.stack(totals), np.stack([c.measured for c in found])


def _comparable(
    items: Sequence[EncodedSection],
    totals: Float64,
    measured: npt.NDArray[np.bool_],
    whole: npt.NDArray[np.bool_],
) -> tuple[list[EncodedSection], Float64]:
    """Slides that measured the whole, and their (n, G) log shares; NaN where a gene was not measured."""
    kept = [item for item, k in zip(items, whole, strict=True) if k]
    return kept, np.where(measured[whole], log_shares(totals[whole]), np.nan)


def _baselines(items: Sequence[EncodedSection], depth: Mapping[str, float]) -> dict[str, Float64]:
    """(n, F) what each baseline sees of a slide: square millimetres under spots, predicted depth, the mean raw feature."""
    area = [i.section.n_spots * i.section.geometry.spot_pitch_um**2 / 1e6 for i in items]
    return {
        "area": np.array(area)[:, None],
        "depth": np.array([depth[i.section.section_id] for i in items])[:, None],
        "ridge": np.stack([mean_feature(i.features) for i in items]),
    }
