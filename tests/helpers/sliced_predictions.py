"""Slices of a painted block as predictions: composition is the truth with noise, and an offset of each slide."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.datasets import PaintedPlan, Serial, draw_patients
from hespotex.datasets.simulated import as_section
from hespotex.evaluation.trust import Extras
from hespotex.export.h5ad import Thumbnail, write_prediction
from hespotex.genes.panel import PanelCounts
from hespotex.geometry import write_frames
from hespotex.models.types import Prediction


def slices_plan(seed: int = 3, n: int = 3) -> PaintedPlan:
    """Slices 10 um apart, turned, mirrored and stained anew."""
    return PaintedPlan(
        seed=seed,
        patients=draw_patients(1),
        sections_per_patient=n,
        n_genes=60,
        lattice="square",
        side_um=2000.0,
        serial=Serial(
            tuple(10.0 * k for k in range(n)),
            turn_degrees=90,
            mirror_chance=0.5,
            stretch=0.05,
            restained=True,
        ),
    )


def write_slices(
    folder: Path, plan: PaintedPlan, *, offset: float = 2.0, noise: float = 0.3, counts: bool = True
) -> dict[str, npt.NDArray[np.object_]]:
    """Write one prediction a slice, and frames.json with pairs.csv as `agree` does; the tissue of every spot by section.

    Args:
        offset: standard deviation of what each slide adds to each gene.
        noise: of each value.
    """
    tissues, names = {}, []
    for number in range(plan.sections_per_patient):
        painted = plan.section(0, number, picture=False)
        arrays, rng = painted.arrays, np.random.default_rng([plan.seed, number])
        share = np.nan_to_num(arrays.share) + 1e-6
        share /= share.sum(axis=1, keepdims=True)
        pooled = share.mean(axis=0)
        shape = share.shape
        composition = np.log(share) - np.log(pooled) + rng.normal(0, offset, shape[1])
        composition += rng.normal(0, noise, shape)
        kind = np.array([f"tissue {k}" for k in arrays.area.argmax(axis=1)], object)
        names.append(painted.section_id)
        tissues[painted.section_id] = kind
        genes = [f"G{j:02d}" for j in range(shape[1])]
        full = as_section(painted)
        obs = pd.DataFrame({"layer": kind, "slice": str(number)}, index=full.barcodes)
        side = int(np.ceil((arrays.xy_px0.max() + 100) / 8))
        write_prediction(
            folder / "predictions" / f"{painted.section_id}.h5ad",
            section=replace(full, counts=None, genes=None, obs=obs),
            genes=genes,
            prediction=Prediction(
                np.log1p(1e6 * share).astype(np.float32),
                composition.astype(np.float32),
                arrays.depth.astype(np.float32),
            ),
            counts=PanelCounts(full.counts, np.ones(shape[1], bool)) if counts else None,
            thumbnail=Thumbnail(np.full((side, side, 3), 230, np.uint8), 8.0),
            provenance={"model_id": "made"},
            extras=Extras(pooled_share=pooled.astype(np.float32)),
        )
    (folder / "agreed").mkdir(parents=True, exist_ok=True)
    write_frames(folder / "agreed" / "frames.json", plan.frames(0))
    pairs = [f"{a},{b},,\n" for a, b in pairwise(names)]
    text = "section_a,section_b,trained,refused\n" + "".join(pairs)
    (folder / "agreed" / "pairs.csv").write_text(text, encoding="utf-8")
    return tissues
