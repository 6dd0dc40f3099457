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
from hespotex.export import plots
from hespotex.export.h5ad import Thumbnail, read_prediction, write_prediction
from hespotex.export.style import save_figure
from hespotex.expression import GenePanel
from hespotex.runs import RunDir, atomic_path, versions, write_json
from hespotex.section import Section
from hespotex.slide import open_slide
from hespotex.splits import Folds
from hespotex.training.bundle import Bundle
from hespotex.training.types import Prediction

THUMBNAIL_SIDE_PX = 1200

GENE_COLUMNS = {
    "model": "",
    "ridge": "ridge_",
    "depth_only": "depth_only_",
    "predicted_depth_only": "predicted_depth_only_",
}


def write_section_prediction(
    run: RunDir, section: Section, bundle: Bundle, prediction: Prediction
) -> Path:
    """Write predictions/<section_id>.h5ad, with the measured values where the section has them."""
    panel = GenePanel(bundle.genes)
    path = run.predictions / f"{section.section_id}.h5ad"
    write_prediction(
        path,
        section=section,
        genes=bundle.genes,
        prediction=prediction,
        counts=panel.counts(section) if section.counts is not None else None,
        thumbnail=section_thumbnail(section),
        provenance=provenance(bundle),
    )
    return path


def section_thumbnail(section: Section) -> Thumbnail | None:
    """A small picture of the section's slide; None where features were given in its place."""
    if section.slide is None:
        return None
    with open_slide(section.slide) as slide:
        image, px0_per_px = slide.thumbnail(THUMBNAIL_SIDE_PX)
    return Thumbnail(image, px0_per_px)


def provenance(bundle: Bundle) -> dict[str, Any]:
    """What made a prediction; holds no path and no name but those of the manifest."""
    return {
        "model_id": bundle.model_id,
        "profile": bundle.model.profile,
        "encoder": bundle.encoder.name,
        "encoder_key": bundle.encoder.key,
        "sides_um": list(bundle.sides_um),
        "training_sections": [s.section_id for s in bundle.sections],
        "seed": bundle.config.seed,
        "versions": versions(),
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


def write_figures(run: RunDir) -> None:
    """Draw genes and depth of every held-out section, and the scores over all genes."""
    genes = read_genes(run)
    for section_id in dict.fromkeys(genes["section_id"]):
        stored = read_prediction(run.predictions / f"{section_id}.h5ad")
        picks = plots.pick_genes(genes[genes["section_id"] == section_id])
        save_figure(plots.plot_genes(stored, picks), run.figures / f"{section_id}_genes.png")
        if np.isfinite(stored.depth).all():
            save_figure(plots.plot_depth(stored), run.figures / f"{section_id}_depth.png")
    save_figure(plots.plot_pcc_distribution(genes), run.figures / "pcc_per_gene.png")


def read_genes(run: RunDir) -> pd.DataFrame:
    """The rows of genes.csv; a gene called NA stays a name, an empty score is NaN."""
    path = run.path / "genes.csv"
    names = ("section_id", "gene")
    numbers = [c for c in pd.read_csv(path, nrows=0).columns if c not in names]
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(names, str),
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
        float_precision="round_trip",
    )


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
