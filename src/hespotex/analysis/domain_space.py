"""Means over a spot's surroundings, with weights that fall off by microns: fine and coarse lattices agree; pure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

# Weights end here, in lengths: exp(-4.5) is 1 %.
REACH: Final = 3.0
# Where spots lie closer than a length, squares of this part of it stand for their spots.
SQUARE: Final = 0.5
# Spots whose surroundings are looked up at once.
_PIECE: Final = 8192


def smoothed(values: Float32, xy_um: Floats, length_um: float) -> Float32:
    """Mean of each spot's surroundings, weights exp(-d^2 / 2 length^2), to three lengths.

    A spot without a value takes no part and stays without one. Where a lattice is much finer than the length, squares
    of half a length stand for their spots, each at the middle of its own: memory does not grow with the number of
    neighbours.

    Args:
        values: (n, d); a row with a NaN is without a value.
        xy_um: (n, 2) centres in microns.
        length_um: standard deviation of the weights, 1 or more; 0: the values as they are.
    """
    out = np.full(values.shape, np.nan, np.float32)
    known = np.isfinite(values).all(axis=1)
    if length_um <= 0 or not known.any():
        out[known] = values[known]
        return out
    at = np.asarray(xy_um, np.float64)[known]
    sources, total, n = _squares(values[known].astype(np.float64), at, length_um)
    tree, rows = cKDTree(sources), np.flatnonzero(known)
    for start in range(0, len(at), _PIECE):
        part = slice(start, start + _PIECE)
        near: Any = cKDTree(at[part]).sparse_distance_matrix(
            tree, REACH * length_um, output_type="coo_matrix"
        )
        weight = np.exp(-0.5 * (near.data / length_um) ** 2) * n[near.col]
        table = sparse.csr_matrix((weight, (near.row, near.col)), shape=near.shape)
        base = np.asarray(table.sum(axis=1)).ravel()[:, None]
        out[rows[part]] = (table @ (total / n[:, None])) / base
    return out


def _squares(values: Floats, xy_um: Floats, length_um: float) -> tuple[Floats, Floats, Floats]:
    """(m, 2) middles of what is averaged, (m, d) sums of values, (m,) spots in each."""
    side = SQUARE * length_um
    place = np.floor((xy_um - xy_um.min(axis=0)) / side).astype(np.int64)
    key = place[:, 0] * (place[:, 1].max() + 1) + place[:, 1]
    found, which = np.unique(key, return_inverse=True)
    if 2 * len(found) > len(xy_um):
        return xy_um, values, np.ones(len(xy_um))
    table = sparse.csr_matrix(
        (np.ones(len(xy_um)), (which, np.arange(len(xy_um)))), shape=(len(found), len(xy_um))
    )
    n = np.asarray(table.sum(axis=1)).ravel()
    return (table @ xy_um) / n[:, None], np.asarray(table @ values), n


def smoothed_apart(
    values: Float32, xy_um: Floats, length_um: float, usable: npt.NDArray[np.bool_]
) -> Float32:
    """`smoothed`, where spots that are not usable give nothing to those that are; they themselves take from all.

    Args:
        values: (n, d), as in `smoothed`.
        usable: (n,).
    """
    every = smoothed(values, xy_um, length_um)
    if usable.all() or not usable.any():
        return every
    own = smoothed(np.where(usable[:, None], values, np.float32(np.nan)), xy_um, length_um)
    return np.where(usable[:, None], own, every)


def spacing_um(xy_um: Floats) -> float:
    """Median distance of a spot to its nearest neighbour; NaN for one spot."""
    if len(xy_um) < 2:
        return float("nan")
    return float(np.median(cKDTree(xy_um).query(xy_um, k=2)[0][:, 1]))
