"""HDF5 files opened for reading, and what is said of one that cannot be; file locks included."""

from __future__ import annotations

import mmap
import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from hespotex.errors import HESpotExError, RunError
from hespotex.storage.disk_errors import DAMAGED, UNLOCKED, cause_of, is_lock, remedy_of
from hespotex.storage.file_kinds import FoundFields, missing_bytes, read_kind

_HEAP: Final = b"GCOL\x01\0\0\0"
_MOST_SCANNED: Final = 256 * 2**20


@contextmanager
def open_h5(
    path: Path, what: str, error: Callable[..., HESpotExError], remedy: str = DAMAGED
) -> Iterator[Any]:
    """Open an HDF5 file to read it, without a lock where the file system gives none.

    Args:
        what: is expected, as it stands before the path in messages: "a whole h5ad file at".
        error: raised where it is something else.
        remedy: what to do about a file that is neither cut short nor refused by the disk.

    Raises:
        HESpotExError: of the class `error`: missing, another kind of file, cut short or damaged; whatever HDF5,
            h5py or anndata raise while the body of the `with` reads becomes one line, too.
    """
    try:
        kind = read_kind(path)
        if kind is not None and kind.name != "hdf5":
            raise error(expected=f"{what} {path}", **kind.fields(path))
        damaged_at = _endless_heap(path)
        if damaged_at is not None:
            raise error(
                expected=f"{what} {path}",
                found=f"one that is damaged at byte {damaged_at:,}",
                remedy=remedy,
            )
        with _opened(path) as file:
            yield file
    except HESpotExError:
        raise
    except Exception as fault:  # h5py and anndata each raise their own kinds
        raise error(expected=f"{what} {path}", **_fields(path, fault, remedy)) from fault


def holds(path: Path, name: str) -> bool:
    """Whether an HDF5 file has a group or table of this name; no where it cannot be read."""
    try:
        with _opened(path) as file:
            return name in file
    except OSError:
        return False


def _opened(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        if not is_lock(error):
            raise
        return h5py.File(path, "r", locking=False)


def _endless_heap(path: Path) -> int | None:
    """Where a heap of texts holds an entry of no size or of one beyond the heap, as damage leaves it; else None.

    HDF5 goes on for ever on such an entry. A larger file than `_MOST_SCANNED` is not looked through: it would
    be read twice.
    """
    if not 0 < path.stat().st_size <= _MOST_SCANNED:
        return None
    with (
        path.open("rb") as handle,
        mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        heap = content.find(_HEAP)
        while heap >= 0:
            (size,) = struct.unpack_from("<Q", content, heap + 8)
            at, end = heap + 16, min(heap + size, len(content))
            while at + 16 <= end:
                number, _, length = struct.unpack_from("<HH4xQ", content, at)
                step = 16 + (length + 7) // 8 * 8 if number else length  # number 0: what is free
                # HDF5 adds in 64 bits: a size beyond the heap may lead back to where it was.
                if step == 0 or at + step > heap + size:
                    return at
                at += step
            heap = content.find(_HEAP, heap + 8)
    return None


def _fields(path: Path, fault: Exception, remedy: str) -> FoundFields:
    remedied = remedy_of(fault)
    if remedied is not None:
        cause = "a folder" if isinstance(fault, IsADirectoryError) else cause_of(fault)
        return {"found": cause, "remedy": remedied}
    missing = None
    with suppress(OSError):
        missing = missing_bytes(path)
    if missing is not None:
        return {"found": f"one that is cut short: {missing}", "remedy": "copy it again"}
    return {"found": f"one that cannot be read ({cause_of(fault)})", "remedy": remedy}


def check_locks(folder: Path) -> None:
    """Try to lock an HDF5 file in a folder, as writing one does: before hours of work, not after them.

    Whatever else keeps a file from being written there is left to whoever writes first.

    Raises:
        RunError: the file system gives no locks.
    """
    import h5py

    trial = folder / f".{secrets.token_hex(4)}.tmp.h5"
    try:
        with h5py.File(trial, "w"):
            pass
    except OSError as error:
        if is_lock(error):
            raise RunError(
                expected=f"a folder where HDF5 can lock files at {folder}",
                cause=cause_of(error),
                remedy=f"{UNLOCKED}, or choose a folder on another disk",
            ) from error
    finally:
        with suppress(OSError):
            trial.unlink(missing_ok=True)
