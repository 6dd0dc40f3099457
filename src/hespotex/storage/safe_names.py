"""Names of files, folders and columns that are legal on every system and in every format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from hespotex.errors import shorten

# What a file system takes in one name is 255 bytes, of which endings need some.
MAX_BYTES: Final = 120
_UNSAFE: Final = re.compile(r"[^\w.-]")
# Windows takes these for devices, with any ending.
_DEVICES: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))]
)


def safe_names(
    names: Iterable[object],
    *,
    taken: Iterable[str] = (),
    endings: Sequence[str] | None = None,
    fallback: str = "unnamed",
) -> tuple[str, ...]:
    """Names that can name a file, a folder of a Zarr store and a column, each once, in the order given.

    They have letters and digits of any script, `_`, `.` and `-`, no dot at either end, and differ by more than
    upper and lower case. A name that is so already stays; one that would become like another gets a number.

    Args:
        names: as they are.
        taken: names that none may get.
        endings: one a name, legal, that stays whole where the name is cut.
        fallback: for a name of which nothing is left.
    """
    wanted = [str(name) for name in names]
    legal = [_legal(name, fallback) for name in wanted]
    tails = endings or [""] * len(wanted)
    used = {name.casefold() for name in taken}
    # Names that need no change come first, whatever their place.
    order = sorted(range(len(wanted)), key=lambda i: legal[i] != wanted[i])
    found = [""] * len(wanted)
    last: dict[str, int] = {}
    for i in order:
        stem, tail = legal[i], tails[i]
        unique = stem + tail
        while unique.casefold() in used:
            number = last[stem.casefold()] = last.get(stem.casefold(), 1) + 1
            unique = f"{_cut(stem, MAX_BYTES - 8)}_{number}{tail}"
        used.add(unique.casefold())
        found[i] = unique
    return tuple(found)


def safe_paths(folder: Path, names: Iterable[str], ending: str) -> dict[str, Path]:
    """A file of a folder for each name."""
    once = list(dict.fromkeys(names))
    return {n: folder / f"{s}{ending}" for n, s in zip(once, safe_names(once), strict=True)}


def changed_names(before: Sequence[str], after: Sequence[str], most: int = 4) -> str:
    """`a/b is now a_b, ...`: which names were changed, in words; empty where none was."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    return shorten([f"{shown_name(a)} is now {shown_name(b)}" for a, b in pairs], most)


def shown_name(name: str, most: int = 40) -> str:
    """A name for a line of text: what cannot be printed escaped, the end of a long one left out."""
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)
    return text if 0 < len(text) <= most else f"{text[:most]}..." if text else "(empty)"


def _legal(name: str, fallback: str) -> str:
    text = _UNSAFE.sub("_", name).strip(".")
    text = re.sub(r"^__+", "_", text)  # hidden in Zarr stores
    if text.partition(".")[0].casefold() in _DEVICES:
        text = f"{text}_" if "." not in text else text.replace(".", "_.", 1)
    return _cut(text, MAX_BYTES) or fallback


def _cut(text: str, limit_bytes: int) -> str:
    """The beginning of a text, at most so many bytes, no letter cut in two."""
    return text.encode("utf-8", "replace")[:limit_bytes].decode("utf-8", "ignore").rstrip(".")
