"""Further columns of spots that are carried along: their names and kinds of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from hespotex.storage.safe_names import changed_names, safe_names

# anndata and pandas use these for the names of the spots.
_OF_LIBRARIES: Final = ("_index", "index")
_NUMBERS: Final = "biuf"


def writable_columns(
    columns: Iterable[tuple[object, pd.Series]],
    reserved: Iterable[str] = (),
    known: Mapping[str, object] | None = None,
) -> tuple[dict[str, pd.Series], str]:
    """Columns that h5ad, Zarr, Parquet and R can hold, as pairs of name and values; and what was renamed, in words.

    Names are `safe_names`. Numbers and truth values stay; everything else becomes categories of text, in which
    missing values stay missing.

    Args:
        columns: in order of precedence; of two that are equal in name and values one is kept.
        reserved: names that are written with other values, so that a column of the user's gets another one.
        known: what stands under some reserved names; a column of just these values is left out.

    Returns:
        (columns by name, sentence); the sentence is empty where no name was changed.
    """
    names: list[str] = []
    values: list[pd.Series] = []
    held = {name.casefold(): value for name, value in (known or {}).items()}
    for label, column in columns:
        name = str(label)
        same = [v for n, v in zip(names, values, strict=True) if n == name]
        if any(_equal(column, other) for other in same):
            continue
        if name.casefold() in held and _equal(column, held[name.casefold()]):
            continue
        names.append(name)
        values.append(column)
    legal = safe_names(
        _apart(names, reserved), taken=(*_OF_LIBRARIES, *reserved), fallback="column"
    )
    made = {name: plain_values(column) for name, column in zip(legal, values, strict=True)}
    return made, changed_names(names, legal)


def _apart(names: Sequence[str], reserved: Iterable[str]) -> list[str]:
    """Reserved names say that they are the user's own, which a bare number would not."""
    ours = {name.casefold() for name in (*_OF_LIBRARIES, *reserved)}
    return [f"{name.strip('_')}_as_given" if name.casefold() in ours else name for name in names]


def plain_values(column: pd.Series) -> pd.Series:
    """Numbers and truth values as they are; everything else as categories of text, missing ones kept."""
    kind = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in _NUMBERS:
        return column
    if pd.api.types.is_extension_array_dtype(kind) and not isinstance(kind, pd.CategoricalDtype):
        if pd.api.types.is_bool_dtype(kind) and not column.isna().any():
            return column.astype(bool)
        if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind):
            if column.isna().any() or pd.api.types.is_float_dtype(kind):
                return pd.Series(column.to_numpy(np.float64, na_value=np.nan), index=column.index)
            return pd.Series(column.to_numpy(), index=column.index)
    array = column.to_numpy()
    if array.dtype.kind in _NUMBERS:
        return pd.Series(array, index=column.index)
    series = pd.Series(array, dtype=object)
    # A list or an array is a value; HDF5 ends a text at a NUL.
    texts = series.astype(str).str.replace("\x00", "", regex=False)
    return pd.Series(pd.Categorical(texts.where(series.notna(), None)), index=column.index)


def _equal(column: pd.Series, other: object) -> bool:
    """Whether all values are equal, as text where they are no numbers."""
    mine = plain_values(column)
    theirs = pd.Series(other, index=column.index) if not isinstance(other, pd.Series) else other
    theirs = plain_values(theirs)
    if all(isinstance(v.dtype, np.dtype) for v in (mine, theirs)):
        return bool(np.array_equal(mine, theirs, equal_nan=True))
    return mine.astype(str).tolist() == theirs.astype(str).tolist()
