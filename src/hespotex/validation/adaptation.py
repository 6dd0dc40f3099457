"""Whether own sections improve a model: the choice of a strength, and what it is worth on sections that no fit has seen.

The choice is made by folds inside a training part, so that it is a part of what the outer folds test. Blocks of a single
section are predicted with the picture of the whole section, and fitted on the spots outside them and their gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.config import Machine
from hespotex.evaluation.paired import SectionDifference, over_sections, section_difference
from hespotex.evaluation.scores import pcc_per_gene, rmse_per_gene
from hespotex.evaluation.units import units_compare
from hespotex.genes.panel import GenePanel, log1p_cpm, pearson_residuals
from hespotex.models.adapting import Adaptation
from hespotex.models.bundle import Bundle
from hespotex.models.default.adapt import Strength
from hespotex.models.default.level import patient_names
from hespotex.models.fit import device_name, fit_bundle
from hespotex.models.predict import predict_expression
from hespotex.models.types import Cohort, EncodedSection
from hespotex.sections.splits import inner_folds, spatial_blocks
from hespotex.storage.adaptation_record import (
    ADAPTED,
    CAME,
    OWN,
    ROWS,
    AdaptationRecord,
    AdaptedFold,
    AdaptedSection,
    DifferenceRecord,
    RowScores,
    SectionPair,
)

Float32 = npt.NDArray[np.float32]

PENALTIES: Final = (0.25, 1.0, 4.0, 16.0)
# Share of the error of log1p by which levels have to lower it.
LEAST_GAIN: Final = 0.01
_ABUNDANT = 200
_BLOCKS = 4
MOST_FOLDS: Final = 8
_INNER_FOLDS = 4
_FEWEST_SPOTS = 40
_GAP_PITCHES = 2.0


@dataclass(frozen=True)
class Part:
    """One fold over own sections.

    Attributes:
        rest: what may be fitted on.
        held: the sections that are predicted.
        rows: which of their spots, of each.
    """

    rest: Cohort
    held: tuple[EncodedSection, ...]
    rows: tuple[npt.NDArray[np.intp], ...]


@dataclass(frozen=True)
class Mapped:
    """Predictions of all spots of a section, each from a model that did not see its block; n spots, G genes.

    Attributes:
        composition: (n, G) less its mean over the section's spots, held out or not: each fold has levels of its own, and
            what a block itself would add to them is missing there.
        log1p: (n, G) as it is.
    """

    composition: Float32
    log1p: Float32


def parts_of(cohort: Cohort, most: int = MOST_FOLDS, n_blocks: int = _BLOCKS) -> list[Part]:
    """Patients left out in turn where there are two, else sections, else blocks of the one section with a gap.

    Empty where the one section has fewer than 40 spots.

    Args:
        most: folds over patients or sections.
        n_blocks: of the one section.
    """
    ids = [item.section.section_id for item in cohort.items]
    folds = inner_folds(ids, [item.section.patient_id for item in cohort.items], max_folds=most)
    if folds.by != "blocks":
        every = [(cohort.subset(f.train), cohort.subset(f.held_out).items) for f in folds]
        return [
            Part(rest, held, tuple(np.arange(i.section.n_spots) for i in held))
            for rest, held in every
        ]
    item = cohort.items[0]
    if item.section.n_spots < _FEWEST_SPOTS:
        return []
    gap_um = _GAP_PITCHES * item.section.geometry.spot_pitch_um
    blocks = spatial_blocks(item.section.xy_um, n_blocks, gap_um)
    return [
        Part(replace(cohort, items=(item.spots(b.train),)), (item,), (b.held_out,)) for b in blocks
    ]


def choose_strength(base: Bundle, train: Cohort, *, machine: Machine | None = None) -> Strength:
    """The strength that does best on left-out parts of the own sections; none where there are too few spots.

    The pattern goes by the mean PCC of composition, whose gain has to exceed its standard error over blocks; levels by the
    error of log1p, which has to fall by one in a hundred. Else the model stays as it came.
    """
    parts = parts_of(train, _INNER_FOLDS)
    if not parts:
        return Strength()
    tried = [Strength(), Strength(levels=True), *(Strength(p) for p in PENALTIES)]

    def models(rest: Cohort) -> list[Bundle]:
        adaptation = Adaptation.of(base, rest, base.genes)
        return [adaptation.bundle(strength) for strength in tried]

    pairs: list[list[SectionDifference]] = []
    rmse = []
    for item, maps in held_maps(parts, models, base, machine):
        truth = Truth.of(item, base)
        rmse.append([truth.rmse(m) for m in maps[:2]])
        pairs.append([_pair(base, item, truth, m, maps[0]) for m in maps[2:]])
    by_level = np.mean(rmse, axis=0)
    levels = bool(by_level[1] < (1 - LEAST_GAIN) * by_level[0])
    return Strength(best_penalty(pairs), levels)


def best_penalty(pairs: Sequence[Sequence[SectionDifference]]) -> float | None:
    """Of `PENALTIES` that of the largest mean gain, if this exceeds its standard error: the best of several has one in noise, too.

    A section too small for blocks has no error of its own: it takes the others' mean, and none where all are too small.

    Args:
        pairs: by section, gain of each penalty.
    """
    gain = np.mean([[d.value for d in of_section] for of_section in pairs], axis=0)
    spread = np.array([[d.deviation for d in of_section] for of_section in pairs])
    known = np.isfinite(spread)
    squared = np.where(known, spread**2, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    best = int(np.argmax(np.nan_to_num(gain, nan=-np.inf)))
    return PENALTIES[best] if gain[best] > np.sqrt(squared[best] / len(pairs)) else None


def held_maps(
    parts: Sequence[Part],
    models: Callable[[Cohort], Sequence[Bundle]],
    base: Bundle,
    machine: Machine | None = None,
) -> Iterator[tuple[EncodedSection, tuple[Mapped, ...]]]:
    """Sections, each once, with the maps of several models over the genes of `base`, as soon as all their spots are predicted.

    Args:
        models: from what may be fitted on to models, always as many, whose first genes are those of `base`.
    """
    waiting: dict[str, tuple[tuple[Mapped, ...], npt.NDArray[np.bool_]]] = {}
    for part in parts:
        fitted = models(part.rest)
        for item, rows in zip(part.held, part.rows, strict=True):
            name, n = item.section.section_id, item.section.n_spots
            if name not in waiting:
                empty = [np.empty((2, n, len(base.genes)), np.float32) for _ in fitted]
                waiting[name] = (tuple(Mapped(*e) for e in empty), np.zeros(n, np.bool_))
            maps, done = waiting[name]
            for mapped, bundle in zip(maps, fitted, strict=True):
                said = _said(bundle, item, base, machine)
                mapped.composition[rows], mapped.log1p[rows] = said[0][rows], said[1][rows]
            done[rows] = True
            if done.all():
                yield item, waiting.pop(name)[0]


def _said(
    bundle: Bundle, item: EncodedSection, base: Bundle, machine: Machine | None
) -> tuple[Float32, Float32]:
    """Centred composition and log1p over the genes of `base`; counts of the section are not looked at."""
    blind = item.without_expression()
    found = predict_expression(
        bundle.model, blind.features, blind.section.xy_um, blind.nuclei,
        spread=False, device=device_name(machine),
    )  # fmt: skip
    n = len(base.genes)
    composition = found.composition[:, :n]
    return composition - composition.mean(axis=0), found.log1p[:, :n]


@dataclass(frozen=True)
class Truth:
    """What a section's predictions are scored against, over the genes of the model as it came.

    Attributes:
        residuals: (n, G) Pearson residuals of the counts.
        log1p: (n, G) log1p(CPM).
        measured: (G,).
        in_units: whether an error of log1p means anything.
    """

    residuals: Float32
    log1p: Float32
    measured: npt.NDArray[np.bool_]
    in_units: bool

    @classmethod
    def of(cls, item: EncodedSection, base: Bundle) -> Truth:
        """From the section's counts."""
        counts = GenePanel(base.genes).counts(item.section)
        return cls(
            pearson_residuals(counts.counts),
            log1p_cpm(counts.counts),
            counts.measured,
            units_compare(base.pooled, counts.measured),
        )

    def pcc(self, mapped: Mapped) -> npt.NDArray[np.float64]:
        """(G,) of composition; NaN where it does not exist."""
        return np.where(self.measured, pcc_per_gene(mapped.composition, self.residuals), np.nan)

    def rmse(self, mapped: Mapped) -> float:
        """Of log1p over all measured genes; NaN in other units."""
        if not self.in_units:
            return float("nan")
        squared = np.square(rmse_per_gene(mapped.log1p, self.log1p)[self.measured])
        return float(np.sqrt(squared.mean()))


