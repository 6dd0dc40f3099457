"""A cohort on disk as a user has one, without slides: h5ad tables, features files and a manifest.

The real commands run on it in a second or two, since nothing has to be encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd

from helpers.toy_cohort import encoded_section
from hespotex.config import RunConfig
from hespotex.models.types import EncodedSection

SMALL = RunConfig.from_values(
    {
        "panel": {"n_top": 20},
        "model": {"epochs": 2, "ensemble": 2, "hidden": 16, "n_components": 8},
    }
)
_TILE_PX = 100


def toy_items(n_side: int = 9) -> list[EncodedSection]:
    """Two patients with two sections each, one patch scale."""
    plan = (
        ("A1", "A", 0, False),
        ("A2", "A", 1, False),
        ("B1", "B", 2, True),
        ("B2", "B", 3, True),
    )
    items = [encoded_section(i, p, seed, hexagonal=h, n_side=n_side) for i, p, seed, h in plan]
    return [replace(item, features=item.features[:, :1]) for item in items]


def with_counts(item: EncodedSection, dense: np.ndarray) -> EncodedSection:
    """The section with other counts."""
    from scipy import sparse

    counts = sparse.csr_matrix(dense.astype(np.float32))
    return replace(item, section=replace(item.section, counts=counts))


def write_cohort(folder: Path, items: Sequence[EncodedSection], **columns: Sequence[str]) -> Path:
    """Write the sections and their manifest; `columns` are further columns of it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for item in items:
        section = item.section
        assert section.counts is not None
        anndata.AnnData(
            section.counts,
            obs=pd.DataFrame(index=section.barcodes.astype(object)),
            var=pd.DataFrame(index=np.asarray(section.genes, dtype=object)),
            obsm={"spatial": section.xy_px0},
        ).write_h5ad(folder / f"{section.section_id}.h5ad")
        with h5py.File(folder / f"{section.section_id}.features.h5", "w") as file:
            file["features"] = item.features.reshape(len(item.features), -1)
            file["coords"] = np.round(section.xy_px0 - _TILE_PX / 2).astype(np.int64)
            file["coords"].attrs["patch_size_level0"] = _TILE_PX
        rows.append(
            {
                "section_id": section.section_id,
                "patient_id": section.patient_id,
                "slide": "",
                "expression": f"{section.section_id}.h5ad",
                "format": "h5ad",
                "mpp": "0.5",
                "spot_pitch_um": "100",
                "spot_diameter_um": "55",
                "features": f"{section.section_id}.features.h5",
            }
        )
    manifest = folder / "sections.csv"
    pd.DataFrame(rows).assign(**columns).to_csv(manifest, index=False)
    return manifest
