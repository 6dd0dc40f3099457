"""Counts of all training spots while networks are trained: any rows of them as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from hespotex.storage.spill import Spill

_SMALL_BYTES = 2**26
_SPARSE_BYTES = 8  # of a count above zero: its value and its column
_ROWS = 1024
_MOST_ENTRIES = 2**31 - 1  # of one sparse table; above, its columns would need twice the room


def row_reader(
    tables: Sequence[sparse.csr_matrix], device: torch.device | str, spill: Spill | None = None
) -> Callable[[Tensor], Tensor]:
    """The function rows (b,) -> (b, G) counts of these spots, on the device.

    The counts are held dense, in the smallest integer type that holds them all, where that takes no more room than sparse
    counts, or little room anyway. Reading a row is then one copy. The numbers are the same either way.

    Args:
        tables: (n_i, G) raw counts of each section; rows are counted through all of them.
        device: where the rows are wanted.
        spill: where they are held; None: in memory.
    """
    kind = np.result_type(*map(_smallest, tables))
    n, genes = sum(t.shape[0] for t in tables), tables[0].shape[1]
    if kind.itemsize * n * genes > max(_SMALL_BYTES, _SPARSE_BYTES * sum(t.nnz for t in tables)):
        return _sparse_reader(tables, device, spill)
    dense = np.empty((n, genes), kind) if spill is None else spill.empty((n, genes), kind)
    at = 0
    for table in tables:
        for start in range(0, table.shape[0], _ROWS):
            part = table[start : start + _ROWS]
            dense[at : at + part.shape[0]] = part.toarray()
            at += part.shape[0]
    held = torch.as_tensor(dense, device=device)
    return lambda spots: held[spots]


def _sparse_reader(
    tables: Sequence[sparse.csr_matrix], device: torch.device | str, spill: Spill | None
) -> Callable[[Tensor], Tensor]:
    parts = [_stacked(some, spill) for some in _groups(tables)]
    starts = np.concatenate([[0], np.cumsum([part.shape[0] for part in parts])])

    def read(spots: Tensor) -> Tensor:
        rows = spots.numpy(force=True)
        found = np.zeros((len(rows), parts[0].shape[1]), np.float32)
        for part, start, end in zip(parts, starts, starts[1:], strict=False):
            inside = (rows >= start) & (rows < end)
            found[inside] = part[rows[inside] - start].toarray()
        return torch.as_tensor(found, device=device)

    return read


def _groups(tables: Sequence[sparse.csr_matrix]) -> list[list[sparse.csr_matrix]]:
    """Tables in their order, together while their entries fit into one."""
    groups: list[list[sparse.csr_matrix]] = [[]]
    for table in tables:
        if groups[-1] and sum(t.nnz for t in groups[-1]) + table.nnz > _MOST_ENTRIES:
            groups.append([])
        groups[-1].append(table)
    return groups


def _stacked(tables: Sequence[sparse.csr_matrix], spill: Spill | None) -> sparse.csr_matrix:
    """One above the other, float32."""
    if spill is None:
        return sparse.vstack(tables, format="csr").astype(np.float32, copy=False)
    entries = sum(t.nnz for t in tables)
    data, indices = spill.empty((entries,), np.float32), spill.empty((entries,), np.int32)
    at, ends = 0, [np.zeros(1, np.int64)]
    for table in tables:
        data[at : at + table.nnz] = table.data
        indices[at : at + table.nnz] = table.indices
        ends.append(at + table.indptr[1:].astype(np.int64))
        at += table.nnz
    indptr = np.concatenate(ends).astype(np.int32)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, tables[0].shape[1]))


def _smallest(counts: sparse.csr_matrix) -> np.dtype[np.generic]:
    """Smallest type that holds all of these counts exactly."""
    largest = counts.data.max(initial=0)
    whole = np.array_equal(counts.data, np.rint(counts.data)) and counts.data.min(initial=0) >= 0
    if whole and largest <= np.iinfo(np.uint8).max:
        return np.dtype(np.uint8)
    if whole and largest <= np.iinfo(np.int16).max:
        return np.dtype(np.int16)
    return np.dtype(np.float32)
