"""sections/ID.h5ad of `localize`: a slide's spots with their scores and no gene, for `view`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.storage.atomic import atomic_path

# Of obs; then the words on them in uns["hespotex"].
PREFIX: Final = "localize_"
WORDS: Final = "localize"
_SCORES: Final = ("z", "necessity", "sufficiency", "stability", "shown")


def write_section(path: Path, file: PredictionFile, scores: pd.DataFrame, words: str) -> None:
    """Write the spots of a prediction, its picture, verdict and record, and scores as columns `localize_z` and so on.

    Args:
        path: the h5ad; replaced as a whole.
        file: the prediction.
        scores: (n,) rows of `spots_table`.
        words: the evidence, and for what it is; they stand with every score.
    """
    from anndata import AnnData
    from anndata.io import read_elem

    with file.opened() as table:
        obs, var, uns, obsm = (read_elem(table[name]) for name in ("obs", "var", "uns", "obsm"))
    for name in _SCORES:
        values = scores[name].to_numpy()
        obs[f"{PREFIX}{name}"] = _yes_no(values) if values.dtype == bool else values
    uns[keys.UNS][WORDS] = words
    empty = np.zeros((len(obs), 0), np.float32)
    written = AnnData(X=empty, obs=obs, var=var.iloc[:0], uns=uns, obsm=obsm)
    written.layers[keys.COMPOSITION] = empty
    with atomic_path(path) as temporary:
        written.write_h5ad(temporary)


def _yes_no(values: Any) -> Any:
    return pd.Categorical(np.where(values, "yes", "no"), categories=["no", "yes"])
