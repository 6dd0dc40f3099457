"""One gene of a prediction in a moment: read as the file lies, or from a gene-wise copy in the cache.

A table that lies row by row has to be read whole for one column. Large ones are turned once, and kept in the user's
cache under the key of the file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.encoders.cache import cache_folder
from hespotex.errors import RunError
from hespotex.export.chunk_shape import GENES, SMALL_BYTES
from hespotex.storage.atomic import atomic_path
from hespotex.storage.content_keys import content_key

Float32 = npt.NDArray[np.float32]
Say = Callable[[str], None]

_BLOCK_BYTES: Final = 64 * 2**20
_FOLDER: Final = "genewise"


class GeneColumns:
    """Columns of the (n, G) tables of one open h5ad.

    Args:
        file: the open h5py.File.
        path: of it.
        say: hears of a copy that is made, with its size.
    """

    def __init__(self, file: Any, path: Path, say: Say) -> None:
        self._file, self._path, self._say = file, path, say
        self._turned: dict[str, npt.NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    def read(self, table: str, column: int) -> Float32:
        """(n,) one column; a copy of the table is made first where that is the only quick way.

        Raises:
            RunError: the cache cannot hold the copy.
            OSError: the file is damaged.
        """
        data = self._file[table]
        if is_quick(data):
            return np.asarray(data[:, column], np.float32)
        with self._lock:
            if table not in self._turned:
                self._turned[table] = self._copy(table, data)
        return np.array(self._turned[table][column], np.float32)

    def _copy(self, table: str, data: Any) -> Float32:
        stat = self._path.stat()
        key = content_key(str(self._path.resolve()), stat.st_size, stat.st_mtime_ns, table)
        place = cache_folder() / _FOLDER / f"{key}.npy"
        if not place.exists():
            size = data.shape[0] * data.shape[1] * 4
            self._say(
                f"{self._path.name} lies spot by spot: a gene-wise copy of {table} ({size / 2**20:,.0f} MiB) is made in {place.parent}, once"
            )
            _turn(data, place)
        return np.asarray(np.load(place, mmap_mode="r"))


def is_quick(data: Any) -> bool:
    """Whether one column of a table is read without reading all of it, or all of it is little."""
    if data.shape[0] * data.shape[1] * data.dtype.itemsize <= SMALL_BYTES:
        return True
    return data.chunks is not None and data.chunks[1] <= 2 * GENES


def _turn(data: Any, place: Path) -> None:
    n, width = data.shape
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(place) as temporary, temporary.open("wb") as handle:
            header = {"descr": "<f4", "fortran_order": False, "shape": (width, n)}
            np.lib.format.write_array_header_1_0(handle, header)
            start = handle.tell()
            handle.truncate(start + 4 * n * width)
            handle.flush()
            step = max(1, min(n, _BLOCK_BYTES // (4 * max(width, 1))))
            out = np.memmap(temporary, np.float32, "r+", start, (width, n))
            for first in range(0, n, step):
                rows = slice(first, min(first + step, n))
                out[:, rows] = np.asarray(data[rows], np.float32).T
            out.flush()
            del out
    except OSError as error:
        raise RunError(
            expected=f"room for a gene-wise copy in {place.parent}",
            cause=error.strerror or error,
            remedy="free space, or set HESPOTEX_CACHE to another folder",
        ) from error
