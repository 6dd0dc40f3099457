"""The paired comparison of two runs, per gene and section, with a verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from hespotex.errors import RunError, counted
from hespotex.evaluation import run_tables
from hespotex.keys import SECTION_ID

SCORES = (
    run_tables.PCC_COMPOSITION,
    run_tables.PCC_PARTIAL,
    run_tables.PCC_LOG1P,
    run_tables.RMSE_LOG1P,
)
_LESS_IS_BETTER = frozenset({run_tables.RMSE_LOG1P})
_UNITLESS = tuple(score for score in SCORES if score != run_tables.RMSE_LOG1P)
# A t interval of two values is 18 times as wide as their standard error and says nothing. One of three values rests on
# normality that nobody can check. So few values are shown themselves.
FEWEST_UNITS = 4
_KEYS = [SECTION_ID, run_tables.GENE]


@dataclass(frozen=True)
class RunScores:
    """What a comparison needs to know of one run.

    Attributes:
        genes: rows of genes.csv: `section_id`, `gene` and the scores.
        held_out: for every held-out section the section ids that its model was fitted on.
        n_spots: spots of every held-out section.
        keys: content key of positions and counts of every held-out section; empty where a run has none.
    """

    name: str
    genes: pd.DataFrame
    held_out: Mapping[str, frozenset[str]]
    n_spots: Mapping[str, int]
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Interval:
    """95 % interval of a mean over units that are taken as independent, and the range of the units.

    Attributes:
        lower, upper: ends of the interval; NaN with fewer than `FEWEST_UNITS`.
        lowest, highest: values of a unit; NaN without one.
        unit: `patient` or `section`.
    """

    lower: float
    upper: float
    lowest: float
    highest: float
    unit: str
    n: int

    def text(self) -> str:
        """The interval in words; where units are few, their range."""
        units = counted(self.n, self.unit)
        if self.n < 2:
            return f"none over {units}"
        if self.n < FEWEST_UNITS:
            return f"none; {self.lowest:+.4f} to {self.highest:+.4f} in {units}"
        return f"{self.lower:+.4f} to {self.upper:+.4f} over {units}"


@dataclass(frozen=True)
class ScoreDifference:
    """Second run minus first, for one score.

    Attributes:
        score: column of genes.csv.
        first, second: means of the two runs over genes, then sections.
        difference: mean difference over patients where there are two, else over sections.
        over_sections: its interval with sections as units: what it is on these patients.
        over_patients: with patients as units: what to expect of other patients; None with one patient.
        better_genes: share of genes that are better in the second run, on the mean over sections.
        depth: what measured depth alone reaches on the same genes and sections; NaN where no run says.
        verdict: in words, by patients where there are two.
    """

    score: str
    first: float
    second: float
    difference: float
    over_sections: Interval
    over_patients: Interval | None
    better_genes: float
    depth: float
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
        patients: patient of every section; the interval is then over patients where there are two.

    Raises:
        RunError: no common section or gene, other spots, or other training sections in a common section's
            fold, so that scores do not compare.
    """
    sections = [s for s in first.held_out if s in second.held_out]
    if not sections:
        raise RunError(
            expected="runs with common held-out sections",
            found=(
                f"{', '.join(first.held_out)} in {first.name} and {', '.join(second.held_out)} in "
                f"{second.name}"
            ),
        )
    _check_same_folds(first, second, sections)
    restricted = _restrictions(first, second, sections)
    joined = first.genes.merge(second.genes, on=_KEYS, suffixes=("_first", "_second"))
    joined = joined[joined[SECTION_ID].isin(sections)]
    if joined.empty:
        raise RunError(expected=f"common genes in {first.name} and {second.name}", found="none")
    owners = {s: (patients or {}).get(s, "") for s in sections}
    by_patient = all(owners.values()) and len(set(owners.values())) > 1
    differences, columns = [], list(_KEYS)
    for score in SCORES if _genes(first, sections) == _genes(second, sections) else _UNITLESS:
        names = [f"{score}_first", f"{score}_second"]
        if not set(names) <= set(joined.columns):
            continue
        # A gene counts only where both runs have a score: otherwise their means are over other genes.
        joined[f"{score}_difference"] = joined[names[1]] - joined[names[0]]
        columns += [*names, f"{score}_difference"]
        names_of_runs = (first.name, second.name)
        differences.append(_difference(joined, score, owners if by_patient else {}, names_of_runs))
    if not differences:
        raise RunError(expected=f"one of the scores {', '.join(SCORES)} in both runs", found="none")
    return Comparison(tuple(differences), restricted, joined[columns].reset_index(drop=True))


