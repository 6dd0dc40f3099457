"""How sparse matrices are read from HDF5 and MatrixMarket with little memory; positions as int32.

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
from hespotex.storage.disk_errors import cause_of
from hespotex.storage.text_files import Packed, open_binary, open_text

_BLOCK = 2**22
_ROWS = 2_000_000
# Values of a dense MatrixMarket file: text of eight gigabytes holds no more.
_MOST_DENSE = 2**31

Values = npt.NDArray[np.int32] | npt.NDArray[np.float32] | npt.NDArray[np.float64]


def smallest_exact(values: npt.NDArray[Any]) -> Values:
    """As int32 or float32 where that changes no value, else float64; NaN stays NaN.

    Raises:
        TypeError: the values are no numbers, or complex ones.
    """
    if values.dtype.kind not in "iubf":
        raise TypeError(f"values of type {values.dtype}, which are no counts")
    if values.dtype.kind in "iub":
        if not values.size or (int(values.min()) >= -(2**31) and int(values.max()) < 2**31):
            return np.asarray(values, dtype=np.int32)
        return values.astype(np.float64)
    # The largest float32 below 2**31: what lies beyond would wrap around.
    if values.size and np.isfinite(values).all() and float(np.abs(values).max()) < 2**31 - 128:
        whole = values.astype(np.int32)
        if np.array_equal(whole, values):
            return whole
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    return short if np.array_equal(short, values, equal_nan=True) else values.astype(np.float64)


def checked_csr(values: Any) -> sparse.csr_matrix:
    """A matrix that a library read as CSR; places outside of it would end the process in scipy's C++.

    Raises:
        ValueError: its places do not belong to its shape.
    """
    if sparse.issparse(values) and values.format in {"csr", "csc"}:
        values.check_format(full_check=True)
    return sparse.csr_matrix(values)


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
    """A MatrixMarket file (features x barcodes, packed or not) as CSR of barcodes x features.

    Lists of entries are read in blocks. A symmetric file holds one half of its matrix.

    Raises:
        SpotTableError: no MatrixMarket file, one without counts, cut short, or entries outside of its shape.
    """
    with open_text(path, "a MatrixMarket file") as stream:
        head = stream.readline()
        n_lines, line = 1, stream.readline()
        while line and (not line.strip() or line.startswith("%")):
            n_lines, line = n_lines + 1, stream.readline()
    layout, symmetric = _layout(head, path)
    try:
        # A place beyond 32 bits or a line of four numbers would be cut with no more than a warning.
        with np.errstate(invalid="raise"), warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            sizes = [int(word) for word in line.split()]
            if layout == "array":
                n_features, n_barcodes = sizes
                return _read_dense(path, n_lines + 1, (n_features, n_barcodes), symmetric)
            n_features, n_barcodes, n = sizes
            read = _read_entries(path, n_lines + 1, (n_barcodes, n_features), n)
            if not symmetric:
                return read
            return sparse.csr_matrix(read + sparse.tril(read, -1).T + sparse.triu(read, 1).T)
    except CutShortError as error:
        raise SpotTableError(
            expected=f"a whole MatrixMarket file at {path}", cause=error, remedy="copy it again"
        ) from error
    except TwiceError as error:
        raise SpotTableError(
            expected=f"one entry for every gene and spot in the MatrixMarket file {path}",
            found=error,
            remedy=(
                "remove the copies, or, where they are to be summed, write it again: "
                "scipy.io.mmwrite(FILE, scipy.io.mmread(FILE).tocsr())"
            ),
        ) from error
    except (ValueError, TypeError, ArithmeticError, MemoryError, pd.errors.ParserWarning) as error:
        raise SpotTableError(
            expected=f"a whole MatrixMarket file at {path}",
            cause=cause_of(error),
            remedy="correct it there, or write it again: scipy.io.mmwrite(FILE, matrix)",
        ) from error


class CutShortError(ValueError):
    """Fewer entries than a file itself announces."""


class TwiceError(ValueError):
    """Several entries for one place, which may be copies or parts of it."""


def _layout(head: str, path: Path | Packed) -> tuple[str, bool]:
    """The layout that a first line states, and whether half of the matrix stands for both."""
    words = head.lower().split()
    if words[:2] != ["%%matrixmarket", "matrix"] or len(words) < 5:
        raise SpotTableError(
            expected=f"a MatrixMarket file at {path}",
            found=f"{head[:60]!r} as its first line",
            remedy="give matrix.mtx",
        )
    layout, field, symmetry = words[2:5]
    if field not in {"integer", "real", "unsigned-integer", "double"}:
        why = {
            "pattern": "which says where counts are, not how many",
            "complex": "which are no counts",
        }.get(field, "which is none")
        raise SpotTableError(
            expected=f"counts in the MatrixMarket file {path} (field integer or real)",
            found=f"field {field}, {why}",
            remedy="write the counts: scipy.io.mmwrite(FILE, counts)",
        )
    if layout not in {"coordinate", "array"} or symmetry not in {"general", "symmetric"}:
        raise SpotTableError(
            expected=f"a MatrixMarket file of counts at {path} (coordinate or array, general or symmetric)",
            found=f"{layout} {symmetry}",
            remedy="write the counts: scipy.io.mmwrite(FILE, counts)",
        )
    return layout, symmetry == "symmetric"


def _read_dense(
    path: Path | Packed, skipped: int, shape: tuple[int, int], symmetric: bool
) -> sparse.csr_matrix:
    """A dense MatrixMarket file, column by column; of a symmetric one the lower half of each.

    scipy's reader ends the whole process where the head of such a file is wrong, so it is not asked.
    """
    n_features, n_barcodes = shape
    if symmetric and n_features != n_barcodes:
        raise ValueError(f"a symmetric matrix of {n_features:,} x {n_barcodes:,}")
    n = n_features * (n_features + 1) // 2 if symmetric else n_features * n_barcodes
    if not 0 <= n <= _MOST_DENSE:
        raise ValueError(f"a dense matrix of {n_features:,} x {n_barcodes:,} values")
    with open_binary(path) as stream:
        for _ in range(skipped):
            stream.readline()
        read = pd.read_csv(
            stream, sep=r"\s+", header=None, names=["v"], engine="c", comment="%", dtype=np.float64, index_col=False,
        ) if n else pd.DataFrame({"v": []})  # fmt: skip
    values = smallest_exact(read["v"].to_numpy())
    _check_number(len(values), n)
    if not symmetric:
        return sparse.csr_matrix(values.reshape(n_barcodes, n_features))
    whole = np.zeros((n_features, n_features), values.dtype)
    whole[np.triu_indices(n_features)] = values
    return sparse.csr_matrix(whole + np.triu(whole, 1).T)


def _check_number(found: int, stated: int) -> None:
    if found != stated:
        kind = CutShortError if found < stated else ValueError
        raise kind(
            f"{'more than ' if found > stated else ''}{min(found, stated):,} entries where its head says {stated:,}"
        )


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
            stream, sep=r"\s+", header=None, names=["f", "b", "v"], chunksize=_ROWS, engine="c", comment="%",
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
    _check_number(end, n)
    if not sorted_so_far:
        summed = sparse.csr_matrix(sparse.coo_matrix((values, (rows, columns)), shape=shape))
        _check_once(n - summed.nnz)
        return summed
    del rows
    indptr = np.concatenate([[0], np.cumsum(in_row)])
    matrix = sparse.csr_matrix((values, columns, indptr), shape=shape)
    matrix.sort_indices()
    if not matrix.has_canonical_format:
        matrix.sum_duplicates()
        _check_once(n - matrix.nnz)
    return matrix


def _check_once(n_more: int) -> None:
    if n_more:
        raise TwiceError(f"{n_more:,} entries of a gene and spot that has one already")
