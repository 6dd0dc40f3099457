"""Owns TIFF files that OpenSlide does not read or sees only in part: strips, OME pyramids, 16 bit.

Tiles and strips are decoded when they are asked for; a file is never loaded as a whole unless it is
one single compressed strip.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.slide.pixel_size import UM_PER_UNIT, mpp_of_density

_CHUNK_PX = 512
_STRIP_ROWS = 64
_RESOLUTION_UNITS: Mapping[int, str] = {2: "inch", 3: "cm"}


class TiffImage:
    """The largest picture of a TIFF file with its pyramid levels.

    Args:
        path: a TIFF, BigTIFF or OME-TIFF file.

    Raises:
        SlideError: no TIFF, cut short, compressed in a way that is not known here, or no colours.
    """

    whole_in_memory = False
    bounds_px0 = (0.0, 0.0)

    def __init__(self, path: Path) -> None:
        import tifffile

        self.path = path
        try:
            self._file = tifffile.TiffFile(path)
        except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError) as error:
            raise SlideError(
                f"expected a whole TIFF file, found: {error} in {path}; copy or export it again"
            ) from error
        try:
            self._lock = threading.Lock()
            series = max(self._file.series, key=_area)
            self._levels = [_Level(level, path) for level in series.levels]
            self._levels = self._levels[:1] + [v for v in self._levels[1:] if v.height > 0]
        except SlideError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise SlideError(
                f"expected a TIFF image, found: {error} in {path}; copy or export it again"
            ) from error
        first = self._levels[0]
        self.level_sizes = tuple((v.width, v.height) for v in self._levels)
        self.level_downsamples = tuple(
            (first.width / v.width + first.height / v.height) / 2 for v in self._levels
        )
        self.chunk_shapes = tuple(v.chunk_shape for v in self._levels)
        self.mpp_tags = mpp_tags(self._file)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB; x, y in pixels of the level, all of it inside the image."""
        try:
            with self._lock:
                return self._levels[level].read(x, y, width, height)
        except (OSError, ValueError, RuntimeError, IndexError, KeyError) as error:
            raise SlideError(
                f"expected pixels at x {x}, y {y} of level {level}, found: {error} in {self.path}; "
                "the file is damaged there, copy or export it again"
            ) from error

    def close(self) -> None:
        """Close the file."""
        for level in self._levels:
            level.close()
        self._file.close()


