"""How the ridge baseline's maps lie in a prediction file: factors in obsm and varm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.ridge_maps import RidgeMaps
from hespotex.storage.hdf5 import open_h5

if TYPE_CHECKING:
    from anndata import AnnData


def add_ridge(table: AnnData, maps: RidgeMaps | None) -> None:
    """Put the factors, if there are any, into a table of n spots and G genes."""
    if maps is None:
        return
    table.obsm[keys.RIDGE] = maps.spots
    table.varm[keys.RIDGE_LOG1P] = maps.log1p
    table.varm[keys.RIDGE_COMPOSITION] = maps.composition


def read_ridge(path: Path) -> RidgeMaps | None:
    """The factors in a prediction file; None where it has none.

    Raises:
        RunError: the file is missing or cut short.
    """
    names = (f"obsm/{keys.RIDGE}", f"varm/{keys.RIDGE_LOG1P}", f"varm/{keys.RIDGE_COMPOSITION}")
    with open_h5(path, "a prediction of hespotex in", RunError, "predict again") as file:
        if any(name not in file for name in names):
            return None
        return RidgeMaps(*(np.asarray(file[name][()], np.float32) for name in names))
