"""How many bits of a sample hold the picture: stated, in a tag, or told by the values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.storage.disk_errors import DAMAGED, damaged

# Cameras of 8, 10, 12 or 14 bits write into samples of 16, all of these into samples of 32.
_CAMERAS: Final = (8, 10, 12, 14, 16)
_OPEN_BITS: Final = (16, 32)
LEAST_BITS, MOST_BITS = 8, 32


def bits_in_use(
    path: Path,
    container: int,
    maxima: Iterable[int],
    *,
    stated: int | None = None,
    tags: Mapping[str, int] | None = None,
) -> int:
    """Bits of a sample that hold the picture; the upper ones of a larger sample are zero.

    Samples of 16 bits are often filled by a camera of fewer. Bright glass then lies far below the largest value, and
    the picture would be many times too dark.

    Args:
        container: bits of a sample, as the file states them.
        maxima: largest values of parts of the picture; no more are taken than needed.
        stated: what the user says.
        tags: largest values that tags state, by the name of the tag; the first counts.

    Raises:
        SlideError: nothing tells the range, or values lie beyond what is said.
    """
    if stated is not None and stated > container:
        raise SlideError(
            expected=f"--bits (or the manifest's column bits) of at most {container}, as samples of {path} have",
            found=stated,
            remedy="leave it out",
        )
    if container not in _OPEN_BITS:
        return stated if stated is not None else container
    for name, bits in (("stated", stated), *_told(tags or {}, container)):
        if bits is not None:
            return _checked(path, bits, name, maxima)
    largest, enough = 0, 1 << (container - 2)
    for value in maxima:
        largest = max(largest, value)
        if largest >= enough:
            return container
    if largest == 0:  # black in any range
        return container
    likely = next((b for b in _CAMERAS if largest < 1 << b), largest.bit_length())
    raise SlideError(
        expected=f"colours that fill samples of {container} bits, or a tag that says how many they fill",
        found=f"none above {largest} in {path}: a camera of {likely} bits?",
        remedy=(
            f"give --bits {likely} (or the manifest's column bits), or {container} where the picture "
            "is as dark as that"
        ),
    )


def _told(tags: Mapping[str, int], container: int) -> list[tuple[str, int]]:
    """Bits that the first tag means: its value may be the largest possible one, or the largest that occurs."""
    return [
        (name, min(container, max(LEAST_BITS, value.bit_length())))
        for name, value in tags.items()
        if value > 0
    ][:1]


def _checked(path: Path, bits: int, name: str, maxima: Iterable[int]) -> int:
    largest = max(maxima, default=0)
    if largest >= 1 << bits:
        who = "--bits (or the manifest's column bits)" if name == "stated" else f"the tag {name}"
        raise SlideError(
            expected=f"values below {1 << bits} in {path}, as {who} says ({bits} bits)",
            found=largest,
            remedy=f"give --bits {largest.bit_length()} or more",
        )
    return bits


def no_pixels(
    xy: tuple[int, int], level: int, path: Path, error: Exception, what: str = "file"
) -> SlideError:
    """The error of a region that cannot be decoded, at x, y as the reader was asked."""
    expected = f"pixels at x {xy[0]}, y {xy[1]} of level {level}"
    otherwise = f"the {what} is damaged there, {DAMAGED}"
    return damaged(SlideError, expected, error, f"in {path}", otherwise)


def to_8_bit(values: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """The upper 8 of so many bits; fewer than 8 are spread over all values."""
    if values.dtype == bool or bits == 1:
        return (values.astype(np.uint8) * 255).astype(np.uint8)
    if bits < LEAST_BITS:
        return np.asarray(values.astype(np.uint16) * 255 // (2**bits - 1), np.uint8)
    if values.dtype == np.uint8:
        return values
    return np.asarray(np.minimum(values >> (bits - LEAST_BITS), 255), np.uint8)
