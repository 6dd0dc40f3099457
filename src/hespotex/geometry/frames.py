"""Frames of sections in microns, and the affine maps between them; pure but for one JSON file.

The frame of a section has its origin in the upper left corner of level 0, x to the right and y down. Sections of one
piece of tissue share a common frame: each has a map from its own microns into it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.errors import GeometryError
from hespotex.storage.atomic import atomic_path
from hespotex.storage.text_files import read_text

Points = npt.NDArray[np.float64]
Row = tuple[float, float, float]

FORMAT: Final = "hespotex section frames 1"
UNIT: Final = "um"
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
        points = np.asarray(xy, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise GeometryError(expected="points of shape (n, 2)", found=f"shape {points.shape}")
        return np.asarray(points @ self.linear.T + self.shift)

    def __matmul__(self, first: Affine) -> Affine:
        """First the map on the right, then this one."""
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


@dataclass(frozen=True)
class SectionFrame:
    """A section's own frame and where it lies in the common one.

    Attributes:
        mpp: microns per level-0 pixel.
        to_common: from the section's microns to those of the common frame.
    """

    mpp: float
    to_common: Affine = field(default_factory=Affine)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mpp) and self.mpp > 0):
            raise GeometryError(expected="microns per pixel above 0", found=self.mpp)

    @property
    def um_of_px0(self) -> Affine:
        """From level-0 pixels to the section's microns; its inverse goes back."""
        return Affine.scale(self.mpp)

    @property
    def common_of_px0(self) -> Affine:
        """From level-0 pixels to microns of the common frame."""
        return self.to_common @ self.um_of_px0


@dataclass(frozen=True)
class CommonFrame:
    """Sections in one frame.

    Attributes:
        sections: their frames by section id.
    """

    sections: Mapping[str, SectionFrame]

    def __getitem__(self, section_id: str) -> SectionFrame:
        """The frame of a section.

        Raises:
            GeometryError: the section is not among them.
        """
        try:
            return self.sections[section_id]
        except KeyError:
            expected = f"one of the sections {', '.join(self.sections)}"
            raise GeometryError(expected=expected, found=section_id) from None

    def between(self, source: str, target: str) -> Affine:
        """From microns of one section to microns of another."""
        return self[target].to_common.inverse() @ self[source].to_common

    def between_px0(self, source: str, target: str) -> Affine:
        """From level-0 pixels of one section to level-0 pixels of another."""
        return self[target].common_of_px0.inverse() @ self[source].common_of_px0

    def place(self, table: Any, section_id: str) -> None:
        """Write `obsm["spatial_common_um"]` of an AnnData from its `obsm["spatial"]` in level-0 pixels."""
        to_common = self[section_id].common_of_px0
        table.obsm[keys.SPATIAL_COMMON_UM] = to_common(table.obsm[keys.SPATIAL])


def write_frames(path: str | Path, frames: CommonFrame) -> None:
    """Write frames as JSON, every digit kept.

    Raises:
        RunError: the file cannot be written.
    """
    sections = {
        name: {"mpp_um_per_px0": frame.mpp, "to_common_um": frame.to_common.rows}
        for name, frame in frames.sections.items()
    }
    said = (
        "to_common_um: ((a, b, c), (d, e, f)), x' = a x + b y + c, y' = d x + e y + f, both in um"
    )
    content = {"format": FORMAT, "unit": UNIT, "meaning": said, "sections": sections}
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_frames(path: str | Path) -> CommonFrame:
    """Read what `write_frames` wrote.

    Raises:
        GeometryError: the file cannot be read, is of another kind or unit, or a number in it is impossible.
    """
    path = Path(path)
    try:
        content = json.loads(read_text(path, "frames of sections", GeometryError))
        stated = (content["format"], content["unit"])
        if stated != (FORMAT, UNIT):
            raise GeometryError(
                expected=f"format {FORMAT!r} and unit {UNIT!r} in {path}", found=stated
            )
        return CommonFrame(
            {str(name): _frame_of(value, name, path) for name, value in content["sections"].items()}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}"
        expected = f"frames of sections as JSON in {path}"
        remedy = "write it with hespotex.geometry.write_frames"
        raise GeometryError(expected=expected, cause=cause, remedy=remedy) from error


def _frame_of(value: Any, name: str, path: Path) -> SectionFrame:
    (a, b, c), (d, e, f) = (map(float, row) for row in value["to_common_um"])
    try:
        return SectionFrame(float(value["mpp_um_per_px0"]), Affine(((a, b, c), (d, e, f))))
    except GeometryError as error:
        error.of_section(str(name))
        error.add_note(str(path))
        raise
