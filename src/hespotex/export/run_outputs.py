"""Owns the files of a run folder: per-fold records, metrics.json, genes.csv, predictions, figures.

Every fold leaves one record when all of it is written, so that an interrupted run goes on after it;
the final tables are made from the records alone, whoever wrote them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hespotex.cross_validation import PREDICTORS, FoldOutcome, HeldOut
from hespotex.evaluation.scores import ScoreSummary, aggregate
from hespotex.runs import RunDir, atomic_path, write_json
from hespotex.splits import Folds

GENE_COLUMNS = {
    "model": "",
    "ridge": "ridge_",
    "depth_only": "depth_only_",
    "predicted_depth_only": "predicted_depth_only_",
}


def write_fold(run: RunDir, number: int, outcome: FoldOutcome) -> None:
    """Write the record of a fold; its predictions must be written before."""
    table = pd.concat([gene_rows(number, outcome.bundle.genes, held) for held in outcome.held_out])
    with atomic_path(_genes_path(run, number)) as temporary:
        table.to_csv(temporary, index=False)
    record = {
        "fold": number,
        "held_out": list(outcome.fold.held_out),
        "train": list(outcome.fold.train),
        "n_spots": sum(held.item.section.n_spots for held in outcome.held_out),
        "n_genes": len(outcome.bundle.genes),
        "model_id": outcome.bundle.model_id,
        "hyper": dict(outcome.bundle.model.hyper),
        "sections": [
            {name: held.scores[name].summary.as_dict() for name in PREDICTORS}
            for held in outcome.held_out
        ],
    }
    write_json(_record_path(run, number), record)


def finished_fold(run: RunDir, number: int) -> dict[str, Any] | None:
    """The record of a fold, or None if it is not finished (or its record is damaged)."""
    try:
        record = json.loads(_record_path(run, number).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def gene_rows(number: int, genes: Sequence[str], held: HeldOut) -> pd.DataFrame:
    """One row a gene for one held-out section."""
    columns: dict[str, Any] = {
        "fold": number,
        "section_id": held.item.section.section_id,
        "gene": list(genes),
    }
    for predictor, prefix in GENE_COLUMNS.items():
        scores = held.scores[predictor]
        columns[f"{prefix}pcc_log1p"] = scores.pcc_log1p
        columns[f"{prefix}pcc_composition"] = scores.pcc_composition
    model = held.scores["model"]
    columns["rmse_log1p"] = model.rmse_log1p
    columns["train_mean_rmse_log1p"] = held.scores["train_mean"].rmse_log1p
    columns["mean_count"] = model.mean_count
    columns["constant"] = model.constant
    columns["measured"] = model.measured
    return pd.DataFrame(columns)


def write_metrics(run: RunDir, folds: Folds, *, score_nan_as_zero: bool) -> dict[str, Any]:
    """Write genes.csv and metrics.json from the records of all folds.

    metrics.json holds no time and no path, so that equal runs give equal files.
    """
    records = [_required(run, number) for number in range(len(folds))]
    with atomic_path(run.path / "genes.csv") as temporary:
        parts = [_genes_path(run, n).read_text(encoding="utf-8") for n in range(len(folds))]
        header, _, _ = parts[0].partition("\n")
        bodies = [part.partition("\n")[2] for part in parts]
        temporary.write_text(header + "\n" + "".join(bodies), encoding="utf-8")
    per_fold = {
        name: [[_summary(section[name]) for section in r["sections"]] for r in records]
        for name in PREDICTORS
    }
    metrics: dict[str, Any] = {
        "folds_by": folds.by,
        "note": folds.note,
        "nan_counts_as_zero": score_nan_as_zero,
        "folds": [
            {key: r[key] for key in ("fold", "held_out", "train", "n_spots", "n_genes", "model_id")}
            | {"scores": {n: aggregate([per_fold[n][i]]).as_dict() for n in PREDICTORS}}
            for i, r in enumerate(records)
        ],
        "mean": {name: aggregate(per_fold[name]).as_dict() for name in PREDICTORS},
    }
    write_json(run.path / "metrics.json", metrics)
    return metrics


def read_metrics(run: RunDir) -> dict[str, Any]:
    """The content of metrics.json of a finished run."""
    value = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    return dict(value)


def _record_path(run: RunDir, number: int) -> Path:
    return run.work / f"fold-{number}.json"


def _genes_path(run: RunDir, number: int) -> Path:
    return run.work / f"fold-{number}-genes.csv"


def _required(run: RunDir, number: int) -> dict[str, Any]:
    record = finished_fold(run, number)
    if record is None:
        raise FileNotFoundError(_record_path(run, number))
    return record


def _summary(values: Mapping[str, float | None]) -> ScoreSummary:
    return ScoreSummary(**{k: np.nan if v is None else v for k, v in values.items()})
