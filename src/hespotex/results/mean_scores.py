"""Means of a run's scores and their intervals, from the sections' records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hespotex.evaluation import run_tables
from hespotex.evaluation.compare import half_width
from hespotex.evaluation.predictors import PREDICTORS
from hespotex.evaluation.scores import aggregate
from hespotex.storage.gene_sizes import GeneSizes
from hespotex.storage.metrics import ScoreSummary, SectionRecord, SizeScores, Units

_CEILING = "ceiling"
_DIGITS = 4  # of a gene's score in squares of one size
# What a score can be, where it is no correlation: no interval reaches beyond.
_BOUNDS = {"rmse_log1p": (0.0, np.inf), "n_constant_genes": (0.0, np.inf)}


def mean_scores(folds: Sequence[Sequence[SectionRecord]]) -> dict[str, ScoreSummary]:
    """Every predictor's scores, and the ceiling's: mean over sections, then over folds."""
    names = [n for n in PREDICTORS if all(n in s.scores for fold in folds for s in fold)]
    means = {name: aggregate([[s.scores[name] for s in fold] for fold in folds]) for name in names}
    return {**means, _CEILING: aggregate([[s.ceiling for s in fold] for fold in folds])}


def mean_sizes(folds: Sequence[Sequence[SectionRecord]]) -> list[SizeScores]:
    """Scores at every size of square, smallest first: mean over the sections that have them, then over folds."""
    by_size: dict[float, list[list[SizeScores]]] = {}
    for fold in folds:
        of_fold: dict[float, list[SizeScores]] = {}
        for section in fold:
            for scored in section.sizes:
                of_fold.setdefault(round(scored.size_um, 3), []).append(scored)
        for size, scored_here in of_fold.items():
            by_size.setdefault(size, []).append(scored_here)
    means = []
    for size, found in sorted(by_size.items()):
        every = [scored for fold in found for scored in fold]
        names = [n for n in PREDICTORS if all(n in scored.scores for scored in every)]
        means.append(
            SizeScores(
                size_um=size,
                n_squares=sum(scored.n_squares for scored in every),
                n_sections=len(every),
                n_fitted=sum(scored.n_fitted for scored in every),
                scores={
                    n: aggregate([[s.scores[n] for s in fold] for fold in found]) for n in names
                },
                ceiling=aggregate([[s.ceiling for s in fold] for fold in found]),
            )
        )
    return means


def gene_sizes(genes: pd.DataFrame) -> GeneSizes:
    """PCC of composition of every gene at each size of square, mean over the held-out sections.

    Args:
        genes: rows of genes.csv; those of sections that are no squares of bins have no such numbers.
    """
    mark = run_tables.of_size(run_tables.PCC_COMPOSITION, 0).split("0")
    sizes = sorted(
        float(name[len(mark[0]) : -len(mark[1])])
        for name in map(str, genes)
        if name.startswith(mark[0]) and name.endswith(mark[1])
    )
    tables = [
        genes.groupby(run_tables.GENE)[[run_tables.of_size(score, size) for size in sizes]].mean()
        for score in (run_tables.PCC_COMPOSITION, run_tables.CEILING_COMPOSITION)
    ]
    pcc, ceiling = (tuple(map(tuple, table.round(_DIGITS).to_numpy().tolist())) for table in tables)
    names = tables[0].index.astype(str)
    return GeneSizes(genes=tuple(names), sizes_um=tuple(sizes), pcc=pcc, ceiling=ceiling)


def mean_intervals(
    mean: Mapping[str, ScoreSummary], sections: Sequence[SectionRecord]
) -> dict[str, Any]:
    """95 % intervals of the means, over patients where there are two, else over sections; of few units their range.

    An interval lies around the mean over its units, `interval_centres`: another number than the mean over
    sections and folds where patients have unlike numbers of sections.

    Args:
        mean: of `mean_scores`.
        sections: records of all held-out sections.

    Returns:
        fields of `Metrics`: by predictor and score `intervals`, or with two or three units (`compare.FEWEST_UNITS`)
        `ranges` from the lowest to the highest, and `interval_centres`; and `intervals_over`.
    """
    owners = section_owners(sections)
    by_patient = all(owners.values()) and len(set(owners.values())) > 1
    unit = owners if by_patient else {s: s for s in owners}
    intervals: dict[str, dict[str, list[float]]] = {}
    ranges: dict[str, dict[str, list[float]]] = {}
    centres: dict[str, dict[str, float]] = {}
    for name in mean:
        rows = [s.ceiling if name == _CEILING else s.scores[name] for s in sections]
        for score in ScoreSummary.model_fields:
            values = pd.Series([getattr(row, score) for row in rows], index=list(owners)).dropna()
            units = values.groupby(values.index.map(unit)).mean().to_numpy()
            if len(units) < 2:
                continue
            centre, half = float(units.mean()), half_width(units)
            centres.setdefault(name, {})[score] = centre
            if np.isfinite(half):
                low, high = _BOUNDS.get(score, (-1.0, 1.0))
                ends = [max(centre - half, low), min(centre + half, high)]
                intervals.setdefault(name, {})[score] = ends
            else:
                ranges.setdefault(name, {})[score] = [float(units.min()), float(units.max())]
    over = Units(unit="patient" if by_patient else "section", n=len(set(unit.values())))
    return {
        "intervals": intervals,
        "ranges": ranges,
        "interval_centres": centres,
        "intervals_over": over,
    }


def section_owners(sections: Sequence[SectionRecord]) -> dict[str, str]:
    """Section -> patient."""
    return {s.section_id: s.patient_id for s in sections}
