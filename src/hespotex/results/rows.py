"""How the tables of a run, genes.csv and gene_sets.csv, are read back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from hespotex import keys

TEXT_COLUMNS: Final = (keys.GRADE, keys.EVIDENCE, keys.SCOPE)
_NAMES: Final = ("section_id", "gene", "gene_set")


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of such a table; a gene or set called NA stays a name, an empty score is NaN."""
    columns = pd.read_csv(path, nrows=0).columns
    words = (*_NAMES, *TEXT_COLUMNS)
    text = [name for name in columns if name in words or name.startswith("model_grade")]
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(text, str),
        keep_default_na=False,
        na_values={name: [""] for name in columns if name not in text},
        float_precision="round_trip",
    )
