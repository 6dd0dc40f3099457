"""Columns of a prediction's spots: which are shown, under which title, and how a value is told; reads an open h5ad."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.localize.sections import PREFIX

HIDDEN: Final = frozenset(
    {
        keys.SECTION_ID,
        keys.PATIENT_ID,
        keys.ARRAY_ROW,
        keys.ARRAY_COL,
        keys.ARRAY_X,
        keys.ARRAY_Y,
        keys.OOD,
    }
)
_TITLES: Final = {
    keys.PREDICTED_DEPTH: ("Depth, predicted", "expected total count over the panel"),
    keys.MEASURED_DEPTH: ("Depth, measured", "total count over the panel"),
    keys.OOD_SCORE: ("Unlike score", "above 1: unlike the training"),
    keys.NUCLEI: ("Nuclei", "nuclei in the square around the spot"),
    keys.NUCLEI_PER_MM2: ("Nuclei per mm²", "nuclei per mm²"),
}
MOST_CATEGORIES: Final = 60


def title_of(column: str) -> tuple[str, str]:
    """Title and unit of a column of the spots."""
    of_whom = {"domain_": "Domains of ", PREFIX: "Evidence of localize: "}
    for prefix, words in of_whom.items():
        if column.startswith(prefix):
            return words + column.removeprefix(prefix).replace("_", " "), ""
    return _TITLES.get(column, (column, ""))


def as_text(value: Any) -> str:
    """A value as it is told of a spot."""
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    return str(value)[:80]


def columns_of_spots(handle: Any) -> pd.DataFrame:
    """obs, and of obsm what has few numbers a spot."""
    from anndata.io import read_elem

    obs: pd.DataFrame = read_elem(handle["obs"])
    tables = {
        name: read_elem(handle[f"obsm/{name}"])
        for name in handle["obsm"]
        if name not in (keys.SPATIAL, keys.SPATIAL_COMMON_UM, keys.GENE_SETS, keys.GENE_SETS_MEASURED)
    }  # fmt: skip
    for name, table in tables.items():
        wide = np.asarray(table)
        if wide.ndim == 2 and wide.shape[1] <= MOST_CATEGORIES and wide.dtype.kind in "iufb":
            for k in range(wide.shape[1]):
                obs[f"{name} {k + 1}" if wide.shape[1] > 1 else name] = wide[:, k]
    return obs


def looked_for(handle: Any) -> npt.NDArray[np.bool_]:
    """(G,) genes that the section's assay looked for."""
    name = f"var/{keys.MEASURED}"
    if name in handle:
        return np.asarray(handle[name][()], bool)
    return np.ones(handle[f"layers/{keys.COMPOSITION}"].shape[1], bool)
