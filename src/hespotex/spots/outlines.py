"""The outlines of segmented cells in GeoJSON: their centres, read cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import SpotTableError
from hespotex.storage.geojson import json_remedy, read_features
from hespotex.storage.text_files import Packed, open_binary


def read_outlines(path: Path | Packed) -> dict[int, tuple[float, float]]:
    """Centre of every cell's outline in pixels, by cell number (area centroid of the outer ring).

    Of a cell in several pieces the largest counts. The file of half a million cells is read cell by
    cell: as a whole it would take tens of times its size.

    Raises:
        SpotTableError: no GeoJSON, cut short, or a cell that is no polygon.
    """
    centres = {}
    with open_binary(path, "GeoJSON") as file:
        for place, cell in enumerate(_cells(file, path)):
            try:
                number, centre = _centre(cell)
            except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
                raise SpotTableError(
                    expected=f"a GeoJSON FeatureCollection with cell_id and a polygon in feature {place} of {path}",
                    cause=error,
                ) from error
            centres[number] = centre
    return centres


def _cells(file: IO[bytes], path: Path | Packed) -> Iterator[Any]:
    try:
        for feature in read_features(file):
            yield feature.value
    except (ValueError, RecursionError) as error:
        raise SpotTableError(
            expected=f"a whole GeoJSON FeatureCollection in {path}",
            cause=error,
            remedy=json_remedy(error),
        ) from error


def _centre(cell: Any) -> tuple[int, tuple[float, float]]:
    """Number of a cell and the centre of its largest piece."""
    geometry = cell["geometry"]
    several = geometry.get("type") == "MultiPolygon"
    pieces = geometry["coordinates"] if several else [geometry["coordinates"]]
    rings = [np.asarray(piece[0], dtype=np.float64) for piece in pieces]
    return int(cell["properties"]["cell_id"]), max(
        (_area_and_centre(ring) for ring in rings), key=lambda found: found[0]
    )[1]


def _area_and_centre(ring: npt.NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    if ring.ndim != 2 or ring.shape[1] < 2 or not np.isfinite(ring).all():
        raise ValueError(f"a ring of shape {ring.shape}")
    x, y = (ring[:, :2] - ring[0, :2]).T  # relative: large pixel numbers would cancel badly
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = float(cross.sum())
    if abs(area) < 1e-12:
        return 0.0, (float(ring[:, 0].mean()), float(ring[:, 1].mean()))
    centre_x = ((x + np.roll(x, -1)) * cross).sum() / (3 * area)
    centre_y = ((y + np.roll(y, -1)) * cross).sum() / (3 * area)
    return abs(area) / 2, (float(centre_x + ring[0, 0]), float(centre_y + ring[0, 1]))
