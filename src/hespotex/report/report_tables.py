"""The words and tables of the report, from a run's records; it draws nothing. What a run lacks is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.evaluation import run_tables
from hespotex.evaluation.compare import FEWEST_UNITS
from hespotex.evaluation.grades import GradeRule
from hespotex.evaluation.predictors import PREDICTORS, label_of
from hespotex.results.read import Run
from hespotex.storage.metrics import Metrics, Search

Row = dict[str, Any]

SCORES: Final[Mapping[str, tuple[str, int]]] = {
    # heading, +1 where more is better and -1 where less is
    "pcc_composition_mean": ("composition PCC", 1),
    "pcc_composition_abundant200": ("composition PCC, 200 most abundant", 1),
    "pcc_log1p_mean": ("log1p PCC", 1),
    "pcc_log1p_top50": ("log1p PCC, best 50", 1),
    "rmse_log1p": ("RMSE log1p", -1),
}
# What stands under the model's number: depth first of all, since log1p rises with depth alone.
_BESIDE: Final = ("depth_only", "ridge", "train_mean", "ceiling")
_FOLD_TEXT: Final = {
    "patient": "Whole patients were held out: no section of a held-out patient was seen by any fit.",
    "section": "Single sections were held out, not patients.",
    "kfold": "Groups of whole patients were held out in turn: no section of a held-out patient was seen by any fit.",
    "external": "A finished model was scored on sections that are none of the training sections that its file names.",
}
_FITTED: Final = (
    " Gene panel, scaling, network, epochs, baselines, intervals and thresholds of a fold come from its training "
    "sections alone."
)
_NOUNS: Final = {
    "cross-validate": "Cross-validation on",
    "evaluate": "External validation on",
    "predict": "Prediction of",
}


def title(run: Run, patients: Sequence[str], n_spots: int) -> str:
    """One line: what was done, on how many sections, patients and spots."""
    noun = _NOUNS.get(run.record.identity.verb, "Run on")
    return (
        f"{noun} {_count(len(patients), 'section')} of {_count(len(set(patients)), 'patient')}, "
        f"{n_spots:,} spots"
    )


def opening_sentence(run: Run, genes: pd.DataFrame, *, measured: bool) -> str:
    """The run's own headline, or what can be said without one; `measured`: whether any section was."""
    if run.metrics.headline:
        return run.metrics.headline
    if run_tables.PCC_COMPOSITION not in genes and measured:
        return (
            "Predicted expression beside what was measured; nothing was scored: hespotex evaluate does, on sections "
            "that the model was not trained on."
        )
    if run_tables.PCC_COMPOSITION not in genes:
        return "Predicted expression; no measured values to compare with."
    return (
        "Predicted and measured composition correlate at "
        f"{text(run.metrics.mean_of('model', 'pcc_composition_mean'), 3)} per gene on average."
    )


def tiles(metrics: Metrics) -> list[Row]:
    """The few scores that come first, each beside a rival's."""
    result = []
    for score, (name, _) in SCORES.items():
        value = metrics.mean_of("model", score)
        if np.isnan(value) or score == "pcc_log1p_top50":
            continue
        beside = [(label_of(key), metrics.mean_of(key, score)) for key in _BESIDE]
        note = " · ".join(f"{name} {text(v, 3)}" for name, v in beside if np.isfinite(v))
        result.append({"value": f"{value:.3f}", "name": name, "note": note})
    return result


def score_rows(metrics: Metrics) -> list[Row]:
    """Model, baselines and ceiling by score; the best fair value of a column is marked."""
    best = {}
    for score, (_, sign) in SCORES.items():
        fair = [metrics.mean_of(name, score) for name in metrics.mean if not _is_oracle(name)]
        best[score] = sign * max((sign * v for v in fair if np.isfinite(v)), default=np.nan)
    rows = []
    for predictor in metrics.mean:
        cells = [
            {
                "value": text(metrics.mean_of(predictor, score), 3),
                "span": span_text(metrics, predictor, score),
                "best": not _is_oracle(predictor)
                and metrics.mean_of(predictor, score) == best[score],
            }
            for score in SCORES
        ]
        cells.append({"value": text(_per_spot(metrics, predictor), 3), "span": "", "best": False})
        note = PREDICTORS[predictor].note if predictor in PREDICTORS else ""
        rows.append(
            {
                "key": predictor,
                "name": label_of(predictor),
                "note": note,
                "oracle": _is_oracle(predictor),
                "cells": cells,
            }
        )
    return rows


