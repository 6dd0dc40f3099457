"""Prediction files whose content is stated: patients with known levels, written by the writer of real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.evaluation.trust import Extras
from hespotex.export.h5ad import write_prediction
from hespotex.genes.gene_sets import PanelSets, SetScores
from hespotex.geometry import Geometry
from hespotex.models.types import Prediction
from hespotex.sections.section import Section

Floats = npt.NDArray[np.float64]


def pooled_of(n_genes: int, seed: int = 0) -> Floats:
    """(G,) shares of a made training."""
    share = np.random.default_rng([seed, 71]).lognormal(sigma=1.0, size=n_genes)
    return share / share.sum()


def write_made_prediction(
    path: Path,
    *,
    level: Floats,
    section_id: str,
    patient_id: str,
    genes: Sequence[str],
    side: int = 10,
    seed: int = 0,
    depth: float = 1000.0,
    within: float = 0.2,
    verdict: str | None = None,
    flagged: int = 0,
    model_id: str = "made",
    sets: PanelSets | None = None,
    of_sets: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write one slide of `side` x `side` spots at 100 um.

    Args:
        level: (G,) natural log factor on the expected share of every gene.
        within: standard deviation over spots, smooth from left to right for odd genes, without pattern for even ones.
        depth: mean predicted depth.
        flagged: so many first spots are flagged.
        sets: gene sets that are scored, graded B.
        of_sets: of `SetScores`.
        more: of `Extras`.
    """
    rng = np.random.default_rng([seed, 5])
    pooled = pooled_of(len(genes))
    row, column = np.divmod(np.arange(side * side), side)
    smooth = (column - column.mean()) / max(column.std(), 1e-9)
    odd = np.arange(len(genes)) % 2
    pattern = np.where(odd, smooth[:, None], rng.normal(size=(side * side, len(genes))))
    log_share = np.log(pooled) + level + within * pattern
    log_share -= np.log(np.exp(log_share).sum(axis=1, keepdims=True))
    section = Section(
        section_id=section_id,
        patient_id=patient_id,
        slide=None,
        geometry=Geometry(mpp=0.5, spot_pitch_um=100.0, spot_diameter_um=55.0),
        barcodes=np.array([f"{r}x{c}" for r, c in zip(row, column, strict=True)]),
        xy_px0=np.stack([200.0 * column, 200.0 * row], axis=1),
        counts=None,
        genes=None,
    )
    prediction = Prediction(
        log1p=np.log1p(1e6 * np.exp(log_share)).astype(np.float32),
        composition=(log_share - np.log(pooled)).astype(np.float32),
        depth=rng.gamma(20, depth / 20, size=side * side).astype(np.float32),
    )
    ood = np.arange(side * side) < flagged
    if sets is not None:
        values = sets.scores(prediction.composition, pooled)
        names, n = sets.names, sets.n_panel
        graded: dict[str, Any] = {"grades": ("B",) * len(names), **(of_sets or {})}
        more["gene_sets"] = SetScores(
            names=names, n_listed=sets.n_listed, n_panel=n, values=values, **graded
        )
    extras = Extras(
        ood=ood,
        ood_score=ood.astype(np.float32),
        verdict=verdict,
        pooled_share=pooled.astype(np.float32),
        upper_quartile=np.full(len(genes), 0.67 * within, np.float32),
        **more,
    )
    write_prediction(
        path,
        section=section,
        genes=genes,
        prediction=prediction,
        extras=extras,
        provenance={"model_id": model_id, "ood_verdict": verdict, "tissue_mm2": side * side * 0.01},
    )
    return path
