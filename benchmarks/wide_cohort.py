"""A cohort of stated summaries, as wide as a transcriptome, against bulk RNA: time and memory of one analysis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import peak_memory_gb, timed

LEVEL_SD, NOISE_SD = 0.3, 0.6  # of patients, and of their bulk samples around them


def _summary(i: int, pooled: np.ndarray, genes: np.ndarray) -> Any:
    from hespotex.analysis.slide_summary import SlideSummary

    level = np.random.default_rng([1, i]).normal(scale=LEVEL_SD, size=len(genes))
    share = pooled * np.exp(level)
    same = np.full(len(genes), 0.2)
    words = np.full(len(genes), "C")
    return SlideSummary(
        f"S{i}", f"P{i}", "made", 400, 400, 0.0, "like the training slides", 4 + 0.01 * (i % 7), 1000.0 + i % 13, genes,
        share / share.sum(), level, same, same, same, 0.5 * level + same, same, words, words, pooled, same,
    )  # fmt: skip


def measure_wide(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write cohort.h5ad and a bulk table of so many patients and genes, then one call of `associate --bulk`."""
    from hespotex import keys
    from hespotex.analysis.cohort_files import write_cohort
    from hespotex.analysis.cohort_rows import slide_obs
    from hespotex.report.association import associate

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    n, n_genes = parameters["rows"], parameters["wide"]
    genes = np.array([f"GENE{j}" for j in range(n_genes)])
    pooled = np.random.default_rng(0).lognormal(sigma=1.2, size=n_genes)
    pooled /= pooled.sum()
    names = ("section_id", "patient_id", "n_spots", "n_used", "flagged", "verdict", "tissue_mm2")
    known = []
    for i in range(n):
        slide = _summary(i, pooled[:3], genes[:3])
        known.append({**{k: getattr(slide, k) for k in names}, keys.PREDICTED_DEPTH: slide.depth})

    def rows() -> Iterator[list[Any]]:
        for i in range(n):
            yield [_summary(i, pooled, genes)]

    table = write_cohort(
        folder, slide_obs(known), genes.tolist(), [], rows(), by="slide", model_id="made", notes=[], advance=lambda _n: None,
    ).h5ad  # fmt: skip
    with (folder / "bulk.csv").open("w") as stream:
        stream.write(",".join(["id", *genes]) + "\n")
        for i in range(n):
            noise = np.random.default_rng([2, i]).normal(scale=NOISE_SD, size=n_genes)
            share = _summary(i, pooled, genes).share * np.exp(noise)
            stream.write(",".join([f"P{i}", *(f"{v:.3f}" for v in 1e6 * share / share.sum())]))
            stream.write("\n")
    before = peak_memory_gb()
    with timed() as spent:
        found = associate(table, folder / "by-bulk", bulk=folder / "bulk.csv").found
    shutil.rmtree(folder)
    return {
        "patients": found.n_patients, "genes": len(found.table), "before_gb": before, "peak_gb": peak_memory_gb(),
        "mean_pcc": found.numbers["across_patients"]["mean_pcc"], **spent.as_dict(),
    }  # fmt: skip