class _Level:
    """One level of a pyramid, read through tifffile's zarr store."""

    def __init__(self, level: Any, path: Path) -> None:
        import zarr

        self._page = level.keyframe
        axes, shape = level.axes, level.shape
        self._samples = "S" if "S" in axes else "C" if "C" in axes else None
        n_samples = shape[axes.index(self._samples)] if self._samples else 1
        others = [n for a, n in zip(axes, shape, strict=True) if a not in {"Y", "X", self._samples}]
        if "Y" not in axes or "X" not in axes or any(n != 1 for n in others):
            raise SlideError(
                f"expected one flat colour image, found axes {axes} of {shape} in {path}; "
                "export a single plane as RGB"
            )
        if n_samples not in {1, 3, 4} and not (n_samples == 2 and self._samples == "S"):
            raise SlideError(
                f"expected 1, 3 or 4 channels (grey, RGB, RGBA, CMYK), found {n_samples} in {path}; "
                "a fluorescence image is no H&E slide"
            )
        if self._page.dtype.kind not in "ub":
            raise SlideError(
                f"expected colours of 8 or 16 bit, found {self._page.dtype} in {path}; "
                "export the image as 8-bit RGB"
            )
        self.height, self.width = shape[axes.index("Y")], shape[axes.index("X")]
        self._axes = axes
        self._store = level.aszarr(level=0, multiscales=False)
        self._array = zarr.open_array(self._store, mode="r")
        self.chunk_shape = self._choose_chunk()

    def _choose_chunk(self) -> tuple[int, int]:
        """(rows, columns) that are cheap to read at once: whole tiles, or whole strips."""
        rows = self._array.chunks[self._axes.index("Y")]
        columns = self._array.chunks[self._axes.index("X")]
        if columns >= self.width and self.width > _CHUNK_PX:
            return (max(rows, rows * (_STRIP_ROWS // rows)), columns)
        return (
            rows * max(1, round(_CHUNK_PX / rows)),
            columns * max(1, round(_CHUNK_PX / columns)),
        )

    def read(self, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        where = {"Y": slice(y, y + height), "X": slice(x, x + width)}
        index = tuple(where.get(a, slice(None)) for a in self._axes)
        values = np.asarray(self._array[index])
        order = [self._axes.index(a) for a in ("Y", "X", self._samples) if a is not None]
        rest = [i for i in range(values.ndim) if i not in order]
        flat = values.transpose(*order, *rest).reshape(height, width, -1)
        return to_rgb(flat, self._page)

    def close(self) -> None:
        self._store.close()


def to_rgb(values: npt.NDArray[Any], page: Any) -> npt.NDArray[np.uint8]:
    """(H, W, S) samples of a TIFF page -> (H, W, 3) uint8, by photometric interpretation."""
    photometric = int(page.photometric)
    if photometric == 3 and page.colormap is not None:  # palette
        return np.asarray(
            (page.colormap[:, values[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)
        )
    eight = _to_8_bit(values, int(page.bitspersample))
    if photometric == 0:  # white is zero
        eight = 255 - eight
    n = eight.shape[2]
    if photometric == 5 and n >= 4:  # CMYK
        ink = 255 - eight[..., :4].astype(np.uint16)
        return np.asarray((ink[..., :3] * ink[..., 3:] + 127) // 255, np.uint8)
    colour = eight[..., :3] if n >= 3 else np.repeat(eight[..., :1], 3, axis=2)
    if n in {2, 4} and page.extrasamples:
        return _over_white(colour, eight[..., -1:], premultiplied=int(page.extrasamples[0]) == 1)
    return np.ascontiguousarray(colour)


def _to_8_bit(values: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    if values.dtype == bool or bits == 1:
        return (values.astype(np.uint8) * 255).astype(np.uint8)
    if bits < 8:
        return np.asarray(values.astype(np.uint16) * 255 // (2**bits - 1), np.uint8)
    return np.asarray(values >> (bits - 8), np.uint8)


def _over_white(
    colour: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8], *, premultiplied: bool
) -> npt.NDArray[np.uint8]:
    a = alpha.astype(np.uint16)
    part = colour.astype(np.uint16) if premultiplied else (colour * a + 127) // 255
    return np.asarray(np.minimum(part + (255 - a), 255), np.uint8)


def mpp_tags(tiff: Any) -> dict[str, tuple[float, float]]:
    """(x, y) microns per pixel by tag, the most trusted first, believable or not."""
    found: dict[str, tuple[float, float]] = {}
    page = tiff.pages.first
    if tiff.ome_metadata:
        found.update(ome_pixel_size(tiff.ome_metadata))
    found.update(aperio_pixel_size(page.description or ""))
    tags = page.tags
    if "XResolution" in tags and "YResolution" in tags:
        unit_tag = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
        unit = _RESOLUTION_UNITS.get(unit_tag, "none")
        imagej = (tiff.imagej_metadata or {}).get("unit")
        if unit == "none" and imagej:
            unit = str(imagej).replace("\\u00B5", "µ")
        axes = tuple(_density(tags[name].value, unit) for name in ("XResolution", "YResolution"))
        if not all(map(math.isnan, axes)):
            found["TIFF resolution"] = (axes[0], axes[1])
    return found


def aperio_pixel_size(description: str) -> dict[str, tuple[float, float]]:
    """`MPP = 0.5`, as Aperio writes it into a description and others copy it along."""
    aperio = re.search(r"\bMPP\s*=\s*([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?)", description)
    return {"Aperio MPP": (float(aperio.group(1)), float(aperio.group(1)))} if aperio else {}


def _density(value: Any, unit: str) -> float:
    numerator, denominator = value if isinstance(value, tuple) else (value, 1)
    return mpp_of_density(numerator / denominator, unit) if denominator else math.nan


def ome_pixel_size(xml: str) -> dict[str, tuple[float, float]]:
    """PhysicalSizeX and PhysicalSizeY of the first image in OME-XML, in microns."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return {}
    for pixels in root.iter():
        if pixels.tag.rpartition("}")[2] != "Pixels":
            continue
        sizes = []
        for axis in "XY":
            size = pixels.get(f"PhysicalSize{axis}")
            unit = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), math.nan)
            try:
                sizes.append(float(size) * unit if size else math.nan)
            except ValueError:
                sizes.append(math.nan)
        return {} if all(map(math.isnan, sizes)) else {"OME PhysicalSize": (sizes[0], sizes[1])}
    return {}


def _area(series: Any) -> int:
    shape = dict(zip(series.axes, series.shape, strict=True))
    return int(shape.get("Y", 0)) * int(shape.get("X", 0))


def find_missing_bytes(path: Path) -> str | None:
    """What shows that a TIFF file is cut short, for a message; None where it is whole."""
    import tifffile

    size = path.stat().st_size
    needed = 0
    with quiet_tifffile(), tifffile.TiffFile(path) as tiff:
        n_pages = len(tiff.pages)
        following = int(tiff.pages.next_page_offset or 0)
        if n_pages == 0 or following >= size:
            return f"its directory of page {n_pages + 1} is missing, it has {size} bytes"
        for page in tiff.pages:
            offsets, counts = page.dataoffsets, page.databytecounts
            if len(offsets) and len(counts):
                ends = np.add(offsets[: len(counts)], counts[: len(offsets)])
                needed = max(needed, int(ends.max()))
    return f"its image data ends at byte {needed}, it has {size} bytes" if needed > size else None


def empty_tiles(path: Path) -> tuple[int, int]:
    """How many tiles or strips of the largest picture hold no data, out of how many; (0, 0) for no TIFF.

    Readers show them as background. Some scanners leave out tiles without tissue; an interrupted copy or
    export leaves them out too.
    """
    import tifffile

    try:
        with quiet_tifffile(), tifffile.TiffFile(path) as tiff:
            page = max(tiff.pages, key=lambda p: p.imagewidth * p.imagelength)
            counts = np.asarray(page.databytecounts)
            return int((counts == 0).sum()), len(counts)
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, AttributeError):
        return 0, 0


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """What tifffile would log of a broken file is said in our own error."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
