"""Outlines of nuclei that a user brings (GeoJSON, QuPath): where each stands in the file, drawn as asked for."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from math import ceil, floor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import NucleiError
from hespotex.nuclei.labels import Labels
from hespotex.storage.content_keys import content_key, file_key
from hespotex.storage.disk_errors import disk_fields
from hespotex.storage.geojson import ignored_class, object_type, read_features

# Outlines are drawn at this resolution, or at the slide's own where that is coarser.
OUTLINE_MPP: Final = 0.5
# An annotation, or an object of unknown type, that is larger is a region, not a nucleus.
_REGION_UM2: Final = 48.0**2
# What QuPath exports beside nuclei.
_NO_NUCLEI: Final = {"root", "tile", "tma_core"}
_SUBPIXEL_BITS = 4
_FARTHEST_PX0 = 1e9


class OutlineLabels:
    """Nuclei given by their outlines, which are read from the file again where they are drawn.

    Held are the place of each in the file and its bounds. Detections and cells are nuclei; in a file
    without any, annotations of a nucleus's size are (so people draw them, and so some programs write
    them). Regions, tiles and cores are passed over.

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
        self._path, self._origin_px0 = path, np.asarray(origin_px0, np.float64)
        self.step_px0 = max(OUTLINE_MPP / mpp, 1.0)
        nuclei, drawn, others = _Index(), _Index(), 0
        with path.open("rb") as file:
            for feature in read_features(file):
                kind, shape = object_type(feature.value), _shape(feature.value)
                if shape is None or not shape.area > 0:
                    continue
                region = shape.area * mpp**2 > _REGION_UM2
                if (
                    ignored_class(feature.value)
                    or kind in _NO_NUCLEI
                    or (region and kind in {"annotation", None})
                ):
                    others += 1
                    continue
                index = drawn if kind == "annotation" else nuclei
                index.add(feature.start, feature.length, shape.bounds)
        chosen = nuclei if len(nuclei) else drawn
        if not len(chosen):
            found = (
                f"{others:,} objects that are none (regions, annotations, tiles, ignored classes)"
                if others
                else "none"
            )
            raise NucleiError(
                expected=f"outlines of nuclei with an area in {path}",
                found=found,
                remedy="export detections or cells",
            )
        self._places, self._bounds = chosen.sorted_by_top(self._origin_px0)
        self._tallest = int((self._bounds[:, 3] - self._bounds[:, 1]).max())
        if not len(self._inside(0, 0, *size_px0)):
            raise NucleiError(
                expected=f"outlines on the slide of {size_px0[0]} x {size_px0[1]} px",
                found=f"none of {len(chosen)} of {path} there",
                remedy="give level-0 pixels of this slide",
            )

    def _inside(
        self, left: float, top: float, right: float, bottom: float
    ) -> npt.NDArray[np.int64]:
        """(k, 2) place and length in the file of outlines whose bounds touch a box, in the file's order."""
        tops = self._bounds[:, 1]
        band = slice(
            np.searchsorted(tops, top - self._tallest, "left"),
            np.searchsorted(tops, bottom, "right"),
        )
        x0, _, x1, y1 = self._bounds[band].T
        places = self._places[band][(x0 <= right) & (x1 >= left) & (y1 >= top)]
        return np.asarray(places[np.argsort(places[:, 0])])

    def read(self, x: int, y: int, width: int, height: int) -> Labels:
        """See `LabelSource`."""
        import cv2
        import shapely

        step = self.step_px0
        out = np.zeros((height, width), np.int32)
        places = self._inside(x * step, y * step, (x + width) * step, (y + height) * step)
        for number, shape in enumerate(self._shapes(places), start=1):
            rings = [
                np.asarray(part.exterior.coords)[:, :2] + self._origin_px0
                for part in shapely.get_parts(shape)
                if part.geom_type == "Polygon"
            ]
            # Pixel centres lie at whole numbers; the last bits are fractions of a pixel.
            points = [
                np.round(((ring / step) - (x + 0.5, y + 0.5)) * 2**_SUBPIXEL_BITS).astype(np.int32)
                for ring in rings
            ]
            cv2.fillPoly(out, points, number, shift=_SUBPIXEL_BITS)
        return out

    def _shapes(self, places: npt.NDArray[np.int64]) -> Iterator[Any]:
        try:
            with self._path.open("rb") as file:
                for start, length in places.tolist():
                    file.seek(start)
                    yield _shape(json.loads(file.read(length)))
        except (OSError, ValueError) as error:
            raise NucleiError(
                expected=f"the outlines of {self._path} as they were when the run began",
                **disk_fields(error, otherwise="run again"),
            ) from error

    def key(self) -> str:
        """Key of the file's content and of where its coordinates start."""
        return content_key(
            "outlines without ignored classes",
            file_key(self._path),
            OUTLINE_MPP,
            self._origin_px0.tolist(),
            _REGION_UM2,
        )


class _Index:
    """Places and bounds of outlines, in arrays of plain numbers."""

    def __init__(self) -> None:
        self._starts, self._lengths, self._bounds = array("q"), array("i"), array("i")

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, length: int, bounds: tuple[float, float, float, float]) -> None:
        left, top, right, bottom = (min(max(v, -_FARTHEST_PX0), _FARTHEST_PX0) for v in bounds)
        self._starts.append(start)
        self._lengths.append(length)
        self._bounds.extend((floor(left), floor(top), ceil(right), ceil(bottom)))

    def sorted_by_top(
        self, moved_px0: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """(n, 2) start and length in the file, (n, 4) left, top, right, bottom in level-0 pixels."""
        bounds = np.frombuffer(self._bounds, np.int32).reshape(-1, 4)
        order = np.argsort(bounds[:, 1], kind="stable")
        moved = np.concatenate([np.floor(moved_px0), np.ceil(moved_px0)]).astype(np.int32)
        places = np.stack([self._starts, self._lengths], axis=1).astype(np.int64)
        return places[order], bounds[order] + moved


def _shape(feature: Any) -> Any:
    """The outline as shapely geometry: of a cell its nucleus's; None where there is none."""
    import shapely

    outline = feature.get("nucleusGeometry") or feature.get("geometry", feature)
    return None if outline is None else shapely.from_geojson(json.dumps(outline))
