"""Painted slides of patients whose tissue differs: a small model, predictions from pictures, and what a cohort says of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import peak_memory_gb, timed

# Tissues of which patients have more or less; arm b has more tumour on top, and tumour shortens life.
TISSUES = ("tumour", "immune", "stroma")
TISSUE_SD, MORE_TUMOUR, HAZARD = 0.8, 1.0, 0.8
_WAYS: Mapping[str, Mapping[str, str]] = {
    "group": {"group": "arm"},
    "survival": {"time": "months", "event": "death"},
    "bulk": {"bulk": "bulk.csv"},
}


def painted_model(parameters: Mapping[str, Any], work: Path) -> tuple[Path, Path]:
    """A small model of some painted patients, and a manifest of the slides of others."""
    from hespotex.config import Machine, RunConfig
    from hespotex.datasets import write_cohort
    from hespotex.pipeline import train

    n_train, n = parameters["train"], parameters["slides"]
    folder = work / f"painted-{n}"
    plan = _plan(parameters)
    if not (folder / "sections.csv").is_file():
        write_cohort(plan, folder)
        _write_tables(plan, n_train, folder)
    rows = pd.read_csv(folder / "sections.csv", dtype=str)
    rows[:n_train].to_csv(folder / "train.csv", index=False)
    slides = rows[n_train:][["section_id", "patient_id", "slide"]].assign(
        mpp=str(parameters["mpp"])
    )
    slides.to_csv(folder / "slides.csv", index=False)
    config = RunConfig.from_values(
        {"model": {"epochs": 3, "ensemble": 1, "n_components": 8}, "panel": {"kind": "all"}}
    )
    model = train(
        folder / "train.csv", work / f"tiny-{n}.hespotex", config=config, machine=Machine(threads=1)
    )
    return model, folder / "slides.csv"


def _plan(parameters: Mapping[str, Any]) -> Any:
    """Patients of the training first; of the others every second one is in arm b."""
    from hespotex.datasets import PaintedPatient, PaintedPlan

    rng, n_train = np.random.default_rng(6), parameters["train"]
    patients = []
    for i in range(n_train + parameters["slides"]):
        tissue = dict(zip(TISSUES, rng.normal(0, TISSUE_SD, len(TISSUES)).tolist(), strict=True))
        arm = "" if i < n_train else "ab"[i % 2]
        tissue["tumour"] += MORE_TUMOUR * (arm == "b")
        patients.append(PaintedPatient(f"P{i}", label=arm, tissue=tissue))
    return PaintedPlan(
        seed=2, patients=tuple(patients), sections_per_patient=1, side_um=parameters["side_um"], mpp=parameters["mpp"],
        n_genes=parameters["genes"], spot_pitch_um=parameters["pitch_um"], spot_diameter_um=0.55 * parameters["pitch_um"],
    )  # fmt: skip


def _write_tables(plan: Any, n_train: int, folder: Path) -> None:
    """Bulk RNA and clinical data as the paint says, and the same with patients shuffled."""
    rng = np.random.default_rng(9)
    names, arms, tumour, share = [], [], [], []
    for i in range(n_train, len(plan.patients)):
        arrays = plan.section(i, 0, picture=False).arrays
        names.append(plan.patients[i].name)
        arms.append(plan.patients[i].label)
        tumour.append(arrays.area[:, 1].sum() / arrays.area.sum())
        share.append(np.average(arrays.share, axis=0, weights=arrays.depth))
    made = np.stack(share) * np.exp(rng.normal(scale=0.1, size=(len(names), plan.n_genes)))
    index = pd.Index(names, name="patient_id")
    bulk = pd.DataFrame(
        1e6 * made / made.sum(axis=1, keepdims=True), index=index, columns=list(plan.genes.genes)
    )
    z = (np.array(tumour) - np.mean(tumour)) / np.std(tumour)
    time, lost = rng.exponential(30 * np.exp(-HAZARD * z)), rng.exponential(60, size=len(z))
    clinical = pd.DataFrame(
        {"arm": arms, "months": np.minimum(time, lost) + 0.01, "death": (time <= lost).astype(int), "tumour": tumour},
        index=index,
    )  # fmt: skip
    order = rng.permutation(len(names))
    for name, table in (("bulk", bulk), ("clinical", clinical)):
        table.to_csv(folder / f"{name}.csv")
        table.iloc[order].set_axis(index).to_csv(folder / f"shuffled-{name}.csv")


def measure_painted(parameters: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """Whole runs from pictures: slides an hour, and what the three analyses say, also of shuffled patients."""
    from hespotex.analysis.cohort import cohort
    from hespotex.config import Machine
    from hespotex.pipeline import predict
    from hespotex.predicting import SlideOptions

    with timed() as making:
        model, slides = painted_model(parameters, work)
    folder, out = slides.parent, work / f"predicted-{parameters['slides']}"
    shutil.rmtree(out, ignore_errors=True)
    with timed() as spent:
        predict(
            model, slides, out, options=SlideOptions(all_genes=True), machine=Machine(threads=1)
        )
    predicted = peak_memory_gb()
    truth = pd.read_csv(folder / "truth.csv").set_index("gene")["programme"]
    of_tissues = set(truth.index[truth.isin(TISSUES)])
    found: dict[str, Any] = {}
    for label, prefix in (("as painted", ""), ("shuffled", "shuffled-")):
        with timed() as summing:
            made = cohort(
                out, work / f"{prefix}painted-cohort", clinical=folder / f"{prefix}clinical.csv"
            )
        found[label] = {
            kind: _analysed(made.paths.h5ad, kind, folder, prefix, work, of_tissues)
            for kind in _WAYS
        }
    return {
        **spent.as_dict(), "making_s": making.wall, "cohort_s": summing.wall, "slides": made.n_rows,
        "spots": int(pd.read_csv(out / "slides.csv")["n_spots"].sum()), "analyses": found,
        "tissue_genes": len(of_tissues), "predict_peak_gb": predicted, "peak_gb": peak_memory_gb(),
    }  # fmt: skip


def _analysed(
    table: Path, kind: str, folder: Path, prefix: str, work: Path, of_tissues: set[str]
) -> dict[str, Any]:
    """One call of `associate`, page and pictures included; slides that are unlike count, too."""
    from hespotex.report.association import associate

    options = dict(_WAYS[kind])
    if kind == "bulk":
        options["bulk"] = str(folder / f"{prefix}bulk.csv")
    with timed() as spent:
        found = associate(table, work / f"{prefix}by-{kind}", with_unlike=True, **options).found  # type: ignore[arg-type]
    hits = found.table.loc[found.table["q_value"] <= 0.05, "feature"].tolist()
    return {
        "found": len(hits), "of_tissues": len(of_tissues.intersection(hits)), "of": len(found.table), "features": hits, "patients": found.n_patients, **spent.as_dict(),
        "first": list(found.first), "sentences": list(found.findings), "numbers": _plain(found.numbers),
    }  # fmt: skip


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in numbers.items() if isinstance(v, (int, float, dict))}
