"""Rows of sections' tables, counted through all sections, without a table of all of them being held again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


class StackedRows:
    """Tables (n_i, C) of sections as if they stood one above the other."""

    def __init__(self, parts: Sequence[Float32]) -> None:
        """`parts` are looked at, not copied."""
        self._parts = tuple(parts)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: npt.NDArray[np.intp]) -> Float32:
        """(b, C) these rows; ascending."""
        ends = np.searchsorted(rows, self._starts)
        return np.concatenate(
            [
                part[rows[low:high] - start]
                for part, start, low, high in zip(
                    self._parts, self._starts, ends, ends[1:], strict=False
                )
            ]
        )

    def blocks(self, height: int) -> Iterator[slice]:
        """All rows, so many at a time."""
        return (slice(at, min(at + height, len(self))) for at in range(0, len(self), height))

    def block(self, rows: slice) -> Float32:
        """(b, C) the rows of a slice."""
        return self.take(np.arange(rows.start, rows.stop))
