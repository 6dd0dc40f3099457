"""Owns the outlines of segmented cells in GeoJSON: their centres, read cell by cell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import SpotTableError
from hespotex.spots.text import Packed, open_text

_START = re.compile(r'"features"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")


def read_outlines(path: Path | Packed) -> dict[int, tuple[float, float]]:
    """Centre of every cell's outline in pixels, by cell number (area centroid of the outer ring).

    Of a cell in several pieces the largest counts. The file of half a million cells is read cell by
    cell: as a whole it would take tens of times its size.

    Raises:
        SpotTableError: no GeoJSON, cut short, or a cell that is no polygon.
    """
    with open_text(path) as stream:
        text = stream.read()
    centres = {}
    for place, feature in enumerate(_features(text, path)):
        try:
            number = int(feature["properties"]["cell_id"])
            geometry = feature["geometry"]
            several = geometry.get("type") == "MultiPolygon"
            pieces = geometry["coordinates"] if several else [geometry["coordinates"]]
            rings = [np.asarray(piece[0], dtype=np.float64) for piece in pieces]
            centres[number] = max((_area_and_centre(ring) for ring in rings), key=lambda f: f[0])[1]
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise SpotTableError(
                f"expected cell_id and a polygon in feature {place} of {path}, found: {error}"
            ) from error
    return centres


def _features(text: str, path: Path | Packed) -> Iterator[Any]:
    found = _START.search(text)
    if found is None:
        raise SpotTableError(
            f"expected a GeoJSON FeatureCollection in {path}, found no list of features ({text[:40]!r}...)"
        )
    decoder, at = json.JSONDecoder(), found.end()
    while True:
        between = _BETWEEN.match(text, at)
        at = between.end() if between is not None else at
        if text[at : at + 1] == "]":
            return
        try:
            feature, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise SpotTableError(
                f"expected a whole GeoJSON FeatureCollection in {path}, found: {error}; copy it again"
            ) from error
        yield feature


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
