"""The lattice of spots that is laid over a slide without spots."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hespotex.config import Grid
from hespotex.errors import GeometryError

MOST_SPOTS = 5_000_000


def spot_grid(
    width_px0: int, height_px0: int, mpp: float, pitch_um: float, kind: Grid = "hexagonal"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """A lattice over a whole slide, row by row, its first spot half a pitch from the corner.

    It hangs on the slide's corner and nothing else, so that two outlines of the tissue share spots.

    Args:
        width_px0, height_px0: of the slide in level-0 pixels.
        mpp: microns per level-0 pixel.
        pitch_um: distance of neighbouring centres in microns.
        kind: `hexagonal` (odd rows shifted by half a pitch, as in Visium) or `square`.

    Returns:
        xy_px0 (n, 2) x, y of the centres in level-0 pixels, inside the slide; array_xy (n, 2) place in
        the lattice: column and row, hexagonal with two columns a spot (array_col, array_row of Visium).

    Raises:
        GeometryError: pitch or mpp are not above 0, or the pitch gives more spots than can be meant.
    """
    if not (mpp > 0 and pitch_um > 0 and math.isfinite(mpp) and math.isfinite(pitch_um)):
        raise GeometryError(
            expected="mpp and pitch above 0", found=f"{mpp:g} um per pixel and {pitch_um:g} um"
        )
    pitch = pitch_um / mpp
    step = pitch * math.sqrt(3) / 2 if kind == "hexagonal" else pitch
    columns = math.ceil(max(width_px0 - pitch / 2, 0) / pitch)
    rows = math.ceil(max(height_px0 - pitch / 2, 0) / step)
    if columns * rows > MOST_SPOTS:
        raise GeometryError(
            expected=f"a pitch that gives at most {MOST_SPOTS:,} spots",
            found=(
                f"{pitch_um:g} um = {pitch:.3g} px on {width_px0} x {height_px0} px ({columns * rows:,} "
                "spots)"
            ),
            remedy="give a larger --spot-pitch-um, or check --mpp",
        )
    row, column = np.divmod(np.arange(columns * rows), max(columns, 1))
    shift = 0.5 * (row % 2) if kind == "hexagonal" else np.zeros(len(row))
    xy = np.stack([pitch / 2 + (column + shift) * pitch, pitch / 2 + row * step], axis=1)
    places = np.stack([2 * column + row % 2 if kind == "hexagonal" else column, row], axis=1)
    inside = (xy < [width_px0, height_px0]).all(axis=1)
    return xy[inside], places[inside]
