"""How trust in a gene lies in a prediction file: columns of var and entries of uns["hespotex"]; pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.evaluation.regions import SIZES
from hespotex.evaluation.trust import LEVEL, Extras
from hespotex.export.claims_store import claim_columns, claim_record

HALF_WIDTHS = tuple(f"{keys.HALF_WIDTH}{size}" for size in SIZES)


def gene_columns(extras: Extras) -> dict[str, Any]:
    """Columns of var, by name; those that a prediction does not carry are left out."""
    columns: dict[str, Any] = {}
    if extras.claims is not None:
        columns |= claim_columns(extras.claims)
    elif extras.grades is not None:
        columns[keys.GRADE] = pd.Categorical(list(extras.grades))
    if extras.level_grades is not None:
        columns[keys.LEVEL_GRADE] = pd.Categorical(list(extras.level_grades))
    return columns | _training_columns(extras) | half_width_columns(extras)


def _training_columns(extras: Extras) -> dict[str, npt.NDArray[np.float32]]:
    """What a cohort needs of the training and of its ridge, by name of its column; a part that is not known is left out."""
    known = {
        keys.POOLED_SHARE: extras.pooled_share,
        keys.UPPER_QUARTILE: extras.upper_quartile,
        keys.RIDGE_LEVEL: extras.ridge_level,
    }
    return {name: np.asarray(v, np.float32) for name, v in known.items() if v is not None}


def half_width_columns(extras: Extras) -> dict[str, npt.NDArray[np.float32]]:
    """The half widths of composition by name of their column; empty without them."""
    if extras.half_width is None:
        return {}
    return dict(zip(HALF_WIDTHS, extras.half_width, strict=True))


def gene_record(extras: Extras) -> dict[str, Any]:
    """Entries of uns["hespotex"] that the columns rest on."""
    record = {} if extras.claims is None else claim_record(extras.claims)
    return record if extras.half_width is None else {**record, keys.HALF_WIDTH_LEVEL: LEVEL}


def read_half_width(var: pd.DataFrame) -> npt.NDArray[np.float32] | None:
    """(S, G) of the columns; None in a file of a model without intervals of composition."""
    if not set(HALF_WIDTHS) <= set(var.columns):
        return None
    return np.asarray(var[list(HALF_WIDTHS)].to_numpy(np.float32).T)


def read_column(var: pd.DataFrame, name: str) -> npt.NDArray[np.float32] | None:
    """(G,) of a column of numbers; None in a file without it."""
    return var[name].to_numpy(np.float32) if name in var else None


def read_words(var: pd.DataFrame, name: str) -> list[str] | None:
    """(G,) of a column of words; None in a file without it."""
    return var[name].astype(str).tolist() if name in var else None
