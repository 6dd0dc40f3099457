"""Painted sections as samples of HEST-1k: h5ad, metadata and slide as HEST writes them, with its table of all samples."""

from __future__ import annotations

import io
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import tifffile
from scipy import sparse

from hespotex.datasets import PaintedPatient, PaintedPlan


def hest_samples(folder: Path, n_patients: int = 3) -> dict[str, bytes]:
    """Files of the repository by name; two sections a patient, all of the breast.

    As in HEST the resolution that a slide states is off, here by ten: the metadata tell the pixel size.
    """
    plan = PaintedPlan(
        patients=tuple(PaintedPatient(f"P{k}") for k in range(n_patients)),
        sections_per_patient=2,
        n_genes=40,
        side_um=800.0,
    )
    files: dict[str, bytes] = {}
    rows = []
    for number, painted in enumerate(plan.sections()):
        name, arrays = f"TENX{number}", painted.arrays
        n = len(arrays.xy_px0)
        table = anndata.AnnData(
            sparse.csr_matrix(arrays.counts.astype(np.float32)),
            obs=pd.DataFrame(
                {"in_tissue": 1, "array_row": arrays.array_xy[:, 1], "array_col": arrays.array_xy[:, 0]},
                index=[f"{number}-{k}" for k in range(n)],
            ),
            var=pd.DataFrame(index=arrays.truth.genes),
            obsm={"spatial": arrays.xy_px0},
        )  # fmt: skip
        table.write_h5ad(folder / "sample.h5ad")
        files[f"st/{name}.h5ad"] = (folder / "sample.h5ad").read_bytes()
        metadata = {
            "pixel_size_um_estimated": arrays.mpp,
            "pixel_size_um_embedded": 10 * arrays.mpp,
            "inter_spot_dist": arrays.spot_pitch_um,
            "spot_diameter": arrays.spot_diameter_um,
            "st_technology": "Visium",
            "species": "Homo sapiens",
            "organ": "Breast",
            "id": name,
        }
        files[f"metadata/{name}.json"] = json.dumps(metadata).encode()
        files[f"wsis/{name}.tif"] = _slide(arrays.image, 10 * arrays.mpp)
        rows.append(
            [name, "Breast", "IDC", "Homo sapiens", "Visium", "Painted", painted.patient_id]
        )
    columns = ["id", "organ", "oncotree_code", "species", "st_technology", "dataset_title", "patient"]  # fmt: skip
    files["HEST_v1_3_0.csv"] = pd.DataFrame(rows, columns=columns).to_csv(index=False).encode()
    return files


def _slide(image: np.ndarray, mpp: float) -> bytes:
    """A tiled pyramid of two levels, its resolution in pixels a centimetre."""
    stream, per_cm = io.BytesIO(), 1e4 / mpp
    tiled = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "resolutionunit": "CENTIMETER"}  # fmt: skip
    with tifffile.TiffWriter(stream, bigtiff=True) as tiff:
        tiff.write(image, subifds=1, resolution=(per_cm, per_cm), **tiled)
        small = np.ascontiguousarray(image[::2, ::2])
        tiff.write(small, subfiletype=1, resolution=(per_cm / 2, per_cm / 2), **tiled)
    return stream.getvalue()
