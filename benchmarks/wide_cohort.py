"""A cohort as wide as a transcriptome: time and memory of one call with bulk RNA, and of the parts of the other two analyses."""

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


def measure_tests(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Core seconds of what --group and --time repeat: a gene's model, one cross-validated profile; by number of patients."""
    rows = [_pieces(n, parameters["tested"]) for n in parameters["sizes"]]
    (a, b), (first, last) = parameters["sizes"][-2:], rows[-2:]
    wanted, genes = parameters["patients"], parameters["genes"]
    at = {k: last[k] + (wanted - b) * (last[k] - first[k]) / (b - a) for k in last}
    shufflings = {"group": 200, "survival": 100}
    hours = {
        "group": (genes * at["linear_s"] + shufflings["group"] * at["classifier_s"]) / 3600,
        "survival": (genes * at["cox_s"] + shufflings["survival"] * at["concordance_s"]) / 3600,
    }
    return {
        "sizes": list(parameters["sizes"]),
        "rows": rows,
        "patients": wanted,
        "genes": genes,
        "core_hours": hours,
    }


def _pieces(n: int, tested: int) -> dict[str, float]:
    from time import process_time

    import pandas as pd

    from hespotex.analysis.association import groups, survival
    from hespotex.analysis.association.patients import Patients
    from hespotex.analysis.association.profiles import products
    from hespotex.progress import Silent

    rng = np.random.default_rng(n)
    words, one = np.full(tested, "C"), np.full(tested, 1 / tested)
    names = np.array([f"G{j}" for j in range(tested)])
    values = rng.normal(size=(n, tested)).astype(np.float32)
    obs = pd.DataFrame(index=[f"P{i}" for i in range(n)])
    left = pd.DataFrame(columns=["what", "name", "why"])
    table = Patients(obs, values, names, np.full(tested, "gene"), words, words, one, None, left)
    labels, design = np.where(rng.random(n) < 0.5, "a", "b"), rng.normal(size=(n, 2))
    times, events = rng.exponential(10, n) + 0.01, (rng.random(n) < 0.5).astype(int)
    kernel, order = products(rng.normal(size=(n, 500))), np.arange(n)
    warm = table.take(np.arange(tested) < 1, "")

    def linear(some: Any) -> None:
        groups._linear(some, labels, ["a", "b"], design, Silent())

    def cox(some: Any) -> None:
        survival._cox(some, times, events, design, ["x", "y"], Silent())

    found = {}
    for name, each in (("linear_s", linear), ("cox_s", cox)):
        each(warm)  # imports
        started = process_time()
        each(table)
        found[name] = (process_time() - started) / tested
    for name, once in (
        ("classifier_s", lambda: groups._scores(kernel, order, (labels == "b").astype(int), 0)),
        ("concordance_s", lambda: survival._concordance(kernel, order, times, events, 0)),
    ):
        started = process_time()
        once()
        found[name] = process_time() - started
    return found
