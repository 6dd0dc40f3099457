"""Colour scales of what is shown, and the limits of their ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

EXPRESSION_COLOURS: Final = "viridis"
# Blue and red stay apart for every kind of colour vision.
COMPOSITION_COLOURS: Final = "RdBu_r"


@dataclass(frozen=True)
class Scale:
    """How values are coloured.

    Attributes:
        colours: name of the colour map.
        limits: its ends.
        ticks: of the colour bar; None: a few round ones.
    """

    colours: str
    limits: tuple[float, float]
    ticks: tuple[float, ...] | None = None


def robust_limits(
    tables: Sequence[Floats], low: float = 2, high: float = 98
) -> tuple[float, float]:
    """Percentiles over all finite values, widened where they coincide."""
    values = np.concatenate([np.asarray(t, dtype=np.float64).ravel() for t in tables])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    lower, upper = np.percentile(values, [low, high])
    if upper - lower < 1e-9:
        return float(lower) - 0.5, float(upper) + 0.5
    return float(lower), float(upper)


def column_limits(table: Floats) -> npt.NDArray[np.float64]:
    """(g, 2) `robust_limits` of each column of (n, g); linear between order statistics, as numpy's."""
    ordered = np.sort(np.asarray(table, dtype=np.float64), axis=0)  # NaN goes last
    last = np.isfinite(ordered).sum(axis=0) - 1
    limits = np.zeros((ordered.shape[1], 2))
    column = np.arange(ordered.shape[1])
    for side, percent in enumerate((2, 98)):
        position = np.maximum(last, 0) * percent / 100
        below = np.floor(position).astype(np.intp)
        above = np.minimum(below + 1, np.maximum(last, 0))
        start, end = ordered[below, column], ordered[above, column]
        limits[:, side] = start + (end - start) * (position - below)
    flat = limits[:, 1] - limits[:, 0] < 1e-9
    limits[flat] += [-0.5, 0.5]
    limits[last < 0] = [0.0, 1.0]
    return limits
