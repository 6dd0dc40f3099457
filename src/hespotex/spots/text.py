"""Owns how text tables are read: plain or gzip, any line end, BOM; faults are named with their place."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.errors import SpotTableError

_GZIP = b"\x1f\x8b"


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 text file, gzip or not (told by its first bytes, not by its name).

    Raises:
        SpotTableError: missing, unreadable, a folder, empty, cut short, or not text; also for faults
            that appear while the body of the `with` reads.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(2)
            raw.seek(0)
            if not head:
                raise SpotTableError(f"expected a table in {path}, found an empty file")
            binary = gzip.GzipFile(fileobj=raw) if head == _GZIP else raw
            with io.TextIOWrapper(binary, encoding="utf-8-sig", newline=None) as stream:
                yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SpotTableError(
            f"expected a whole gzip file at {path}, found one that is cut short or damaged ({error}); copy it again"
        ) from error
    except UnicodeDecodeError as error:
        raise SpotTableError(
            f"expected UTF-8 text in {path}, found byte {error.object[error.start]:#04x} that is not; "
            "save the table as UTF-8 text"
        ) from error
    except OSError as error:
        raise SpotTableError(
            f"expected a readable file at {path}, found: {error.strerror or error}"
        ) from error


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a small table with header as text; tab or comma, whichever the header has.

    Args:
        path: the file, gzip or not.
        required: columns that must be there.

    Returns:
        All columns as stripped strings; missing cells are "".

    Raises:
        SpotTableError: a column is missing or doubled, a row has another number of cells, no row.
    """
    with open_text(path) as stream:
        header = stream.readline()
        separator = "\t" if "\t" in header or "," not in header else ","
        names = [cell.strip().strip('"') for cell in header.rstrip("\n").split(separator)]
        _check_header(path, names, required, separator)
        with table_errors(path, len(names)):
            table: pd.DataFrame = pd.read_csv(
                stream,
                sep=separator,
                names=names,
                index_col=False,
                dtype=str,
                keep_default_na=False,
            )
    if table.empty:
        raise SpotTableError(f"expected rows below the header in {path}, found none")
    for name in names:
        table[name] = table[name].fillna("").str.strip()
    return table


@contextmanager
def table_errors(path: Path, width: int) -> Iterator[None]:
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
        raise SpotTableError(f"expected rows below the header in {path}, found none") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise SpotTableError(
            f"expected {width} cells in every row of {path}, found: {str(error).strip()}; "
            "the file may be cut or edited, make it again"
        ) from error
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        raise SpotTableError(f"expected numbers in {path}, found: {error}") from error


def _check_header(
    path: Path, names: Sequence[str], required: Sequence[str], separator: str
) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        kind = "tab" if separator == "\t" else "comma"
        raise SpotTableError(
            f"expected the columns {', '.join(required)} in {path}, found {', '.join(names)[:200]} "
            f"(separated by {kind}s); add {', '.join(missing)}, or save the table separated by tabs"
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SpotTableError(
            f"expected every column once in {path}, found {', '.join(doubled)} more than once"
        )


def number_column(table: pd.DataFrame, name: str, path: Path) -> npt.NDArray[np.float64]:
    """A column of finite numbers.

    Raises:
        SpotTableError: names the first cell that is no number, with its row (the header is row 1).
    """
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise SpotTableError(
            f"expected numbers in column {name} of {path}, found {table[name].iloc[row]!r} in row {row + 2}"
            f" ({int(bad.sum())} such cells)"
        )
    return values
