"""Owns outlines of nuclei that a user brings (GeoJSON, QuPath): read one by one, drawn as they are asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from hespotex.errors import NucleiError
from hespotex.nuclei.labels import Labels
from hespotex.runs import content_key, file_key

# Outlines are drawn at this resolution, or at the slide's own where that is coarser.
OUTLINE_MPP: Final = 0.5
# What QuPath exports beside nuclei, by properties.objectType.
_NO_NUCLEI: Final = {"root", "annotation", "tile", "tma_core"}
_SUBPIXEL_BITS = 4
_START = re.compile(r'\s*\[|.*?"features"\s*:\s*\[', re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")


class OutlineLabels:
    """Nuclei given by their outlines; all outlines are held, the objects of the file are not.

    Args:
        path: GeoJSON in level-0 pixels.
        size_px0: width and height of the slide.
        mpp: microns per level-0 pixel.
        origin_px0: where the coordinates of the file start.

    Raises:
        NucleiError: there is no outline, or none lies on the slide.
    """

    given = True

    def __init__(
        self,
        path: Path,
        size_px0: tuple[int, int],
        mpp: float,
        origin_px0: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        import shapely

        self._path, self._origin_px0 = path, origin_px0
        self.step_px0 = max(OUTLINE_MPP / mpp, 1.0)
        shapes, others = [], 0
        for feature in _features(path):
            if (feature.get("properties") or {}).get("objectType") in _NO_NUCLEI:
                others += 1
                continue
            outline = feature.get("nucleusGeometry") or feature.get("geometry", feature)
            shape = None if outline is None else shapely.from_geojson(json.dumps(outline))
            if shape is not None and shape.area > 0:
                shapes.append(shape)
        if not shapes:
            found = f"{others:,} objects that are none (annotations, tiles)" if others else "none"
            raise NucleiError(
                f"expected outlines of nuclei with an area in {path}, found {found}; export detections or cells"
            )
        self._shapes = shapely.transform(shapes, lambda xy: xy + origin_px0).tolist()
        self._tree = shapely.STRtree(self._shapes)
        if not len(self._tree.query(shapely.box(0, 0, *size_px0))):
            raise NucleiError(
                f"expected outlines on the slide of {size_px0[0]} x {size_px0[1]} px, found none of "
                f"{len(self._shapes)} of {path} there; give level-0 pixels of this slide"
            )

    def read(self, x: int, y: int, width: int, height: int) -> Labels:
        """See `LabelSource`."""
        import cv2
        import shapely

        step = self.step_px0
        out = np.zeros((height, width), np.int32)
        box = shapely.box(x * step, y * step, (x + width) * step, (y + height) * step)
        for number, place in enumerate(np.sort(self._tree.query(box)).tolist(), start=1):
            rings = [
                np.asarray(part.exterior.coords)[:, :2]
                for part in shapely.get_parts(self._shapes[place])
                if part.geom_type == "Polygon"
            ]
            # Pixel centres lie at whole numbers; the last bits are fractions of a pixel.
            points = [
                np.round(((ring / step) - (x + 0.5, y + 0.5)) * 2**_SUBPIXEL_BITS).astype(np.int32)
                for ring in rings
            ]
            cv2.fillPoly(out, points, number, shift=_SUBPIXEL_BITS)
        return out

    def key(self) -> str:
        """Key of the file's content and of where its coordinates start."""
        return content_key("outlines", file_key(self._path), OUTLINE_MPP, list(self._origin_px0))


def _features(path: Path) -> Iterator[Any]:
    """The features of a collection or a list, one after another: as a whole they take tens of times the file."""
    text = path.read_text(encoding="utf-8-sig")
    start = _START.match(text)
    if start is None:
        yield json.loads(text)
        return
    decoder, at = json.JSONDecoder(), start.end()
    while True:
        between = _BETWEEN.match(text, at)
        at = between.end() if between is not None else at
        if text[at : at + 1] == "]":
            return
        feature, at = decoder.raw_decode(text, at)
        yield feature
