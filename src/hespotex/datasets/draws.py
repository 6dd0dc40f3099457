"""Random numbers that a painter asks for, and a kind that changes slowly through a block of tissue."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr


class Draws(Protocol):
    """What a painter needs of a numpy Generator."""

    def normal(self, loc: float = ..., scale: float = ..., size: Any = ...) -> Any:
        """Normal numbers."""

    def uniform(self, low: float = ..., high: float = ..., size: Any = ...) -> Any:
        """Numbers between two bounds."""

    def random(self, size: Any = ...) -> Any:
        """Numbers between 0 and 1."""


def stream(*words: int) -> np.random.Generator:
    """An independent generator for each tuple of whole numbers."""
    return np.random.default_rng(np.random.SeedSequence(words))


class SliceDraws:
    """Numbers of one slice of a block: the next slice asks in the same order and gets nearly the same.

    Arrays of more than two numbers change with the depth of the slice; one or two numbers (a direction, an offset)
    belong to the block and are the same in all slices. An array is mixed from the two depths beside the slice at which
    it is drawn anew: a cos(t) + b sin(t), t from 0 to a quarter turn, so that its spread is the same everywhere.

    Args:
        words: seed of the block.
        z_um: depth of the slice, 0 or more.
        reach_um: after so many microns an array has nothing in common with what it was.
    """

    def __init__(self, words: tuple[int, ...], z_um: float, reach_um: float = 100.0) -> None:
        self._words, self._z_um = words, z_um
        self._knot, part = divmod(z_um / reach_um, 1.0)
        self._weights = np.cos(part * np.pi / 2), np.sin(part * np.pi / 2)
        self._asked = 0

    def part(self, number: int, reach_um: float) -> SliceDraws:
        """The draws of one part of the picture: what another part asks for does not move them."""
        return SliceDraws((*self._words, number), self._z_um, reach_um)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        """Normal numbers."""
        return loc + scale * self._standard(size)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
        """Numbers between two bounds."""
        return low + (high - low) * ndtr(self._standard(size))

    def random(self, size: Any = None) -> Any:
        """Numbers between 0 and 1."""
        return self.uniform(size=size)

    def _standard(self, size: Any) -> Any:
        self._asked += 1
        key = (*self._words, self._asked)
        if np.prod(1 if size is None else size) <= 2:
            return stream(*key).normal(size=size)
        above, below = (stream(*key, int(self._knot) + k).normal(size=size) for k in (1, 2))
        return self._weights[0] * above + self._weights[1] * below


def part_of(rng: Draws, number: int, reach_um: float) -> Draws:
    """The draws of one part of a picture; a generator that belongs to one section draws on."""
    return rng.part(number, reach_um) if isinstance(rng, SliceDraws) else rng


def uniform_at(
    rng: Draws, kept: npt.NDArray[np.bool_], low: float, high: float
) -> npt.NDArray[np.float64]:
    """A number for each site that is kept; in a block a site has its own, whichever others are kept in a slice."""
    if isinstance(rng, SliceDraws):
        return np.asarray(rng.uniform(low, high, size=len(kept))[kept])
    return np.asarray(rng.uniform(low, high, size=int(kept.sum())))
