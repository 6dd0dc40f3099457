"""Scores of two painted slices under the map that was found and under the true one: the part `scores` of `registration`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex.analysis.agreement import CONSISTENT, MEASURED, agreement
from hespotex.analysis.common_maps import COMPOSITION
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.datasets import PaintedPlan
from hespotex.datasets.simulated import as_section
from hespotex.evaluation.trust import Extras
from hespotex.export.h5ad import write_prediction
from hespotex.genes.panel import PanelCounts
from hespotex.geometry import Bend, Map
from hespotex.models.types import Prediction

# What a model misses of a spot's log share.
_NOISE: Final = 0.3
SCORES: Final = {
    "measured A / measured B": (MEASURED, "pcc"),
    "consistency": (CONSISTENT, "pcc"),
    "specificity": (CONSISTENT, "specificity"),
    "accuracy, predicted A / measured B": ("predicted A / measured B", "pcc"),
    "accuracy, measured A / predicted B": ("measured A / predicted B", "pcc"),
}


def write_slice(
    path: Path, plan: PaintedPlan, block: int, number: int, warp: Bend | None = None
) -> PredictionFile:
    """A slice with its counts; the prediction of every spot is its expected share, with noise.

    Args:
        warp: from the warped slice to the one as it was cut: spots lie where their tissue went.
    """
    painted = plan.section(block, number, picture=False)
    arrays, rng = painted.arrays, np.random.default_rng([plan.seed, block, number])
    share = np.nan_to_num(arrays.share) + 1e-6
    noisy = np.log(share) + rng.normal(0, _NOISE, share.shape)
    noisy -= np.log(np.exp(noisy).sum(axis=1, keepdims=True))
    pooled = share.mean(axis=0) / share.mean(axis=0).sum()
    section = as_section(painted)
    assert section.counts is not None
    if warp is not None:
        section = replace(section, xy_px0=warp.inverse()(arrays.xy_um) / arrays.mpp)
    write_prediction(
        path,
        section=replace(section, counts=None, genes=None),
        genes=[f"G{j:02d}" for j in range(share.shape[1])],
        prediction=Prediction(
            np.log1p(1e6 * np.exp(noisy)).astype(np.float32),
            (noisy - np.log(pooled)).astype(np.float32),
            arrays.depth.astype(np.float32),
        ),
        counts=PanelCounts(section.counts, np.ones(share.shape[1], bool)),
        provenance={"model_id": "made", "spot_pitch_um": arrays.spot_pitch_um},
        extras=Extras(pooled_share=pooled.astype(np.float32)),
    )
    return PredictionFile(path)


def compare_scores(
    files: tuple[PredictionFile, PredictionFile], found: Map, true: Map, pitch_um: float
) -> dict[str, Mapping[str, float]]:
    """By score of composition: its mean over genes under the true map, what the found one makes of it, and the most that a gene differs."""
    tables = [agreement(*files, to_first, pitch_um) for to_first in (found, true)]
    said: dict[str, Mapping[str, float]] = {}
    for name, (what, column) in SCORES.items():
        ours, truly = (_genes(table, what, column) for table in tables)
        said[name] = {
            "true": float(truly.mean()),
            "found": float(ours.mean()),
            "gene": float((ours - truly).abs().max()),
        }
    return said


def _genes(table: pd.DataFrame, what: str, column: str) -> pd.Series:
    of = table[(table["scale"] == COMPOSITION) & (table["what"] == what)]
    return of.set_index("gene")[column]


def most_apart(pairs: list[dict[str, Any]], name: str) -> tuple[float, float]:
    """Over pairs: the largest difference of a score's mean, and of a gene."""
    means = [abs(p[name]["found"] - p[name]["true"]) for p in pairs]
    return max(means), max(p[name]["gene"] for p in pairs)
