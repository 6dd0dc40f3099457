"""Affine maps of the plane; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from hespotex.errors import GeometryError

Points = npt.NDArray[np.float64]
Row = tuple[float, float, float]

# A map that shrinks a direction below this share of the other folds the plane into a line.
_LEAST_CONDITION: Final = 1e-9


@dataclass(frozen=True)
class Affine:
    """A map of the plane: x' = a x + b y + c, y' = d x + e y + f.

    `second @ first` is first, then second. Maps are compared and hashed by their numbers.

    Attributes:
        rows: ((a, b, c), (d, e, f)); c and f in microns where the map is between frames.

    Raises:
        GeometryError: a number is not finite, or the map cannot be turned back.

    Example:
        >>> Affine.turn(90, about=(10.0, 0.0))(np.array([[11.0, 0.0]])).round(6).tolist()
        [[10.0, 1.0]]
    """

    rows: tuple[Row, Row] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

    def __post_init__(self) -> None:
        numbers = np.array(self.rows, dtype=np.float64)
        if numbers.shape != (2, 3) or not np.isfinite(numbers).all():
            raise GeometryError(expected="2 rows of 3 finite numbers as a map", found=self.rows)
        most, least = np.linalg.svd(numbers[:, :2], compute_uv=False)
        if not least > _LEAST_CONDITION * most:
            raise GeometryError(expected="a map that can be turned back", found=self.rows)

    @classmethod
    def of(cls, linear: npt.ArrayLike, shift: npt.ArrayLike = (0.0, 0.0)) -> Self:
        """From a (2, 2) matrix and a (2,) shift."""
        (a, b), (d, e) = np.asarray(linear, dtype=np.float64).tolist()
        c, f = np.asarray(shift, dtype=np.float64).tolist()
        return cls(((a, b, c), (d, e, f)))

    @classmethod
    def scale(cls, factor: float) -> Self:
        """The same factor on x and y, about the origin: microns of pixels where it is their mpp."""
        return cls.of(np.eye(2) * factor)

    @classmethod
    def turn(cls, degrees: float, *, about: tuple[float, float] = (0.0, 0.0)) -> Self:
        """A turn from x towards y, which is clockwise where y points down."""
        angle = math.radians(degrees)
        cosine, sine = math.cos(angle), math.sin(angle)
        return cls.around([[cosine, -sine], [sine, cosine]], about)

    @classmethod
    def around(cls, linear: npt.ArrayLike, fixed: npt.ArrayLike) -> Self:
        """A (2, 2) matrix about a point that stays where it is."""
        matrix, centre = np.asarray(linear, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
        return cls.of(matrix, centre - matrix @ centre)

    def in_pixels(self, um_of: float, um_onto: float) -> Affine:
        """A map of microns as one from the pixels of a picture to those of another; whole numbers are pixels' middles.

        Args:
            um_of, um_onto: microns of a pixel of either.
        """
        middle = Affine.of(np.eye(2), (0.5, 0.5))
        return middle.inverse() @ Affine.scale(1 / um_onto) @ self @ Affine.scale(um_of) @ middle

    @property
    def linear(self) -> Points:
        """(2, 2)."""
        return np.array(self.rows)[:, :2]

    @property
    def shift(self) -> Points:
        """(2,)."""
        return np.array(self.rows)[:, 2]

    @property
    def mirrors(self) -> bool:
        """Whether left and right hands are exchanged."""
        return bool(np.linalg.det(self.linear) < 0)

    @property
    def stretches(self) -> tuple[float, float]:
        """The largest and the smallest factor on a length."""
        most, least = np.linalg.svd(self.linear, compute_uv=False).tolist()
        return most, least

    def __call__(self, xy: npt.ArrayLike) -> Points:
        """Map (n, 2) points; none is fine."""
        return np.asarray(as_points(xy) @ self.linear.T + self.shift)

    def __matmul__(self, first: Affine) -> Affine:
        """First the map on the right, then this one."""
        if not isinstance(first, Affine):
            return NotImplemented
        return Affine.of(self.linear @ first.linear, self.linear @ first.shift + self.shift)

    def inverse(self) -> Affine:
        """The way back."""
        back = np.linalg.inv(self.linear)
        return Affine.of(back, -back @ self.shift)

    def geojson(self, value: Any) -> Any:
        """A geometry, feature, collection or list of features with its coordinates mapped, all else as it was.

        Further numbers of a position (a height) stay; a `bbox` is left out, since it would no longer hold. The nucleus
        that QuPath writes beside a cell is mapped, too.
        """
        if isinstance(value, list):
            return [self.geojson(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        mapped = {name: part for name, part in value.items() if name != "bbox"}
        if "coordinates" in mapped:
            mapped["coordinates"] = self._positions(mapped["coordinates"])
        for name in ("geometry", "nucleusGeometry", "geometries", "features"):
            if name in mapped:
                mapped[name] = self.geojson(mapped[name])
        return mapped

    def _positions(self, nested: Any) -> Any:
        if nested and not isinstance(nested[0], list | tuple):
            return [*self([nested[:2]])[0].tolist(), *nested[2:]]
        return [self._positions(part) for part in nested]

    def outline(self, geometry: Any) -> Any:
        """A shapely geometry, mapped."""
        import shapely

        return shapely.transform(geometry, self)


def as_points(xy: npt.ArrayLike) -> Points:
    """(n, 2) numbers.

    Raises:
        GeometryError: they have another shape.
    """
    points = np.asarray(xy, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise GeometryError(expected="points of shape (n, 2)", found=f"shape {points.shape}")
    return points
