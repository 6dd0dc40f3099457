"""Smooth maps of the plane: displacements on a grid after, or before, affine maps; turned back by iteration; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from hespotex.errors import GeometryError
from hespotex.geometry.affine import Affine, Points, as_points

# Displacement may change by this part of a distance at most. Below 1 no two points meet, and the iteration back ends.
MOST_STEEP: Final = 0.8
# Nodes each way that cubic pieces need.
_LEAST_NODES: Final = 4
# Where the iteration back ends; 0.8 takes fewer rounds from a centimetre to there.
_NEAR_UM: Final = 1e-4
_ROUNDS: Final = 90


@dataclass(frozen=True, eq=False)
class Bend:
    """Every point moves by a little: x' = x + d(x), d cubic between the nodes of a grid; beyond its rim as at the rim.

    Attributes:
        origin_um: (x, y) of the first node.
        step_um: from node to node, in x and y.
        moved_um: (rows, columns, 2) displacement in x and y at the nodes; four or more each way.

    Raises:
        GeometryError: a number is not finite, nodes are too few, or displacement is so steep that tissue might fold.
    """

    origin_um: tuple[float, float]
    step_um: float
    moved_um: Points

    def __post_init__(self) -> None:
        moved = self.moved_um
        shaped = moved.ndim == 3 and moved.shape[2] == 2 and min(moved.shape[:2]) >= _LEAST_NODES
        if not shaped:
            expected = f"displacements at {_LEAST_NODES} x {_LEAST_NODES} nodes or more"
            raise GeometryError(expected=expected, found=f"shape {moved.shape}")
        numbers = [*self.origin_um, self.step_um]
        if not (np.isfinite(moved).all() and np.isfinite(numbers).all() and self.step_um > 0):
            raise GeometryError(expected="finite displacements on a grid", found="others")
        if not self.steepness <= MOST_STEEP:
            raise GeometryError(
                expected=f"displacement that changes by {MOST_STEEP:g} of a distance at most: tissue does not fold",
                found=f"{self.steepness:.2f}",
            )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Bend)
            and (self.origin_um, self.step_um) == (other.origin_um, other.step_um)
            and np.array_equal(self.moved_um, other.moved_um)
        )

    def __hash__(self) -> int:
        return hash((self.origin_um, self.step_um, self.moved_um.tobytes()))

    @classmethod
    def of(
        cls, moves: Callable[[Points], Points], lower: Points, upper: Points, step: float
    ) -> Self:
        """What a map does to points near its own place, on a grid over a box.

        Args:
            moves: the map.
            lower, upper: (2,) corners of the box in microns.
            step: microns between nodes; ends of the grid lie up to a step beyond the box.
        """
        n = np.maximum(np.ceil((upper - lower) / step).astype(int) + 1, _LEAST_NODES)
        x, y = (lower[k] + step * np.arange(n[k]) for k in (0, 1))
        nodes = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        moved = np.round(moves(nodes) - nodes, 4).reshape(n[1], n[0], 2)
        return cls((float(lower[0]), float(lower[1])), float(step), moved)

    @cached_property
    def steepness(self) -> float:
        """The largest change of the displacement along a distance, as a part of it; at the nodes and half-way."""
        rows, columns = ((np.arange(2 * n - 1) / 2) for n in self.moved_um.shape[:2])
        by = [
            [f(rows, columns, dx=int(k == 1), dy=int(k == 0)) for k in (0, 1)]
            for f in self._splines
        ]
        slope = np.moveaxis(np.array(by), (0, 1), (-2, -1)) / self.step_um
        return float(np.linalg.norm(slope, ord=2, axis=(-2, -1)).max())

    @cached_property
    def _splines(self) -> tuple[Any, Any]:
        """Displacement in x and in y as functions of row and column."""
        from scipy.interpolate import RectBivariateSpline

        rows, columns = (np.arange(n, dtype=float) for n in self.moved_um.shape[:2])
        x, y = (RectBivariateSpline(rows, columns, self.moved_um[..., k], s=0) for k in (0, 1))
        return x, y

    def moved(self, points: Points) -> Points:
        """(n, 2) displacement at points."""
        last = np.array(self.moved_um.shape[1::-1]) - 1.0
        place = np.clip((points - np.array(self.origin_um)) / self.step_um, 0.0, last)
        return np.stack([f.ev(place[:, 1], place[:, 0]) for f in self._splines], axis=1)

    def __call__(self, xy: npt.ArrayLike) -> Points:
        """Map (n, 2) points in microns."""
        points = as_points(xy)
        return np.asarray(points + self.moved(points))

    def inverse(self) -> Unbend:
        """The way back."""
        return Unbend(self)


@dataclass(frozen=True)
class Unbend:
    """The way back of a bend.

    Attributes:
        bend: that leads there.
    """

    bend: Bend

    def __call__(self, xy: npt.ArrayLike) -> Points:
        """Map (n, 2) points in microns; what the bend makes of the result is a point again, to a thousandth of a micron."""
        points = as_points(xy)
        found = points - self.bend.moved(points)
        for _ in range(_ROUNDS):
            off = found + self.bend.moved(found) - points
            found = found - off
            if not len(off) or np.abs(off).max() < _NEAR_UM:
                break
        return np.asarray(found)

    def inverse(self) -> Bend:
        """The bend."""
        return self.bend


@dataclass(frozen=True)
class Smooth:
    """Affine maps and bends, one after another; `second @ first` is first, then second.

    Attributes:
        steps: the first that is applied stands first.
    """

    steps: tuple[Affine | Bend | Unbend, ...]

    def __call__(self, xy: npt.ArrayLike) -> Points:
        """Map (n, 2) points in microns."""
        points = as_points(xy)
        for step in self.steps:
            points = step(points)
        return points

    def inverse(self) -> Smooth:
        """The way back."""
        return Smooth(tuple(step.inverse() for step in reversed(self.steps)))

    def __matmul__(self, first: Affine | Smooth) -> Smooth:
        """First the map on the right, then this one."""
        return Smooth((*(first.steps if isinstance(first, Smooth) else (first,)), *self.steps))

    def __rmatmul__(self, second: Affine) -> Smooth:
        """First this map, then the affine one."""
        return Smooth((*self.steps, second))

    @property
    def affine(self) -> Affine:
        """What is left where nothing bends."""
        whole = Affine()
        for step in self.steps:
            if isinstance(step, Affine):
                whole = step @ whole
        return whole

    @property
    def step_um(self) -> float:
        """Of the finest grid among the bends."""
        grids = [
            s if isinstance(s, Bend) else s.bend for s in self.steps if not isinstance(s, Affine)
        ]
        return min(grid.step_um for grid in grids)


Map = Affine | Smooth


def pixels_of(
    to: Map, um_of: float, um_onto: float, size: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(h, w) column and row in a picture of every pixel of another, as `cv2.remap` takes them; whole numbers are pixels' middles.

    Args:
        to: from microns of the picture to those of the other.
        um_of, um_onto: microns of a pixel of either.
        size: width and height of the other.
    """
    width, height = size
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    onto = (np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * um_onto
    found = (to.inverse()(onto) / um_of - 0.5).astype(np.float32)
    return found[:, 0].reshape(height, width), found[:, 1].reshape(height, width)
