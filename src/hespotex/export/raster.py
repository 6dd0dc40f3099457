"""A fine map as an image: which spot each pixel shows, a pixel a spot where the lattice is square; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.sections.fine import FINE_UM

if TYPE_CHECKING:
    from hespotex.export.h5ad import StoredPrediction

# A hexagonal cell reaches pitch / sqrt(3) from its centre, a square one pitch / sqrt(2).
REACH: Final = 0.72
# Of a pitch, that a spot of a square lattice may lie beside the middle of its pixel.
_OFF: Final = 0.02
_MOST_SIDE: Final = 8_000
_ROWS: Final = 256


@dataclass(frozen=True)
class Raster:
    """Pixels of a map; the first one's corner is the slide's.

    Attributes:
        index: (h, w) the spot that a pixel shows; -1 where there is none.
        px0_per_px: level-0 pixels per pixel.
    """

    index: npt.NDArray[np.int32]
    px0_per_px: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top in level-0 pixels, as matplotlib draws an image."""
        height, width = self.index.shape
        return 0.0, width * self.px0_per_px, height * self.px0_per_px, 0.0

    def image(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(h, w) the values of the spots; NaN where there is none."""
        padded = np.append(np.asarray(values, np.float32), np.float32(np.nan))
        return padded[self.index]


def is_fine(section: StoredPrediction) -> bool:
    """Whether a prediction lies on a lattice that is shown as an image."""
    return len(section.barcodes) > 0 and 0 < pitch_um(section) <= FINE_UM


def pitch_um(section: StoredPrediction) -> float:
    """Distance of neighbouring spots; the diameter of a spot where it is not known."""
    return float(section.record.get("spot_pitch_um", 0)) or section.spot_diameter_um


def raster_of(
    section: StoredPrediction, size_px0: tuple[float, float], most_px: int = _MOST_SIDE
) -> Raster:
    """The pixels of a fine map: one a spot on a square lattice that hangs on the slide's corner, else half a pitch wide.

    Other pixels show the nearest spot, no farther than 0.72 pitches from it: nothing is interpolated.

    Args:
        size_px0: width and height of the slide.
        most_px: side of an image whose pixels are no spots.
    """
    xy, pitch = section.xy_px0, pitch_um(section) / section.mpp
    at = xy / pitch - 0.5
    if np.abs(at - np.rint(at)).max() <= _OFF:
        column, row = np.rint(at).astype(np.intp).T
        width, height = (
            max(int(np.ceil(s / pitch)), int(m) + 1)
            for s, m in zip(size_px0, (column.max(), row.max()), strict=True)
        )
        index = np.full((height, width), -1, np.int32)
        index[row, column] = np.arange(len(xy))
        return Raster(index, pitch)
    return _nearest(xy, pitch, size_px0, most_px)


def _nearest(
    xy: npt.NDArray[np.float64], pitch: float, size_px0: tuple[float, float], most_px: int
) -> Raster:
    from scipy.spatial import cKDTree

    side = max(pitch / 2, max(size_px0) / most_px)
    width, height = (max(int(np.ceil(s / side)), 1) for s in size_px0)
    tree, index = cKDTree(xy), np.full((height, width), -1, np.int32)
    x = (np.arange(width) + 0.5) * side
    for top in range(0, height, _ROWS):
        y = (np.arange(top, min(top + _ROWS, height)) + 0.5) * side
        centres = np.stack(np.meshgrid(x, y), axis=-1)
        _, found = tree.query(centres, distance_upper_bound=REACH * pitch)
        index[top : top + len(y)] = np.where(found == len(xy), -1, found)
    return Raster(index, side)


def halved(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(h/2, w/2) means of squares of four pixels, over those that have a value."""
    height, width = (-(-n // 2) * 2 for n in image.shape)
    whole = np.full((height, width), np.nan, np.float32)
    whole[: image.shape[0], : image.shape[1]] = image
    parts = whole.reshape(height // 2, 2, width // 2, 2)
    known = np.isfinite(parts)
    n = known.sum(axis=(1, 3))
    total = np.where(known, parts, 0).sum(axis=(1, 3))
    return np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(np.float32)
