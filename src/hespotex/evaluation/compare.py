"""Owns the paired comparison of two runs, per gene and section, with a verdict in words; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from hespotex.errors import RunError

SCORES = ("pcc_log1p", "pcc_composition")
_KEYS = ["section_id", "gene"]


@dataclass(frozen=True)
class RunScores:
    """What a comparison needs to know of one run.

    Attributes:
        name: how the run is called in words.
        genes: rows of genes.csv: `section_id`, `gene` and the scores.
        held_out: for every held-out section the section ids that its model was fitted on.
        n_spots: spots of every held-out section.
    """

    name: str
    genes: pd.DataFrame
    held_out: Mapping[str, frozenset[str]]
    n_spots: Mapping[str, int]


@dataclass(frozen=True)
class ScoreDifference:
    """Second run minus first, for one score.

    Attributes:
        score: column of genes.csv.
        first: mean of the first run over sections.
        second: mean of the second run.
        difference: mean difference over units.
        lower: end of the 95 % interval over units; NaN with a single unit.
        upper: likewise.
        unit: what the interval is over: `patient` or `section`.
        n_units: how many of them.
        better_genes: share of genes whose mean over sections is higher in the second run.
        verdict: in words.
    """

    score: str
    first: float
    second: float
    difference: float
    lower: float
    upper: float
    unit: str
    n_units: int
    better_genes: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Two runs beside one another.

    Attributes:
        differences: one for each score that both have.
        restricted: what the comparison was restricted to, a sentence each; empty if to nothing.
        per_gene: section_id, gene, and for each score its two values and their difference.
    """

    differences: tuple[ScoreDifference, ...]
    restricted: tuple[str, ...]
    per_gene: pd.DataFrame


def compare_runs(
    first: RunScores, second: RunScores, patients: Mapping[str, str] | None = None
) -> Comparison:
    """Compare two runs on the sections and genes that both scored.

    Args:
        first: one run.
        second: the other.
        patients: patient of every section; the interval is then over patients where there are two.

    Raises:
        RunError: no common section or gene, other spots, or other training sections in a common section's
            fold, so that scores do not compare.
    """
    sections = [s for s in first.held_out if s in second.held_out]
    if not sections:
        raise RunError(
            f"expected runs with common held-out sections, found {', '.join(first.held_out)} in {first.name} and "
            f"{', '.join(second.held_out)} in {second.name}"
        )
    _check_same_folds(first, second, sections)
    restricted = _restrictions(first, second, sections)
    joined = first.genes.merge(second.genes, on=_KEYS, suffixes=("_first", "_second"))
    joined = joined[joined["section_id"].isin(sections)]
    if joined.empty:
        raise RunError(f"expected common genes in {first.name} and {second.name}, found none")
    unit = {s: (patients or {}).get(s, "") for s in sections}
    by_patient = all(unit.values()) and len(set(unit.values())) > 1
    if not by_patient:
        unit = {s: s for s in sections}
    differences, columns = [], list(_KEYS)
    for score in SCORES:
        names = [f"{score}_first", f"{score}_second"]
        if not set(names) <= set(joined.columns):
            continue
        # A gene counts only where both runs have a score: otherwise their means are over other genes.
        joined[f"{score}_difference"] = joined[names[1]] - joined[names[0]]
        columns += [*names, f"{score}_difference"]
        differences.append(
            _difference(
                joined, score, unit, "patient" if by_patient else "section", first.name, second.name
            )
        )
    if not differences:
        raise RunError(f"expected one of the scores {', '.join(SCORES)} in both runs, found none")
    return Comparison(tuple(differences), restricted, joined[columns].reset_index(drop=True))


def _difference(
    joined: pd.DataFrame,
    score: str,
    unit: Mapping[str, str],
    unit_name: str,
    first: str,
    second: str,
) -> ScoreDifference:
    rows = joined.dropna(subset=[f"{score}_difference"])
    columns = [f"{score}_first", f"{score}_second", f"{score}_difference"]
    per_section = rows.groupby("section_id", sort=True)[columns].mean()
    per_unit = per_section.groupby(per_section.index.map(unit)).mean()[columns[2]].to_numpy()
    per_gene = rows.groupby("gene")[columns[2]].mean()
    n = len(per_unit)
    mean = float(per_unit.mean()) if n else float("nan")
    half = float("nan")
    if n > 1:
        half = float(stdtrit(n - 1, 0.975) * per_unit.std(ddof=1) / np.sqrt(n))
    if n == 0:
        verdict = "no gene has this score in both runs"
    elif n == 1:
        verdict = f"{mean:+.3f} on a single {unit_name}: not enough to tell"
    elif mean - half > 0:
        verdict = f"{second} is better by {mean:.3f} [{mean - half:.3f}, {mean + half:.3f}] over {n} {unit_name}s"
    elif mean + half < 0:
        verdict = f"{first} is better by {-mean:.3f} [{-mean - half:.3f}, {-mean + half:.3f}] over {n} {unit_name}s"
    else:
        verdict = f"no difference can be told: {mean:+.3f} [{mean - half:.3f}, {mean + half:.3f}] over {n} {unit_name}s"
    return ScoreDifference(
        score,
        float(per_section[columns[0]].mean()),
        float(per_section[columns[1]].mean()),
        mean,
        mean - half,
        mean + half,
        unit_name,
        n,
        float((per_gene > 0).mean()) if len(per_gene) else float("nan"),
        verdict,
    )


def _check_same_folds(first: RunScores, second: RunScores, sections: list[str]) -> None:
    for section in sections:
        if first.n_spots[section] != second.n_spots[section]:
            raise RunError(
                f"expected the same spots of section {section} in both runs, found {first.n_spots[section]} in "
                f"{first.name} and {second.n_spots[section]} in {second.name}; run both on the same files"
            )
        if first.held_out[section] != second.held_out[section]:
            only_first = sorted(first.held_out[section] - second.held_out[section])
            only_second = sorted(second.held_out[section] - first.held_out[section])
            raise RunError(
                f"expected the same training sections for {section} in both runs, found {', '.join(only_first) or '-'} "
                f"only in {first.name} and {', '.join(only_second) or '-'} only in {second.name}; use the same --folds"
            )


def _restrictions(first: RunScores, second: RunScores, sections: list[str]) -> tuple[str, ...]:
    sentences = []
    left_out = [s for s in (*first.held_out, *second.held_out) if s not in sections]
    if left_out:
        sentences.append(
            f"restricted to {len(sections)} common sections; left out: {', '.join(dict.fromkeys(left_out))}"
        )
    genes = [
        set(r.genes.loc[r.genes["section_id"].isin(sections), "gene"]) for r in (first, second)
    ]
    if genes[0] != genes[1]:
        sentences.append(
            f"restricted to {len(genes[0] & genes[1])} common genes; {len(genes[0] - genes[1])} are only in "
            f"{first.name}, {len(genes[1] - genes[0])} only in {second.name}"
        )
    return tuple(sentences)