def half_width(values: npt.NDArray[np.float64]) -> float:
    """Half of the 95 % t interval of a mean over independent units; NaN with fewer than `FEWEST_UNITS`."""
    n = len(values)
    if n < FEWEST_UNITS:
        return float("nan")
    return float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n))


def _interval(values: npt.NDArray[np.float64], unit: str) -> Interval:
    if not len(values):
        return Interval(np.nan, np.nan, np.nan, np.nan, unit, 0)
    mean, half = float(values.mean()), half_width(values)
    return Interval(
        mean - half, mean + half, float(values.min()), float(values.max()), unit, len(values)
    )


def _difference(
    joined: pd.DataFrame, score: str, owners: Mapping[str, str], names: tuple[str, str]
) -> ScoreDifference:
    rows = joined.dropna(subset=[f"{score}_difference"])
    columns = [f"{score}_first", f"{score}_second", f"{score}_difference"]
    per_section = rows.groupby(SECTION_ID, sort=True)[columns[:2]].agg(_over_genes(score))
    per_section[columns[2]] = per_section[columns[1]] - per_section[columns[0]]
    values = per_section[columns[2]].to_numpy()
    over_sections, over_patients = _interval(values, "section"), None
    if owners:
        values = per_section.groupby(per_section.index.map(owners)).mean()[columns[2]].to_numpy()
        over_patients = _interval(values, "patient")
    sign = -1.0 if score in _LESS_IS_BETTER else 1.0
    per_gene = sign * rows.groupby(run_tables.GENE)[columns[2]].mean()
    return ScoreDifference(
        score,
        float(per_section[columns[0]].mean()),
        float(per_section[columns[1]].mean()),
        float(values.mean()) if len(values) else float("nan"),
        over_sections,
        over_patients,
        float((per_gene > 0).mean()) if len(per_gene) else float("nan"),
        _depth(rows, score),
        _verdict(values, over_patients or over_sections, sign, names)
        + _few(per_gene, over_patients or over_sections, names),
    )


def _over_genes(score: str) -> Callable[[pd.Series[float]], float]:
    """The mean of a section's genes, as in the tables of a run: errors are averaged as squares."""
    if score in _LESS_IS_BETTER:
        return lambda errors: float(np.sqrt((errors**2).mean()))
    return lambda scores: float(scores.mean())


def _depth(rows: pd.DataFrame, score: str) -> float:
    """Mean over genes, then sections; the runs have the same measured depth but for the genes of their panels."""
    columns = [
        run_tables.of_predictor(f"{score}{suffix}", "depth_only")
        for suffix in ("_second", "_first", "")
    ]
    known = [c for c in columns if c in rows]
    if not known:
        return float("nan")
    return float(rows.groupby(SECTION_ID)[known[0]].mean().mean())


def _verdict(
    values: npt.NDArray[np.float64], interval: Interval, sign: float, names: tuple[str, str]
) -> str:
    """Which run is better, or that it cannot be told; `sign` -1 where less is better."""
    if not len(values):
        return "no gene has this score in both runs"
    mean, units = float(values.mean()), f"{interval.n} {interval.unit}s"
    if interval.n == 1:
        return f"{mean:+.3f} on a single {interval.unit}: not enough to tell"
    if interval.n < FEWEST_UNITS:
        return _verdict_of_few(mean, interval, sign, names)
    low, high = sorted((sign * interval.lower, sign * interval.upper))
    if low > 0:
        return f"{names[1]} is better by {sign * mean:.3f} [{low:.3f}, {high:.3f}] over {units}"
    if high < 0:
        return f"{names[0]} is better by {-sign * mean:.3f} [{-high:.3f}, {-low:.3f}] over {units}"
    return f"no difference can be told: {mean:+.3f} [{interval.lower:.3f}, {interval.upper:.3f}] over {units}"


