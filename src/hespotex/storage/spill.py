"""Large arrays that stand in a file without a name rather than in memory: the system may drop them and read them again.

A fit reads the counts and features of all its sections several times. Up to a budget they stay in memory; what comes
beyond it is written to the disk once and mapped. The file has no name from the start, so it is gone with the process, killed
or not. Numbers are the same either way.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import RunError
from hespotex.storage.disk_errors import disk_fields

# Of the counts of all sections, of their features, of counts over a panel, of rows that networks are shown, each.
BUDGET: Final = 2**30
_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class Spill:
    """Keeps arrays in memory up to a budget, and on the disk beyond it."""

    def __init__(self, folder: Callable[[], Path], budget: int | None = None) -> None:
        """Nothing is asked of the folder before the budget is spent.

        Args:
            folder: where the files without a name go.
            budget: bytes in memory; None: `BUDGET`.
        """
        self._folder = folder
        self._left = BUDGET if budget is None else budget

    def array(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The array itself, or one that is mapped from the disk.

        Raises:
            RunError: the disk is full, or the folder cannot be written.
        """
        return self.joined([values]) if self._over(values.nbytes) else values

    def counts(self, table: sparse.csr_matrix) -> sparse.csr_matrix:
        """The table with its values and columns kept so."""
        if not self._over(table.data.nbytes + table.indices.nbytes):
            return table
        parts = (self.joined([table.data]), self.joined([table.indices]), table.indptr)
        kept = sparse.csr_matrix(parts, shape=table.shape)
        kept.has_canonical_format = table.has_canonical_format
        return kept

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array to be filled, in memory or on the disk."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        if not self._over(size):
            return np.empty(shape, kind)
        return self._mapped(size, lambda file: _reserve(file, size), kind).reshape(shape)

    def joined(self, arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Arrays of one type on the disk, end to end."""

        def write(file: Any) -> None:
            for array in arrays:
                file.write(np.ascontiguousarray(array).data.cast("B"))

        first = arrays[0]
        shape = (sum(len(a) for a in arrays), *first.shape[1:])
        return self._mapped(sum(a.nbytes for a in arrays), write, first.dtype).reshape(shape)

    def _over(self, size: int) -> bool:
        """Whether so many bytes go to the disk; those that do not are taken from the budget."""
        if size == 0 or size <= self._left:
            self._left -= size
            return False
        return True

    def _mapped(
        self, size: int, write: Callable[[Any], None], kind: np.dtype[Any]
    ) -> npt.NDArray[Any]:
        folder = self._folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                write(file)
                file.flush()
                mapped = mmap.mmap(file.fileno(), size)
        except OSError as error:
            said = disk_fields(error, writing=True, otherwise="choose another folder")
            raise RunError(
                expected=f"{size / 1e9:.1f} GB for counts or features in {folder}",
                cause=said["cause"],
                remedy=f"{said['remedy']}, or set HESPOTEX_CACHE to another one",
            ) from error
        _MAPPED.add(mapped)
        return np.frombuffer(mapped, kind)


def _reserve(file: Any, size: int) -> None:
    """Take the room on the disk now: where it is full, a write into a mapping ends the process without a word."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def release_pages() -> None:
    """Let the system take back the memory of what is mapped; nothing is lost, the next reader reads it again."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for mapped in list(_MAPPED):
        mapped.madvise(mmap.MADV_DONTNEED)
