"""Painted tissue in the shape of what people have: folders of Space Ranger, slides of a cohort with a clinical table."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from hespotex.datasets import PaintedPatient, PaintedPlan, SectionArrays, write_cohort


def visium(folder: Path, n: int = 3) -> Path:
    """Sections V1, V2, ... of patients P1, P2, ...: an image and a folder `outs` each."""
    plan = PaintedPlan(
        seed=5,
        patients=tuple(PaintedPatient(f"P{i + 1}") for i in range(n)),
        sections_per_patient=1,
        lattice="hexagonal",
    )
    for number, section in enumerate(plan.sections(), start=1):
        _space_ranger(folder / f"V{number}", section.arrays)
    return folder


def _space_ranger(folder: Path, arrays: SectionArrays) -> None:
    outs = folder / "outs"
    (outs / "spatial").mkdir(parents=True, exist_ok=True)
    Image.fromarray(arrays.image).save(folder / "image.tif", compression="tiff_lzw")
    genes, n = arrays.truth.genes, len(arrays.counts)
    barcodes = [f"{k:016d}-1" for k in range(n)]
    matrix = sparse.csr_matrix(arrays.counts)
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"], group["indices"], group["indptr"] = (
            matrix.data.astype("i4"),
            matrix.indices.astype("i8"),
            matrix.indptr.astype("i8"),
        )
        group["shape"] = np.array([len(genes), n], dtype="i4")
        group["features/id"] = group["features/name"] = np.array(genes, dtype="S")
        group["features/feature_type"] = np.array(["Gene Expression"] * len(genes), dtype="S")
    spots = {
        "barcode": barcodes,
        "in_tissue": 1,
        "array_row": arrays.array_xy[:, 1],
        "array_col": arrays.array_xy[:, 0],
    }
    pixels = {"pxl_row_in_fullres": arrays.xy_px0[:, 1], "pxl_col_in_fullres": arrays.xy_px0[:, 0]}
    pd.DataFrame(spots | pixels).to_csv(outs / "spatial" / "tissue_positions.csv", index=False)
    scale = {
        "tissue_hires_scalef": 0.5,
        "tissue_lowres_scalef": 0.1,
        "spot_diameter_fullres": arrays.spot_diameter_um / arrays.mpp,
    }
    (outs / "spatial" / "scalefactors_json.json").write_text(json.dumps(scale))


def cohort(folder: Path, n_train: int = 8, n: int = 16) -> None:
    """Measured sections of some patients, bare slides of others, and what became of these: tumour shortens life."""
    rng, patients, rows = np.random.default_rng(6), [], []
    for i in range(n_train + n):
        tissue = {
            kind: float(value)
            for kind, value in zip(
                ("tumour", "immune", "stroma"), rng.normal(0, 0.8, 3), strict=True
            )
        }
        arm = "control" if i % 2 else "treated"
        if i >= n_train and arm == "treated":
            tissue["tumour"] -= 2.0
        months = rng.exponential(30 * np.exp(-0.8 * tissue["tumour"]))
        rows.append(
            {
                "patient_id": f"P{i + 1}",
                "arm": arm,
                "months": round(min(months, 60), 1),
                "death": int(months < 60),
            }
        )
        patients.append(PaintedPatient(f"P{i + 1}", tissue=tissue))
    plan = PaintedPlan(
        seed=6,
        patients=tuple(patients),
        sections_per_patient=1,
        n_genes=100,
        lattice="hexagonal",
        side_um=1050.0,
        mpp=1.0,
        one_stain=True,
    )
    table = pd.read_csv(write_cohort(plan, folder), dtype=str, keep_default_na=False)
    table[:n_train].to_csv(folder / "measured.csv", index=False)
    table[n_train:][["section_id", "patient_id", "slide"]].assign(mpp="1.0").to_csv(
        folder / "slides.csv", index=False
    )
    pd.DataFrame(rows[n_train:]).to_csv(folder / "clinical.csv", index=False)
