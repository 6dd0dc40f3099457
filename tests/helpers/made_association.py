"""A cohort of 40 patients with TCGA barcodes, two slides for some, whose effects are stated."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
from benchmarks.made_predictions import pooled_of, write_made_prediction

from hespotex.analysis.cohort import cohort

N, G = 40, 30
GENES = tuple(f"GENE{j}" for j in range(G))
PATIENTS = tuple(f"TCGA-AA-{1000 + i}" for i in range(N))
IN_BULK = slice(0, 12)  # genes whose bulk follows the level
OF_GROUP = slice(12, 18)  # higher in group b
OF_TIME = 20  # shortens life


@cache
def levels() -> np.ndarray:
    level = np.random.default_rng(4).normal(scale=0.4, size=(N, G))
    level[:, OF_GROUP] += 0.9 * (groups() == "b")[:, None]
    return level


@cache
def groups() -> np.ndarray:
    return np.random.default_rng(5).permutation(np.array(["a", "b"] * (N // 2)))


@cache
def clinical() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    time = rng.exponential(20 * np.exp(-4.0 * levels()[:, OF_TIME]))
    lost = rng.exponential(60, size=N)
    return pd.DataFrame(
        {
            "patient_id": PATIENTS,
            "arm": groups(),
            "months": np.minimum(time, lost).round(2) + 0.01,
            "death": (time <= lost).astype(int),
            "age": rng.normal(60, 8, size=N).round(),
            "cancer_type": np.where(np.arange(N) % 2, "LUAD", "BRCA"),
            "one": "same",
            "status": np.where(time <= lost, "Dead", "Alive"),
            "negative": np.where(np.arange(N) == 3, -5.0, 1.0),
            "words": ["soon", *["3"] * (N - 1)],
            "rare": ["x", "y", *["z"] * (N - 2)],
            "measurement": rng.normal(size=N),
            "equal": 7.0,
            "nobody": "",
        }
    )


@cache
def made_cohort() -> Path:
    """cohort.h5ad by slide: the first five patients have two slides."""
    folder = Path(mkdtemp(prefix="made-cohort-"))
    for i, patient in enumerate(PATIENTS):
        for slide in range(2 if i < 5 else 1):
            name = f"{patient}-01Z-00-DX{slide + 1}.ABCDEF"
            write_made_prediction(
                folder / "predictions" / f"{name}.h5ad", level=levels()[i], section_id=name, patient_id="", genes=GENES,
                side=4, seed=2 * i + slide, depth=700.0 + 20 * i,
            )  # fmt: skip
    clinical().to_csv(folder / "clinical.csv", index=False)
    found = cohort(folder, folder / "cohort", clinical=folder / "clinical.csv", by="slide")
    return found.paths.h5ad


def bulk_values(*, seed: int = 7, noise: float = 0.15) -> pd.DataFrame:
    """TPM, patients x genes: some genes follow the level, the others do not."""
    rng = np.random.default_rng(seed)
    log = np.log(pooled_of(G)) + rng.normal(scale=0.4, size=(N, G))
    log[:, IN_BULK] = (np.log(pooled_of(G)) + levels())[:, IN_BULK]
    share = np.exp(log + rng.normal(scale=noise, size=(N, G)))
    return pd.DataFrame(
        1e6 * share / share.sum(axis=1, keepdims=True), index=PATIENTS, columns=GENES
    )
