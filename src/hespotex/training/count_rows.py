"""Owns how the counts of all training spots are held while networks are trained: rows of them become a table at once; pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

_SMALL_BYTES = 2**26
_SPARSE_BYTES = 8  # of a count above zero: its value and its column
_ROWS = 1024


def row_reader(counts: sparse.csr_matrix, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    """The function rows (b,) -> (b, G) counts of these spots, on the device.

    The table is held dense, in the smallest integers that hold every count, where that takes no more memory than
    the sparse one or little anyway: reading a row is then one copy. The numbers are the same either way.

    Args:
        counts: (n, G) raw counts.
        device: where the rows are wanted.
    """
    kind = _smallest(counts)
    n_bytes = kind.itemsize * counts.shape[0] * counts.shape[1]
    if n_bytes > max(_SMALL_BYTES, _SPARSE_BYTES * counts.nnz):
        return lambda spots: torch.as_tensor(
            counts[spots.numpy(force=True)].toarray(), device=device
        )
    table = np.empty(counts.shape, kind)
    for at in range(0, len(table), _ROWS):
        table[at : at + _ROWS] = counts[at : at + _ROWS].toarray()
    held = torch.as_tensor(table, device=device)
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
