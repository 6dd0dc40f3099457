"""Domains as annotations that QuPath imports: one outline a domain, in level-0 pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.export.h5ad import StoredPrediction
from hespotex.export.raster import pitch_um, raster_of
from hespotex.storage.atomic import atomic_path


def write_domain_outlines(
    path: Path,
    section: StoredPrediction,
    numbers: npt.NDArray[np.int32],
    names: Sequence[str],
    colours: Sequence[str],
    about: str,
) -> None:
    """Write the ground that each domain's spots stand for: to half way to the next spot, 0.72 pitches at most.

    Args:
        numbers: (n,) domain of every spot; -1: none.
        names, colours: of the domains.
        about: a sentence that stands in the file.

    Raises:
        RunError: the file cannot be written.
    """
    from shapely.geometry import mapping

    features = [
        {
            "type": "Feature",
            "geometry": mapping(outline),
            "properties": {
                "objectType": "annotation",
                "name": names[k],
                "classification": {
                    "name": names[k],
                    "color": [int(colours[k][i : i + 2], 16) for i in (1, 3, 5)],
                },
                "measurements": {"spots": int((numbers == k).sum())},
            },
        }
        for k, outline in outlines(section, numbers, len(names)).items()
    ]
    content = {"type": "FeatureCollection", "hespotex": {"about": about}, "features": features}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def outlines(section: StoredPrediction, numbers: npt.NDArray[np.int32], n: int) -> dict[int, Any]:
    """shapely outline of every domain that has a spot, in level-0 pixels; no two overlap."""
    import shapely

    corner = section.xy_px0.max(axis=0) + pitch_um(section) / section.mpp
    raster = raster_of(section, (float(corner[0]), float(corner[1])))
    image = np.append(numbers, -1)[raster.index]
    found = {}
    for k in range(n):
        mask = np.pad(image == k, ((0, 0), (1, 1))).astype(np.int8)
        row, start = np.nonzero(np.diff(mask, axis=1) == 1)
        _, end = np.nonzero(np.diff(mask, axis=1) == -1)
        if len(row):
            side = raster.px0_per_px
            runs = shapely.box(start * side, row * side, end * side, (row + 1) * side)
            found[k] = shapely.union_all(runs)
    return found