SIZE_COLUMNS: Final = (
    "size of a square",
    "squares",
    "composition PCC, 200 most abundant",
    "ridge regression",
    "ceiling",
    "log1p PCC",
    "ridge regression",
    "ceiling",
)
SIZE_TEXT: Final = (
    "Bins were summed into squares. Fit, null, grades and all other scores are at the size marked “fitted”. Larger squares get "
    "the mean of those inside; smaller ones the value of the fitted square that they lie in, so a row below the fitted "
    "size says what that map tells of single bins, not what a finer map would."
)


def size_rows(metrics: Metrics) -> list[list[str]]:
    """At which size of square sections of fine bins were scored: a row a size, under `SIZE_COLUMNS`."""
    rows = []
    for scored in metrics.sizes:
        cells = []
        for score in ("pcc_composition_abundant200", "pcc_log1p_mean"):
            for of in (scored.scores.get("model"), scored.scores.get("ridge"), scored.ceiling):
                cells.append("–" if of is None else text(getattr(of, score), 3))
        fitted = ", fitted" if scored.n_fitted == scored.n_sections else ""
        if 0 < scored.n_fitted < scored.n_sections:
            fitted = f", fitted in {scored.n_fitted} of {scored.n_sections} sections"
        rows.append([f"{scored.size_um:g} um{fitted}", f"{scored.n_squares:,}", *cells])
    return rows


def _is_oracle(predictor: str) -> bool:
    return predictor in PREDICTORS and PREDICTORS[predictor].oracle


def _per_spot(metrics: Metrics, predictor: str) -> float | None:
    """PCC per spot, mean over the sections of a fold, then over folds, as the other columns."""
    values = {s.section_id: s.pcc_per_spot.get(predictor) for s in metrics.sections}
    folds = [
        [v for s in fold.held_out if (v := values.get(s)) is not None] for fold in metrics.folds
    ]
    means = [float(np.mean(fold)) for fold in folds if fold]
    return float(np.mean(means)) if means else None


def absent_text(metrics: Metrics) -> str:
    """Which baseline is missing from the table, and why; empty where none is."""
    if metrics.folds_by == "external" and "nearest_patches" not in metrics.mean:
        return "Nearest patches are absent: this model file holds no training spots to compare with (trust.nearest_spots)."
    return ""


def interval_text(metrics: Metrics) -> str:
    """What stands in brackets below a mean; empty where nothing does."""
    over = metrics.intervals_over
    if over is None:
        return ""
    units = _count(over.n, over.unit)
    if over.n < 2:
        return f"No interval: there is a single {over.unit}."
    known = (*metrics.intervals, *metrics.ranges)
    around = (
        f" A mean over {over.unit}s that differs from the table's stands before it."
        if any(_centre(metrics, predictor, score) for predictor in known for score in SCORES)
        else ""
    )
    ranges = bool(metrics.ranges)
    if over.n < FEWEST_UNITS and not ranges:  # written before there were ranges
        return f"No interval: there are only {units}."
    if over.n < FEWEST_UNITS:
        return f"In parentheses the lowest and the highest of {units}: so few give no interval.{around}"
    fewer = (
        f" In parentheses the lowest and the highest, where fewer than {FEWEST_UNITS} have the score."
        if ranges
        else ""
    )
    return (
        f"In brackets the 95 % interval over {units}, or as many as have the score.{fewer}{around}"
    )


def fold_text(metrics: Metrics) -> str:
    """How the folds were made."""
    kind = metrics.folds_by
    return _FOLD_TEXT.get(kind, "") + (_FITTED if kind in _FOLD_TEXT and kind != "external" else "")


