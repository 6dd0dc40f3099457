"""Owns how sparse matrices are read from HDF5 and MatrixMarket with little memory; positions as int32.

A count of a spot takes eight bytes here; libraries take twenty and more on the way.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.errors import SpotTableError
from hespotex.text_files import Packed, open_binary, open_text

_BLOCK = 2**22
_ROWS = 2_000_000

Values = npt.NDArray[np.int32] | npt.NDArray[np.float32] | npt.NDArray[np.float64]


def smallest_exact(values: npt.NDArray[Any]) -> Values:
    """As int32 or float32 where that changes no value, else float64; NaN stays NaN."""
    if values.dtype.kind in "iub":
        if not len(values) or (int(values.min()) >= -(2**31) and int(values.max()) < 2**31):
            return np.asarray(values, dtype=np.int32)
        return values.astype(np.float64)
    # The largest float32 below 2**31: what lies beyond would wrap around.
    if len(values) and np.isfinite(values).all() and np.abs(values).max() < 2**31 - 128:
        whole = values.astype(np.int32)
        if np.array_equal(whole, values):
            return whole
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    return short if np.array_equal(short, values, equal_nan=True) else values.astype(np.float64)


def read_compressed(
    data: Any, indices: Any, indptr: Any, shape: tuple[int, int], *, by_column: bool = False
) -> sparse.csr_matrix:
    """A compressed matrix from data sets of HDF5 (or Zarr), block by block.

    Args:
        data, indices, indptr: as CSR stores them, or CSC with `by_column`.
        shape: rows, columns.
        by_column: stored by columns.

    Raises:
        ValueError: the three do not belong together.
    """
    n = int(data.shape[0])
    values: Values = np.empty(n, dtype=np.int32)
    places = np.empty(n, dtype=np.int32)
    for start in range(0, n, _BLOCK):
        block = smallest_exact(np.asarray(data[start : start + _BLOCK]))
        if (
            block.dtype != values.dtype
            and np.promote_types(block.dtype, values.dtype) != values.dtype
        ):
            values = values.astype(np.promote_types(block.dtype, values.dtype))
        values[start : start + len(block)] = block
        places[start : start + _BLOCK] = indices[start : start + _BLOCK]
    kind = sparse.csc_matrix if by_column else sparse.csr_matrix
    matrix = kind((values, places, np.asarray(indptr[:], dtype=np.int64)), shape=shape)
    matrix.check_format(full_check=True)
    return sparse.csr_matrix(matrix)


def read_matrix_market(path: Path | Packed) -> sparse.csr_matrix:
    """A MatrixMarket file (features x barcodes, gzip or not) as CSR of barcodes x features.

    Raises:
        SpotTableError: no sparse MatrixMarket file, cut short, or entries outside of its shape.
    """
    with open_text(path) as stream:
        head = stream.readline()
        n_lines = 1
        while (line := stream.readline()).startswith("%"):
            n_lines += 1
    words = head.lower().split()
    if words[:3] != ["%%matrixmarket", "matrix", "coordinate"] or words[3:4] not in (
        ["integer"],
        ["real"],
    ):
        raise SpotTableError(
            f"expected a sparse MatrixMarket file at {path} (of integer or real numbers), found {head[:60]!r}"
        )
    try:
        n_features, n_barcodes, n = (int(word) for word in line.split())
        # A place beyond 32 bits or a line of four numbers would be cut with no more than a warning.
        with np.errstate(invalid="raise"), warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return _read_entries(path, n_lines + 1, (n_barcodes, n_features), n)
    except (ValueError, ArithmeticError, MemoryError, pd.errors.ParserWarning) as error:
        raise SpotTableError(
            f"expected a whole MatrixMarket file at {path}, found: {str(error).strip()}; copy it again"
        ) from error


def _read_entries(
    path: Path | Packed, skipped: int, shape: tuple[int, int], n: int
) -> sparse.csr_matrix:
    rows, columns = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    values: Values = np.empty(n, dtype=np.int32)
    at, sorted_so_far = 0, True
    in_row = np.zeros(shape[0], dtype=np.int64)
    with open_binary(path) as stream:
        for _ in range(skipped):
            stream.readline()
        reader = pd.read_csv(
            stream, sep=r"\s+", header=None, names=["f", "b", "v"], chunksize=_ROWS, engine="c",
            dtype={"f": np.int32, "b": np.int32, "v": np.float64}, index_col=False,
        ) if n else ()  # fmt: skip
        for part in reader:
            end = at + len(part)
            if end > n:
                break
            block = smallest_exact(part["v"].to_numpy())
            wider = np.promote_types(block.dtype, values.dtype)
            if wider != values.dtype:
                values = values.astype(wider)
            rows[at:end], columns[at:end] = part["b"].to_numpy() - 1, part["f"].to_numpy() - 1
            values[at:end] = block
            for found, limit in ((rows[at:end], shape[0]), (columns[at:end], shape[1])):
                if found.min() < 0 or found.max() >= limit:
                    raise ValueError(f"entries outside of its {shape[1]:,} x {shape[0]:,}")
            # From the last entry of the part before: memory for one part alone.
            sorted_so_far &= bool((np.diff(rows[max(at - 1, 0) : end]) >= 0).all())
            in_row += np.bincount(rows[at:end], minlength=shape[0])
            at = end
        else:
            end = at
    if end != n:
        raise ValueError(
            f"{'more than ' if end > n else ''}{min(end, n):,} entries where its head says {n:,}"
        )
    if not sorted_so_far:
        return sparse.csr_matrix(sparse.coo_matrix((values, (rows, columns)), shape=shape))
    del rows
    indptr = np.concatenate([[0], np.cumsum(in_row)])
    return sparse.csr_matrix((values, columns, indptr), shape=shape)
