"""Side of the tiles of a features file: stated, in its attributes, or from their grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError

# Downsampled grids are rounded to whole pixels.
_ROUNDING_PX: Final = 1.0
# Share of neighbours in a row or column that are whole steps apart: contours whose rows agree by chance are few.
_REGULAR: Final = 0.8
_AGREEMENT: Final = 0.01
_GIVE: Final = (
    "give the side in level-0 pixels in the manifest's column tile_px (CLAM: patch size times downsample, 256 by "
    "default), or write it as attribute patch_size_level0 of coords"
)


@dataclass(frozen=True)
class StatedSides:
    """What is said of the tiles' side, in level-0 pixels; None where nothing is.

    Attributes:
        manifest: the column tile_px.
        attributes: of coords, or of the file of coordinates that CLAM keeps beside.
    """

    manifest: float | None = None
    attributes: float | None = None


def tile_side(
    corners: npt.NDArray[np.float64],
    spots: npt.NDArray[np.float64],
    stated: StatedSides,
    path: Path,
    section: str | None,
) -> float:
    """Side of the tiles in level-0 pixels.

    What is stated counts. Without it the step of the grid does: CLAM lays one grid a contour, so it is the step that
    most neighbours have. A step finer than the spots' distance is no side: such tiles may overlap.

    Args:
        corners: (N, 2) top left corners in level-0 pixels.
        spots: (n, 2) spot centres in level-0 pixels.

    Raises:
        SlideError: sides contradict each other, or the grid leaves it open.
    """
    known = [side for side in (stated.manifest, stated.attributes) if side is not None]
    if known:
        if max(known) > min(known) * (1 + _AGREEMENT):
            raise SlideError(
                expected=f"one side of the tiles in {path}",
                found=f"{known[0]:g} px in the manifest's column tile_px and {known[1]:g} px in the file",
                remedy="correct or empty the cell",
                section=section,
            )
        return known[0]
    step = grid_step(corners)
    if step is None:
        found = "no attribute that states it, and coordinates that form no grid"
    elif step < _spot_distance(spots) * (1 - _AGREEMENT):
        found = (
            f"no attribute that states it, and tiles every {step:g} px, closer than the spots "
            f"({_spot_distance(spots):.4g} px): small tiles, or larger ones that overlap"
        )
    else:
        return step
    raise SlideError(
        expected=f"the side of a tile in {path}", found=found, remedy=_GIVE, section=section
    )


def side_of_attributes(attributes: Mapping[str, Any]) -> float | None:
    """The side in level-0 pixels, as TRIDENT or CLAM state it; None where they do not.

    TRIDENT writes it as it is, or pixels at a magnification beside that of level 0; CLAM writes pixels of the level
    that was read, and how much coarser that is.
    """
    stated = _number(attributes.get("patch_size_level0"))
    if stated is not None:
        return stated
    size, coarser = _number(attributes.get("patch_size")), _number(attributes.get("downsample"))
    if coarser is None and _number(attributes.get("patch_level"), least=0) == 0:
        coarser = 1.0
    if coarser is None:
        own, asked = (
            _number(attributes.get(f"{name}_magnification")) for name in ("level0", "target")
        )
        coarser = own / asked if own is not None and asked is not None else None
    return None if size is None or coarser is None else size * coarser


def grid_step(corners: npt.NDArray[np.float64]) -> float | None:
    """The step that most neighbours of a row or column have, over the grids of all contours; None where none has."""
    steps = [
        np.diff(group)[np.diff(group) > _ROUNDING_PX]
        for axis in (0, 1)
        for group in _lines(corners, axis)
    ]
    found = np.concatenate(steps) if steps else np.zeros(0)
    if not len(found):
        return None
    values, counts = np.unique(np.round(found), return_counts=True)
    step = float(values[counts.argmax()])
    multiples = np.maximum(np.round(found / step), 1)
    off = np.abs(found - multiples * step)
    if float((off <= _ROUNDING_PX * multiples).mean()) < _REGULAR:
        return None
    return float(np.median(found[np.abs(found - step) <= _ROUNDING_PX]))


def _lines(corners: npt.NDArray[np.float64], axis: int) -> list[npt.NDArray[np.float64]]:
    """Sorted coordinates along an axis, of the tiles that share the other one."""
    order = np.lexsort((corners[:, axis], corners[:, 1 - axis]))
    along, across = corners[order, axis], corners[order, 1 - axis]
    return np.split(along, np.flatnonzero(np.diff(across)) + 1)


def _spot_distance(spots: npt.NDArray[np.float64]) -> float:
    """Median distance of a spot to the nearest other one; 0 for a single spot."""
    from scipy.spatial import cKDTree

    if len(spots) < 2:
        return 0.0
    return float(np.median(cKDTree(spots).query(spots, k=2)[0][:, 1]))


def _number(value: Any, least: float = 1e-9) -> float | None:
    """A number, or the first of several (x, y); None for anything else."""
    try:
        first = float(np.ravel(np.asarray(value, dtype=np.float64))[0])
    except (TypeError, ValueError, IndexError):
        return None
    return first if math.isfinite(first) and first >= least else None
