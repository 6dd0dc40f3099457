"""Whether the positions of a table can be those of one section."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.geometry.lattice import fit_lattice
from hespotex.spots.base import SpotTable
from hespotex.spots.libraries import COLUMNS, Libraries, is_about, labellings

_FEWEST: Final = 20
_MOST: Final = 50_000  # spots of a printed array are fewer; more are cells and bins
# Of the spots: a lattice of its own, all lattices together, spots that lie among those of the other.
_LEAST_PART: Final = 0.1
_LEAST_ALL: Final = 0.8
_MIXED: Final = 0.2
# Positions in whole pixels are off by one.
_SAME_LENGTH: Final = 0.02
_SAME_STEP: Final = 0.04
# Of the spots: steps that all have in one direction; those between two turned lattices go in all directions.
_OFTEN: Final = 0.15
_NEIGHBOURS: Final = 12
_LENGTHS: Final = 6


def check_one_section(table: SpotTable) -> None:
    """Refuse spots that overlap as two sections do: two lattices, or libraries without order among each other.

    A section of several pieces passes: its pieces do not overlap.

    Raises:
        SpotTableError: with the libraries, where a column tells them.
    """
    xy = table.xy_px0
    if not _FEWEST <= len(xy) <= _MOST or _is_one_lattice(xy):
        return
    options = labellings(table.barcodes, table.obs)
    lattice = overlapping_lattices(xy)
    if lattice is not None:
        why = f"its spots form {lattice.max() + 1} lattices that overlap"
        for where, of_spot in options:
            if all(fit_lattice(xy[of_spot == name]) is not None for name in set(of_spot.tolist())):
                told = Libraries(why, where, of_spot)
                raise told.error(table.source) if is_about(where) else told.unnamed(table.source)
        raise Libraries(why).error(table.source)
    plain = {f"obs[{name!r}]" for name in COLUMNS}
    for where, of_spot in options:
        if where.lower() in plain and mixed_share(xy, of_spot) > _MIXED:
            raise Libraries("their spots overlap", where, of_spot).error(table.source)


def mixed_share(xy: npt.NDArray[np.float64], label: npt.NDArray[np.str_]) -> float:
    """Share of spots whose nearest neighbour has another label: small for pieces, near half for sections that overlap."""
    from scipy.spatial import cKDTree

    nearest = cKDTree(xy).query(xy, k=2)[1][:, 1]
    return float((label[nearest] != label).mean())


def overlapping_lattices(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.intp] | None:
    """(n,) to which of several overlapping lattices spots belong, -1 to none; None where there are not several.

    Neighbours of one lattice are all as far apart; linked at such a distance, the spots of two lattices fall apart
    into two parts that lie among each other.
    """
    distance, other = _neighbours(xy)
    for length in _frequent(distance[(distance > 0) & np.isfinite(distance)]):
        parts, n_parts = _large_parts(xy, distance, other, length)
        if n_parts and _are_lattices(xy, parts, n_parts, length):
            # At multiples of its own distance a single lattice falls apart, too.
            return parts if n_parts > 1 and _overlap(xy, parts, length) else None
    return None


def _is_one_lattice(xy: npt.NDArray[np.float64]) -> bool:
    """Whether spots lie on one lattice, in one piece or several."""
    lattice = fit_lattice(xy)
    if lattice is None:
        return False
    # Pairs of spots side by side, one of either lattice, look like a row of spots.
    row = lattice.stretch == 1.0 and lattice.angle_degrees == 0.0
    return not row or _large_parts(xy, *_neighbours(xy), lattice.pitch_px)[1] > 0


def _neighbours(
    xy: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """(n, 12) distance and number of the nearest other spots."""
    from scipy.spatial import cKDTree

    distance, other = cKDTree(xy).query(xy, k=min(_NEIGHBOURS, len(xy) - 1) + 1)
    return distance[:, 1:], other[:, 1:]


def _frequent(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Lengths that stand out, the shortest first."""
    bins = np.rint(np.log(distance) / _SAME_LENGTH).astype(int)
    values, counts = np.unique(bins, return_counts=True)
    chosen = np.sort(values[np.argsort(-counts, kind="stable")[:_LENGTHS]])
    return np.array([np.median(distance[np.abs(bins - b) <= 1]) for b in chosen])


def _large_parts(
    xy: npt.NDArray[np.float64],
    distance: npt.NDArray[np.float64],
    other: npt.NDArray[np.intp],
    length: float,
) -> tuple[npt.NDArray[np.intp], int]:
    """(n,) number of the large part of each spot, -1 in small ones; and how many parts, 0 where there are crumbs.

    Spots are linked that are `length` apart in a direction in which many are.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    n = len(other)
    if not np.isfinite(distance).any():
        return np.full(n, -1, dtype=np.intp), 0
    rows, places = np.nonzero(np.abs(distance - length) <= max(_SAME_LENGTH * length, 1.0))
    columns = other[rows, places]
    steps = np.rint((xy[columns] - xy[rows]) / max(_SAME_STEP * length, 2.0)).astype(np.int64)
    kinds, kind, times = np.unique(steps, axis=0, return_inverse=True, return_counts=True)
    alike = cKDTree(kinds).sparse_distance_matrix(cKDTree(kinds), 1.5, output_type="coo_matrix")
    times = times + np.bincount(alike.row, times[alike.col] * (alike.row != alike.col), len(kinds))
    often = times[kind.ravel()] > _OFTEN * n
    links = (np.ones(int(often.sum())), (rows[often], columns[often]))
    part = connected_components(coo_matrix(links, shape=(n, n)), directed=False)[1]
    sizes = np.bincount(part)
    large = np.flatnonzero(sizes >= max(_LEAST_PART * n, _FEWEST / 2))
    number = np.full(len(sizes), -1, dtype=np.intp)
    number[large] = np.arange(len(large))
    whole = sizes[large].sum() >= _LEAST_ALL * n
    return np.asarray(number[part]), len(large) if whole else 0


def _are_lattices(
    xy: npt.NDArray[np.float64], parts: npt.NDArray[np.intp], n_parts: int, length: float
) -> bool:
    """Whether every part has an order of its own in two directions, with neighbours at that length."""
    for k in range(n_parts):
        mine = xy[parts == k]
        lattice = fit_lattice(mine)
        if lattice is None or abs(lattice.pitch_px / length - 1) > 2 * _SAME_LENGTH:
            return False
        if np.linalg.svd(mine - mine.mean(axis=0), compute_uv=False)[1] < length:  # one row
            return False
    return True


def _overlap(xy: npt.NDArray[np.float64], parts: npt.NDArray[np.intp], length: float) -> bool:
    """Whether many spots of a part have one of another nearer than any of their own."""
    from scipy.spatial import cKDTree

    for k in range(parts.max() + 1):
        mine, others = xy[parts == k], xy[(parts != k) & (parts >= 0)]
        if (cKDTree(others).query(mine)[0] < 0.8 * length).mean() > _MIXED:
            return True
    return False
