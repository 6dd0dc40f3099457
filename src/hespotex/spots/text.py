"""How tables and JSON of spots are read from text files; faults are named with their place."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.errors import SpotTableError
from hespotex.storage.disk_errors import DAMAGED, cause_of, remedy_of
from hespotex.storage.file_kinds import missing_bytes, read_kind
from hespotex.storage.geojson import json_remedy
from hespotex.storage.text_files import Packed, open_text

_TRUTH = {
    **dict.fromkeys(("1", "true", "t", "yes", "y"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n"), False),
}


def read_table(
    path: Path | Packed, required: Sequence[str], *, unless_header: str | None = None
) -> pd.DataFrame:
    """Read a small table as text; tab or comma, whichever the first row has.

    Args:
        path: the file, gzip or not.
        required: columns that must be there.
        unless_header: the first name of a header; where the file does not begin with it, it has no
            header, and its columns are `required`.

    Returns:
        All columns as stripped strings; missing cells are "".

    Raises:
        SpotTableError: a column is missing or doubled, a row has another number of cells, no row.
    """
    with open_text(path) as stream:
        first, *below = (stream.readline() for _ in range(3))
    separator = "\t" if "\t" in first or "," not in first else ","
    names = [cell.strip().strip('"') for cell in first.rstrip("\n").split(separator)]
    widths: set[int] = set()
    with suppress(csv.Error):  # said of the row below
        widths = {len(cells) for cells in csv.reader(filter(None, below), delimiter=separator)}
    if widths == {len(names) + 1}:
        names = ["", *names]  # R writes no name above the names of rows
    headless = unless_header is not None and unless_header not in names
    if headless:
        if len(names) != len(required):
            raise SpotTableError(
                expected=f"{len(required)} columns ({', '.join(required)}) in {path}",
                found=f"{len(names)} ({first.strip()[:40]!r})",
                remedy="save the table with these columns, separated by commas",
            )
        names = list(required)
    _check_header(path, names, required, separator)
    with open_text(path) as stream:
        if not headless:
            stream.readline()
        with table_errors(path, len(names)):
            table: pd.DataFrame = pd.read_csv(
                stream,
                sep=separator,
                names=names,
                index_col=False,
                dtype=str,
                keep_default_na=False,
            )
    table.attrs["first_row"] = 1 if headless else 2
    if table.empty:
        raise SpotTableError(
            expected=f"rows below the header in {path}", found="none", remedy="get the file again"
        )
    for name in names:
        table[name] = table[name].fillna("").str.strip()
    return table


@contextmanager
def table_errors(path: Path | Packed, width: int) -> Iterator[None]:
    """Turn what pandas says of a malformed table into one line that names the file.

    Raises:
        SpotTableError: no rows, a row with another number of cells, or text where a number belongs.
    """
    try:
        with warnings.catch_warnings():
            # pandas cuts rows that are too long and only warns
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.EmptyDataError as error:
        raise SpotTableError(
            expected=f"rows below the header in {path}", found="none", remedy="get the file again"
        ) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise SpotTableError(
            expected=f"{width} cells in every row of {path}",
            cause=str(error).strip(),
            remedy="the file may be cut or edited, make it again",
        ) from error
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        raise SpotTableError(
            expected=f"numbers in {path}", cause=error, remedy="correct it there"
        ) from error


def _check_header(
    path: Path | Packed, names: Sequence[str], required: Sequence[str], separator: str
) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        kind = "tab" if separator == "\t" else "comma"
        raise SpotTableError(
            expected=f"the columns {', '.join(required)} in {path}",
            found=f"{', '.join(names)[:200]} (separated by {kind}s)",
            remedy=f"add {', '.join(missing)}, or save the table separated by tabs",
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SpotTableError(
            expected=f"every column once in {path}",
            found=f"{', '.join(doubled)} more than once",
            remedy="keep one of them",
        )


def number_column(table: pd.DataFrame, name: str, path: Path | Packed) -> npt.NDArray[np.float64]:
    """A column of finite numbers.

    Raises:
        SpotTableError: names the first cell that is no number, with its row in the file.
    """
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise SpotTableError(
            expected=f"numbers in column {name} of {path}",
            found=(
                f"{str(table[name].iloc[row])!r} in row {row + table.attrs.get('first_row', 1)} ("
                f"{int(bad.sum())} such cells)"
            ),
            remedy="write a number into each, or leave these rows out",
        )
    return values


def truth_column(table: pd.DataFrame, name: str, path: Path | Packed) -> npt.NDArray[np.bool_]:
    """A column of 0 and 1, or of truth values as Python, R and spreadsheets write them.

    Raises:
        SpotTableError: names the first cell that is neither.
    """
    known = truth_values(table[name])
    unknown = known.isna().to_numpy()
    if unknown.any():
        row = int(np.argmax(unknown))
        raise SpotTableError(
            expected=f"0 or 1 in column {name} of {path}",
            found=f"{str(table[name].iloc[row])!r} in row {row + table.attrs.get('first_row', 1)}",
            remedy="write 0 and 1, or true and false",
        )
    return known.to_numpy(dtype=bool)


def truth_values(column: pd.Series) -> pd.Series:
    """Truth values as `truth_column` reads them, with missing values for what is none."""
    text = column.astype(str).astype(object).str.strip().str.lower()
    known: pd.Series = text.str.replace(r"\.0*$", "", regex=True).map(_TRUTH)
    return known


def read_json(path: Path | Packed) -> Mapping[str, Any]:
    """Read a JSON object.

    Raises:
        SpotTableError: unreadable, no JSON, or no object.
    """
    with open_text(path, "JSON") as stream:
        text = stream.read()
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpotTableError(
            expected=f"JSON in {path}", cause=error, remedy=json_remedy(error)
        ) from error
    if not isinstance(values, dict):
        raise SpotTableError(
            expected=f"a JSON object in {path}",
            found=type(values).__name__,
            remedy="get the file as it was written, or leave it out",
        )
    return values


def read_parquet(path: Path | Packed) -> pd.DataFrame:
    """Read a table of parquet.

    Raises:
        SpotTableError: another kind of file, cut short or damaged.
    """
    try:
        if isinstance(path, Packed):
            return pd.read_parquet(io.BytesIO(path.content))
        kind = read_kind(path)
        if kind is not None and kind.name != "parquet":
            raise SpotTableError(expected=f"a whole parquet file at {path}", **kind.fields(path))
        return pd.read_parquet(path)
    except SpotTableError:
        raise
    except Exception as error:  # arrow raises its own kinds
        missing = None
        if not isinstance(path, Packed) and remedy_of(error) is None:
            missing = missing_bytes(path)
        if missing is not None:
            found = f"one that is cut short: {missing}; copy it again"
        else:
            found = f"one that cannot be read ({cause_of(error)}); {remedy_of(error) or DAMAGED}"
        raise SpotTableError(expected=f"a whole parquet file at {path}", found=found) from error


def positive_number(values: Mapping[str, Any], key: str, path: Path | Packed) -> float | None:
    """A number above 0 of a JSON object; None where the key is absent or null.

    Raises:
        SpotTableError: something else stands there.
    """
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise SpotTableError(
            expected=f"{key} above 0 in {path}",
            found=f"{value!r}",
            remedy="correct it there, or remove it if it is not known",
        )
    return float(value)
