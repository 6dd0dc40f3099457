"""Predictions of patients of two diagnoses, one of which has a stated block on its slides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.made_predictions import write_made_prediction

from helpers.made_claims import claims_of
from hespotex.genes.gene_sets import SetScores

SIDE, GENES = 7, tuple(f"G{j}" for j in range(6))
GRADES = ("A", "B", "C", "A", "B", "D")
N_PATIENTS = 18


def _sets(level: np.ndarray) -> SetScores:
    """One that is as high as the first gene, and one that is not shown."""
    three = np.full(2, 3)
    return SetScores(("LIKE_G0", "NOT_SHOWN"), ("B", "D"), three, three, level[:, [0, 5]], None)


def write_diagnoses(
    folder: Path, *, effect: float, n: int = N_PATIENTS, first: int = 0, model_id: str = "made"
) -> Path:
    """`ill` slides have a block of 3 x 3 spots in which the first gene is high; sites alternate by pairs."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    block = (row < 3) & (column < 3)
    rows = []
    for k in range(first, first + n):
        ill = k % 2 == 1
        level = np.random.default_rng([k, 9]).normal(scale=0.2, size=(SIDE * SIDE, len(GENES)))
        level[block & ill, 0] += effect
        write_made_prediction(
            folder / "predictions" / f"S{k}.h5ad", level=level, section_id=f"S{k}", patient_id=f"P{k}",
            genes=GENES, side=SIDE, seed=k, claims=claims_of(GRADES), model_id=model_id, gene_sets=_sets(level),
        )  # fmt: skip
        label = "ill" if ill else "well"
        lab = "x" if k % 4 < 2 else "y"
        rows.append({"patient_id": f"P{k}", "diagnosis": label, "lab": lab, "same": label})
    pd.DataFrame(rows).to_csv(folder / "clinical.csv", index=False)
    return folder
