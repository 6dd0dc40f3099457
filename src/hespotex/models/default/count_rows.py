"""Counts of all training spots while networks are trained: any rows of them as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

_SMALL_BYTES = 2**26
_SPARSE_BYTES = 8  # of a count above zero: its value and its column
_ROWS = 1024


def row_reader(
    tables: Sequence[sparse.csr_matrix], device: torch.device | str
) -> Callable[[Tensor], Tensor]:
    """The function rows (b,) -> (b, G) counts of these spots, on the device.

    The counts are held dense, in the smallest integer type that holds them all, where that takes no more memory than sparse
    counts, or little memory anyway. Reading a row is then one copy. The numbers are the same either way.

    Args:
        tables: (n_i, G) raw counts of each section; rows are counted through all of them.
        device: where the rows are wanted.
    """
    kind = np.result_type(*map(_smallest, tables))
    n, genes = sum(t.shape[0] for t in tables), tables[0].shape[1]
    if kind.itemsize * n * genes > max(_SMALL_BYTES, _SPARSE_BYTES * sum(t.nnz for t in tables)):
        counts = sparse.vstack(tables, format="csr").astype(np.float32, copy=False)
        return lambda spots: torch.as_tensor(
            counts[spots.numpy(force=True)].toarray(), device=device
        )
    dense, at = np.empty((n, genes), kind), 0
    for table in tables:
        for start in range(0, table.shape[0], _ROWS):
            part = table[start : start + _ROWS]
            dense[at : at + part.shape[0]] = part.toarray()
            at += part.shape[0]
    held = torch.as_tensor(dense, device=device)
    return lambda spots: held[spots]


def _smallest(counts: sparse.csr_matrix) -> np.dtype[np.generic]:
    """Smallest type that holds all of these counts exactly."""
    largest = counts.data.max(initial=0)
    whole = np.array_equal(counts.data, np.rint(counts.data)) and counts.data.min(initial=0) >= 0
    if whole and largest <= np.iinfo(np.uint8).max:
        return np.dtype(np.uint8)
    if whole and largest <= np.iinfo(np.int16).max:
        return np.dtype(np.int16)
    return np.dtype(np.float32)
