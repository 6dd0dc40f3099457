"""Means over the cells of patches: sums over rows first, which the spots of one line of a lattice share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float64]


def pooled(
    blocks: Sequence[npt.NDArray[np.float32]],
    first: npt.NDArray[np.intp],
    part: Floats,
    cells: int,
) -> Floats:
    """(n, K) means over squares of cells; a cell that lies in the square in part counts in part.

    Terms are added in the order of the cells, so a spot's mean does not depend on other spots.

    Args:
        blocks: (h, w, .) numbers of the same cells; K in all.
        first: (n, 2) row and column of the first cell of each square.
        part: (n, 2) of a cell by which the square starts behind that.
        cells: a side of a square.
    """
    height, width = blocks[0].shape[:2]
    steps = np.arange(cells + 1)
    weights = np.full((2, len(first), cells + 1), 1 / cells)
    weights[:, :, 0] = (1 - part.T) / cells
    weights[:, :, -1] = part.T / cells
    # The columns that a line of spots asks for, each once.
    lines, line = np.unique(np.stack([first[:, 0], part[:, 0]]), axis=1, return_inverse=True)
    asked = line.reshape(-1, 1) * width + first[:, 1:] + steps
    columns, column = np.unique(asked, return_inverse=True)
    one_of_line = np.zeros(lines.shape[1], np.intp)
    one_of_line[line.ravel()] = np.arange(len(first))
    which = one_of_line[columns // width]
    at = (first[which, 0][:, None] + steps) * width + (columns % width)[:, None]
    down = _rows(weights[0][which].astype(np.float32), at, height * width)
    across = _rows(weights[1], column.reshape(len(first), -1), len(columns))
    found = [
        across @ np.asarray(down @ block.reshape(height * width, block.shape[2]), np.float64)
        for block in blocks
        if block.shape[2]
    ]
    return np.concatenate(found, axis=1)


def _rows(
    weights: npt.NDArray[np.floating], columns: npt.NDArray[np.intp], width: int
) -> sparse.csr_array:
    """A matrix whose rows have so many numbers each."""
    n, each = weights.shape
    ends = np.arange(0, n * each + 1, each)
    return sparse.csr_array((weights.ravel(), columns.ravel(), ends), shape=(n, width))