def fold_rows(metrics: Metrics) -> list[Row]:
    """One row a fold, with what inner folds chose."""
    return [
        {
            "number": fold.fold,
            "held_out": ", ".join(fold.held_out),
            "train": ", ".join(fold.train),
            "n_spots": f"{fold.n_spots:,}",
            "n_genes": f"{fold.n_genes:,}",
            "composition": text(fold.scores["model"].pcc_composition_mean, 3),
            "log1p": text(fold.scores["model"].pcc_log1p_mean, 3),
            "search": search_text(fold.search),
        }
        for fold in metrics.folds
    ]


def searches_text(metrics: Metrics) -> str:
    """What the folds of a run chose, in one line; empty where nothing was searched."""
    searches = [fold.search for fold in metrics.folds if fold.search.chosen]
    if not searches:
        return ""
    times = Counter(search.words for search in searches)
    listed = ", ".join(
        f"{chosen} in {n} of {len(searches)} folds" for chosen, n in times.most_common()
    )
    n_candidates = len(searches[0].candidates)
    if n_candidates == 1:
        return f"search chose {listed}: the only candidate"
    return (
        f"search chose {listed}, of {n_candidates} candidates by {searches[0].score} on inner folds"
    )


def search_text(search: Search) -> str:
    """What inner folds chose, and among how many candidates; empty where nothing was searched."""
    if not search.chosen:
        return ""
    listed = [text(candidate.score, 3) for candidate in search.candidates]
    if len(listed) == 1:
        return f"{search.words}: the only candidate"
    return (
        f"{search.words}: best of {len(listed)} candidates by {search.score} on inner folds of the training "
        f"sections ({', '.join(listed)})"
    )


def coverage_rows(metrics: Metrics) -> list[Row]:
    """Stated coverage beside the coverage seen, with the lowest and the highest section: a mean hides one that fails."""
    return [
        {
            "where": row.where,
            "nominal": f"{row.nominal:.0%}",
            "observed": f"{row.observed:.1%}",
            "span": row.span,
        }
        for row in metrics.calibration
    ]


_GRADED_ON = {
    "between_patients": " (graded on patients outside the training)",
    "within_patient": " (graded within the training's patients)",
}


def held_grade_rows(metrics: Metrics) -> list[Row]:
    """How the grades of a model's own validation hold here; empty but for an external validation."""
    return [
        {
            "grade": f"{row.grade}{_GRADED_ON.get(row.scope, '')}",
            "n_genes": f"{row.n_genes:,}",
            "found": f"{row.n_significant:,} of {row.n_tested:,}",
            "composition": text(row.pcc_composition, 3),
        }
        for row in metrics.model_grades
    ]


def grade_rule(metrics: Metrics, genes: pd.DataFrame) -> list[str]:
    """The rule in words: of a scored run as it was applied; of a prediction as it is; none without grades."""
    if metrics.grade_rule is not None:
        return metrics.grade_rule
    return list(GradeRule().text()) if keys.GRADE in genes else []


def text(value: float | None, digits: int) -> str:
    """A number with a true minus sign, or a dash where there is none."""
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def span_text(metrics: Metrics, predictor: str, score: str) -> str:
    """The interval of a mean in brackets, or of few units their range in parentheses; empty without one.

    It stands behind its centre where that is another number. An interval of few units is one of an older run.
    """
    few = metrics.intervals_over is None or metrics.intervals_over.n < FEWEST_UNITS
    ends = {} if few else metrics.intervals.get(predictor, {})
    if score in ends:
        span = f"[{text(ends[score][0], 3)}, {text(ends[score][1], 3)}]"
    elif score in metrics.ranges.get(predictor, {}):
        lowest, highest = metrics.ranges[predictor][score]
        span = f"({text(lowest, 3)} to {text(highest, 3)})"
    else:
        return ""
    return f"{_centre(metrics, predictor, score)} {span}".strip()


def _centre(metrics: Metrics, predictor: str, score: str) -> str:
    """Mean over the units of an interval, where it reads otherwise than the table's mean; else empty."""
    usual = text(metrics.mean_of(predictor, score), 3)
    centre = text(metrics.interval_centres.get(predictor, {}).get(score), 3)
    return "" if centre in ("–", usual) else centre


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