def held_out_round(
    base: Bundle, parts: Sequence[Part], machine: Machine | None = None
) -> AdaptedFold:
    """The three rows on what these parts hold out: as it came, adapted as the rest of each chooses, own sections alone."""
    strengths: list[tuple[float | None, bool]] = []

    def models(rest: Cohort) -> list[Bundle]:
        strength = choose_strength(base, rest, machine=machine)
        strengths.append((strength.penalty, strength.levels))
        adapted = Adaptation.of(base, rest).bundle(strength) if not strength.none else base
        own = fit_bundle(rest, base.config, machine=machine, genes=base.genes)
        return [base, adapted, own]

    return AdaptedFold(
        sections=[
            _section_rows(base, item, dict(zip((CAME, ADAPTED, OWN), maps, strict=True)))
            for item, maps in held_maps(parts, models, base, machine)
        ],
        strengths=strengths,
    )


def _section_rows(base: Bundle, item: EncodedSection, maps: Mapping[str, Mapped]) -> AdaptedSection:
    truth, abundant = Truth.of(item, base), _abundant(base)
    scores = {}
    for name, mapped in maps.items():
        pcc = truth.pcc(mapped)
        scores[name] = RowScores(
            pcc_composition_mean=_mean(pcc),
            pcc_composition_abundant200=_mean(pcc[abundant]),
            rmse_log1p=truth.rmse(mapped),
        )
    pairs = {
        name: SectionPair(**vars(_pair(base, item, truth, maps[ADAPTED], maps[name])))
        for name in (CAME, OWN)
    }
    return AdaptedSection(
        section_id=item.section.section_id,
        patient_id=item.section.patient_id,
        scores=scores,
        differences=pairs,
    )