def _verdict_of_few(mean: float, interval: Interval, sign: float, names: tuple[str, str]) -> str:
    """What two or three units show of themselves; nothing follows for others."""
    units = f"{interval.n} {interval.unit}s"
    low, high = sorted((sign * interval.lowest, sign * interval.highest))
    if low <= 0 <= high:
        return (
            f"no difference can be told: {mean:+.3f}, {interval.lowest:+.3f} to {interval.highest:+.3f} in {units}, "
            "too few for an interval"
        )
    better, (least, most) = (names[1], (low, high)) if low > 0 else (names[0], (-high, -low))
    return (
        f"{better} is better in each of {units}, by {least:.3f} to {most:.3f}: too few for an interval, "
        "so not enough to tell of others"
    )


def _few(per_gene: pd.Series[float], interval: Interval, names: tuple[str, str]) -> str:
    """How one-sided the genes are: said beside the verdict where units are few."""
    if interval.n >= FEWEST_UNITS or not len(per_gene):
        return ""
    shares = [float((per_gene < 0).mean()), float((per_gene > 0).mean())]
    if shares[0] == shares[1]:
        return ""
    most = int(np.argmax(shares))
    return f" ({shares[most]:.0%} of genes are better in {names[most]})"


def _check_same_folds(first: RunScores, second: RunScores, sections: list[str]) -> None:
    for section in sections:
        keys = [run.keys.get(section, "") for run in (first, second)]
        if first.n_spots[section] == second.n_spots[section] and all(keys) and keys[0] != keys[1]:
            raise RunError(
                expected=f"the same positions and counts of section {section} in both runs",
                found=f"key {keys[0][:12]} in {first.name} and {keys[1][:12]} in {second.name}",
                remedy="run both on the same files",
            )
        if first.n_spots[section] != second.n_spots[section]:
            raise RunError(
                expected=f"the same spots of section {section} in both runs",
                found=f"{first.n_spots[section]} in {first.name} and {second.n_spots[section]} in {second.name}",
                remedy="run both on the same files",
            )
        if first.held_out[section] != second.held_out[section]:
            only_first = sorted(first.held_out[section] - second.held_out[section])
            only_second = sorted(second.held_out[section] - first.held_out[section])
            raise RunError(
                expected=f"the same training sections for {section} in both runs",
                found=(
                    f"{', '.join(only_first) or '-'} only in {first.name} and {', '.join(only_second) or '-'} "
                    f"only in {second.name}"
                ),
                remedy="use the same --folds",
            )


def _restrictions(first: RunScores, second: RunScores, sections: list[str]) -> tuple[str, ...]:
    sentences = []
    left_out = [s for s in (*first.held_out, *second.held_out) if s not in sections]
    if left_out:
        sentences.append(
            f"restricted to {len(sections)} common sections; left out: {', '.join(dict.fromkeys(left_out))}"
        )
    pairs = [_genes(run, sections) for run in (first, second)]
    if pairs[0] != pairs[1]:
        genes = [{gene for _, gene in of_run} for of_run in pairs]
        sentences.append(
            f"restricted to {len(genes[0] & genes[1]):,} common genes; {len(genes[0] - genes[1]):,} are only in "
            f"{first.name}, {len(genes[1] - genes[0]):,} only in {second.name}; log1p(CPM) and composition are over "
            "each run's own genes, so errors are in other units and are left out: --genes gives both the same"
        )
    return tuple(sentences)


def _genes(run: RunScores, sections: list[str]) -> set[tuple[str, str]]:
    """Section and gene of every row: panels differ between folds, too."""
    rows = run.genes[run.genes[SECTION_ID].isin(sections)]
    return set(zip(rows[SECTION_ID], rows[run_tables.GENE], strict=True))
