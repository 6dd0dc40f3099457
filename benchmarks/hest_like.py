"""A made set in the layout of HEST-1k, with features of a pathology encoder beside it as TRIDENT writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.synthetic import PITCH_UM, made_sections
from hespotex.models.types import EncodedSection
from hespotex.storage.atomic import atomic_path

MPP: Final = 0.5
TILE_PX: Final = 224
_MARGIN_PX: Final = 1000.0


def write_hest_like(
    folder: Path, sections: int, *, spots: int, genes: int, dim: int, per_patient: int = 2
) -> Path:
    """Write st/ID.h5ad, metadata/ID.json and features/ID.h5 of every section, and their manifest, which is returned.

    Sections are made one at a time; each depends on its own number alone, so a smaller set is the beginning of a larger one.
    What is there already is kept.

    Args:
        sections: of which `per_patient` at a time are of one patient.
        spots: of a section.
        dim: features of a spot.
    """
    for name in ("st", "metadata", "features"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    patients = [f"P{number // per_patient:03d}" for number in range(sections)]
    known = len(list((folder / "features").glob("*.h5")))
    made = made_sections(
        [spots] * sections, genes, dim=dim, patients=patients, sides=1, first=min(known, sections)
    )
    for number, item in enumerate(made, start=known):
        _write(folder, f"M{number:03d}", item)
    rows = [
        f"M{i:03d},{p},,st/M{i:03d}.h5ad,hest,features/M{i:03d}.h5" for i, p in enumerate(patients)
    ]
    manifest = folder / f"sections-{sections}.csv"
    lines = ["section_id,patient_id,slide,expression,format,features", *rows]
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def _write(folder: Path, name: str, item: EncodedSection) -> None:
    import anndata
    import h5py
    import pandas as pd

    section = item.section
    xy_px0 = section.xy_um / MPP + _MARGIN_PX
    table = anndata.AnnData(
        section.counts.astype(np.float32),
        obs=pd.DataFrame(index=section.barcodes),
        var=pd.DataFrame(index=section.genes),
        obsm={"spatial": xy_px0},
    )
    table.write_h5ad(folder / "st" / f"{name}.h5ad", compression="gzip")
    metadata: dict[str, Any] = {
        "pixel_size_um_estimated": MPP,
        "inter_spot_dist": PITCH_UM,
        "spot_diameter": 55.0,
        "st_technology": "Visium",
    }
    (folder / "metadata" / f"{name}.json").write_text(json.dumps(metadata), encoding="utf-8")
    path = (
        folder / "features" / f"{name}.h5"
    )  # the last file of a section, so that it tells how many are whole
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["features"] = item.features[:, 0]
        file["coords"] = (xy_px0 - TILE_PX / 2).astype(np.float64)
        file["coords"].attrs["patch_size_level0"] = TILE_PX