def _pair(
    base: Bundle, item: EncodedSection, truth: Truth, first: Mapped, second: Mapped
) -> SectionDifference:
    """First less second on one section."""
    measured = truth.measured
    return section_difference(
        first.composition[:, measured],
        second.composition[:, measured],
        truth.residuals[:, measured],
        item.section.xy_um,
        seed=base.config.seed,
    )


def summary(
    base: Bundle,
    rounds: Sequence[AdaptedFold],
    chosen: Strength,
    *,
    held_out: str,
    note: str,
    new: int,
) -> AdaptationRecord:
    """What all rounds say together, and whether adapting pays."""
    sections = [s for found in rounds for s in found.sections]
    strengths = [Strength(p, lv) for found in rounds for p, lv in found.strengths]
    owners = patient_names([s.patient_id for s in sections], [s.section_id for s in sections])
    rows = {name: _row([s.scores[name] for s in sections], owners) for name in ROWS}
    differences = {}
    for name in (CAME, OWN):
        pairs = [SectionDifference(**s.differences[name].model_dump()) for s in sections]
        differences[name] = DifferenceRecord(**vars(over_sections(pairs, owners)))
    lower_error = rows[ADAPTED].rmse_log1p < (1 - LEAST_GAIN) * rows[CAME].rmse_log1p
    gain, worse = differences[CAME].lower > 0, differences[CAME].upper < 0
    pays = (gain or lower_error) and not worse and not chosen.none
    return AdaptationRecord(
        model=base.model_id,
        held_out=held_out,
        note=note,
        rows=rows,
        differences=differences,
        chosen=chosen.text(),
        folds_kept=sum(s.none for s in strengths),
        folds=len(strengths),
        new_genes=new,
        pays=pays,
        sentence=_sentence(rows, differences, pays, chosen),
        sections=sections,
    )


def _sentence(
    rows: Mapping[str, RowScores],
    differences: Mapping[str, DifferenceRecord],
    pays: bool,
    chosen: Strength,
) -> str:
    found = ", ".join(f"{rows[n].pcc_composition_mean:.4f} {words}" for n, words in ROWS.items())
    errors = ", ".join(f"{rows[n].rmse_log1p:.3f} {words}" for n, words in ROWS.items())
    parts = [f"adapting {'pays' if pays else 'does not pay'}: composition PCC {found}"]
    if np.isfinite(rows[CAME].rmse_log1p):
        parts.append(f"error of log1p {errors}")
    against = differences[CAME]
    if against.units:
        parts.append(
            f"adapted less as it came {against.value:+.4f} [{against.lower:+.4f}, {against.upper:+.4f}], 95 % over "
            f"{against.units}"
        )
    if differences[OWN].units and differences[OWN].upper < 0:
        parts.append("own sections alone are better: `hespotex train` with them")
    parts.append(f"chosen on all own sections: {chosen.text()}")
    return "; ".join(parts)


def _row(scores: Sequence[RowScores], owners: Sequence[str]) -> RowScores:
    """Means over the sections of a patient, then over patients."""
    of = np.array(owners)

    def mean(field: str) -> float:
        values = np.array([getattr(s, field) for s in scores])
        return _mean(np.array([_mean(values[of == name]) for name in dict.fromkeys(owners)]))

    return RowScores(**{field: mean(field) for field in RowScores.model_fields})


def _abundant(base: Bundle) -> npt.NDArray[np.intp]:
    order = np.argsort(-np.asarray(base.training_totals), kind="stable")
    return order[:_ABUNDANT]


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
