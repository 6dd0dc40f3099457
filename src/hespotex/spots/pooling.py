"""How cells and bins become spots: the nearest centre of a regular grid takes each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.config import Grid
from hespotex.errors import SpotTableError

# Between the spots into which cells are pooled to be looked at, where nobody states the pitch.
LOOK_PITCH_UM: Final = 100.0
LOOK_NOTE: Final = f"cells were pooled into spots {LOOK_PITCH_UM:g} um apart to look at them"


@dataclass(frozen=True)
class Pooled:
    """Spots made of points.

    Attributes:
        xy_um: (n, 2) centres on the grid, in the unit of the points; only spots that hold a point.
        grid_xy: (n, 2) column and row of the centre; odd rows of a hexagonal grid lie half a step right.
        counts: (n, g) sums over the points of a spot; None without counts.
        n_points: (n,) how many points a spot holds.
        n_outside: points that lie between the spots.
    """

    xy_um: npt.NDArray[np.float64]
    grid_xy: npt.NDArray[np.int64]
    counts: sparse.csr_matrix | None
    n_points: npt.NDArray[np.int64]
    n_outside: int


def pool_points(
    xy_um: npt.NDArray[np.float64],
    counts: sparse.csr_matrix | None,
    *,
    pitch_um: float,
    diameter_um: float | None = None,
    kind: Grid = "hexagonal",
    origin_um: tuple[float, float] | None = None,
) -> Pooled:
    """Sum points into spots on a grid.

    A point belongs to the nearest centre; where `diameter_um` is smaller than the pitch, only if it
    lies within half of it (round spots).

    Args:
        xy_um: (m, 2) points.
        counts: (m, g) counts of the points.
        pitch_um: distance of neighbouring centres.
        diameter_um: of a spot; None: spots fill the plane.
        origin_um: where a centre lies; None: half a pitch inside the lowest x and y.

    Raises:
        SpotTableError: the pitch is not above 0, or no point lies in a spot.
    """
    if not pitch_um > 0:
        raise SpotTableError(expected="a spot pitch above 0 um", found=f"{pitch_um:g}")
    origin = np.asarray(origin_um) if origin_um is not None else xy_um.min(axis=0) + pitch_um / 2
    column, row = _nearest_centre((xy_um - origin) / pitch_um, kind)
    centres = _centres(column, row, kind) * pitch_um + origin
    inside = np.ones(len(xy_um), dtype=bool)
    if diameter_um is not None and diameter_um < pitch_um:
        inside = np.hypot(*(xy_um - centres).T) <= diameter_um / 2
    if not inside.any():
        raise SpotTableError(
            expected=f"points inside spots of {diameter_um:g} um every {pitch_um:g} um",
            found="none",
        )
    grid, first, member = np.unique(
        np.column_stack([row, column])[inside], axis=0, return_index=True, return_inverse=True
    )
    member = member.ravel()
    pooled = (
        None if counts is None else _sum_rows(counts, np.flatnonzero(inside), member, len(grid))
    )
    return Pooled(
        xy_um=centres[inside][first],
        grid_xy=grid[:, ::-1].astype(np.int64),
        counts=pooled,
        n_points=np.bincount(member, minlength=len(grid)),
        n_outside=int((~inside).sum()),
    )


def _sum_rows(
    counts: sparse.csr_matrix,
    rows: npt.NDArray[np.intp],
    groups: npt.NDArray[np.intp],
    n_groups: int,
) -> sparse.csr_matrix:
    """(n_groups, g) sums over the rows of a group."""
    ones = np.ones(len(rows), dtype=np.int32)
    gather = sparse.csr_matrix((ones, (groups, rows)), shape=(n_groups, counts.shape[0]))
    summed = sparse.csr_matrix(gather @ counts)
    summed.sort_indices()
    return summed


def _nearest_centre(
    unit: npt.NDArray[np.float64], kind: Grid
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Column and row of the nearest centre; positions in units of the pitch."""
    if kind == "square":
        nearest = np.rint(unit).astype(np.int64)
        return nearest[:, 0], nearest[:, 1]
    height = np.sqrt(0.75)
    low = np.floor(unit[:, 1] / height).astype(np.int64)
    candidates = []
    for row in (low, low + 1):  # the nearest centre lies in the row below or above
        column = np.rint(unit[:, 0] - 0.5 * (row % 2)).astype(np.int64)
        offset = unit - _centres(column, row, kind)
        candidates.append((column, row, (offset**2).sum(axis=1)))
    (c0, r0, d0), (c1, r1, d1) = candidates
    closer = d0 <= d1
    return np.where(closer, c0, c1), np.where(closer, r0, r1)


def _centres(
    column: npt.NDArray[np.int64], row: npt.NDArray[np.int64], kind: Grid
) -> npt.NDArray[np.float64]:
    if kind == "square":
        return np.column_stack([column, row]).astype(np.float64)
    return np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(0.75)])
