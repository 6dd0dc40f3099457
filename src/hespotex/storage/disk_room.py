"""Whether a disk has room for what is going to be written, said before the work."""

from __future__ import annotations

import shutil
from pathlib import Path

from hespotex.errors import RunError


def check_room(folder: Path, wanted: int, *, of: str = "", remedy: str) -> None:
    """Refuse work for whose files the disk has no room.

    Args:
        folder: of the files; may be made later.
        wanted: bytes.
        of: what they are, behind their sum.
        remedy: what to do beside freeing space.

    Raises:
        RunError: it has not.
    """
    whole = folder.absolute()
    there = next(p for p in (whole, *whole.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        raise RunError(
            expected=f"{in_words(wanted)} free on the disk of {folder}{of and f' ({of})'}",
            found=in_words(free),
            remedy=f"free space, {remedy}",
        )


def in_words(n_bytes: float) -> str:
    """`1.5 GB`, `20 MB`, `3 kB`: thousands, as disks are sold."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{max(n_bytes, 0) / 1e3:.3g} kB"
