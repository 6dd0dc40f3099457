"""Targeted panels beside whole transcriptomes: which part of a panel's counts the measured genes of a section hold; pure.

Totals and counts per million over the measured genes alone are in a unit of their own. A part turns them into that of the
whole panel: totals are divided by it, CPM multiplied.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_ROUNDS: Final = 200
_CLOSE: Final = 1e-10


def measured_parts(totals: Float64, measured: npt.NDArray[np.bool_]) -> Float64:
    """(S,) share of the pooled counts of all G genes that lies in the genes that each section measured; 1 where in all.

    A gene's pooled share is its counts over the whole counts of the sections that measured it. Whole counts of a section
    are its own over its part, so both are found together, in rounds. Sections that share no gene with others say nothing
    of how they compare: each then counts as if its genes were as common as the others'.

    Args:
        totals: (S, G) counts of each gene in each section.
        measured: (S, G).
    """
    parts = np.where(measured.all(axis=1), 1.0, measured.mean(axis=1))
    if measured.all():
        return parts
    own = (totals * measured).sum(axis=1)
    seen = np.maximum((totals * measured).sum(axis=0), 0.5)
    whole = measured.all(axis=1)
    for _ in range(_ROUNDS):
        base = ((own / np.maximum(parts, 1e-12))[:, None] * measured).sum(axis=0)
        share = seen / np.where(base > 0, base, max(float(own.sum()), 1.0))
        share /= share.sum()
        found = np.where(whole, 1.0, measured @ share)
        if np.abs(found - parts).max() < _CLOSE:
            break
        parts = found
    return np.asarray(found, np.float64)


def part_of(pooled: Float64, measured: npt.NDArray[np.bool_]) -> float:
    """Share of the pooled counts that lies in the measured genes; exactly 1 where all were measured."""
    return 1.0 if measured.all() else float(pooled[measured].sum() / pooled.sum())
