"""TIFF files that OpenSlide does not read or sees only in part: strips, OME pyramids, 16 bit.

Tiles and strips are decoded when they are asked for; a file is never loaded as a whole unless it is
one single compressed strip.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.slide.bit_depth import bits_in_use, no_pixels
from hespotex.slide.tiff_colour import (
    check_colours,
    colour_samples,
    fills_its_bits,
    keeps_ycbcr,
    to_rgb,
)
from hespotex.slide.tiff_tags import (
    levels_of,
    mpp_tags,
    orientation,
    picture_said,
    slide_series,
    stated_maxima,
    suits_openslide,
)
from hespotex.storage.disk_errors import damaged

_CHUNK_PX = 512
_STRIP_ROWS = 64
# Chunks in which the largest value of samples of 16 bits is looked for.
_LOOKED_AT = 64
_TURNED, _FLIPPED_X, _FLIPPED_Y = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}


class TiffImage:
    """The largest picture of a TIFF file with its pyramid levels, turned as its tag says.

    Args:
        path: a TIFF, BigTIFF or OME-TIFF file.
        bits: of a sample, that hold the picture, where the user states them.

    Raises:
        SlideError: no TIFF, cut short, compressed in a way that is not known here, no colours, or colours of which
            nothing tells how many bits they fill.
    """

    whole_in_memory = False
    bounds_px0 = (0.0, 0.0)

    def __init__(self, path: Path, bits: int | None = None) -> None:
        import tifffile

        self.path = path
        try:
            self._file = tifffile.TiffFile(path)
        except (OSError, ValueError, LookupError) as error:
            raise damaged(SlideError, "a whole TIFF file", error, f"in {path}") from error
        try:
            self._lock = threading.Lock()
            series = slide_series(self._file)
            self.picture = picture_said(self._file, series)
            self._orientation = orientation(series.keyframe)
            tags = mpp_tags(self._file, series)
            self._levels = _open_levels(series, path)
            self.bits = self._decide_bits(series.keyframe, bits)
        except SlideError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise damaged(SlideError, "a TIFF image", error, f"in {path}") from error
        sizes = [(v.width, v.height) for v in self._levels]
        chunks = [v.chunk_shape for v in self._levels]
        if self._orientation in _TURNED:
            sizes, chunks = [size[::-1] for size in sizes], [shape[::-1] for shape in chunks]
            tags = {name: axes[::-1] for name, axes in tags.items()}
        first = sizes[0]
        self.level_sizes = tuple(sizes)
        self.level_downsamples = tuple((first[0] / w + first[1] / h) / 2 for w, h in sizes)
        self.chunk_shapes = tuple(chunks)
        self.mpp_tags = tags

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB; x, y in pixels of the level, all of it inside the image."""
        try:
            with self._lock:
                return self._read_upright(level, x, y, width, height)
        except Exception as error:  # codecs raise their own kinds
            raise no_pixels((x, y), level, self.path, error) from error

    def _decide_bits(self, page: Any, stated: int | None) -> int:
        container = int(page.bitspersample)
        if fills_its_bits(page) or isinstance(self._levels[0], _DecodedLevel):
            return container
        maxima = self._levels[-1].maxima()  # means of pixels: hardly darker, and quick
        return bits_in_use(
            self.path, container, maxima, stated=stated, tags=stated_maxima(self._file, page)
        )

    def _read_upright(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> npt.NDArray[np.uint8]:
        """A region as it is shown: the tag's turn is a swap of the axes, then flips."""
        full_width, full_height = self.level_sizes[level]
        flip_x, flip_y = self._orientation in _FLIPPED_X, self._orientation in _FLIPPED_Y
        x, y = full_width - x - width if flip_x else x, full_height - y - height if flip_y else y
        if self._orientation in _TURNED:
            pixels = self._levels[level].read(y, x, height, width, self.bits).transpose(1, 0, 2)
        else:
            pixels = self._levels[level].read(x, y, width, height, self.bits)
        return np.ascontiguousarray(pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1])

    def close(self) -> None:
        """Close the file."""
        for level in self._levels:
            level.close()
        self._file.close()


def _open_levels(series: Any, path: Path) -> list[_Level | _DecodedLevel]:
    page = series.keyframe
    if keeps_ycbcr(page) and tuple(page.subsampling or (2, 2)) != (1, 1):
        return [_DecodedLevel(page, path)]
    return [_Level(level, path) for level in levels_of(series)]


class _DecodedLevel:
    """A picture whose colours are coarser than its light, without JPEG: libtiff decodes it, as a whole."""

    def __init__(self, page: Any, path: Path) -> None:
        import imagecodecs

        self._pixels = np.asarray(
            imagecodecs.tiff_decode(path.read_bytes(), index=page.index, asrgb=True)
        )[..., :3]
        self.height, self.width = self._pixels.shape[:2]
        self.chunk_shape = (self.height, self.width)

    def read(self, x: int, y: int, width: int, height: int, _bits: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB of 8 bits."""
        return self._pixels[y : y + height, x : x + width]

    def maxima(self) -> Iterator[int]:
        """None: 8 bits are what they are."""
        return iter(())

    def close(self) -> None:
        """Nothing is open."""


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
                expected="one flat colour image",
                found=f"axes {axes} of {shape} in {path}",
                remedy="export a single plane as RGB",
            )
        if n_samples not in {1, 3, 4} and not (n_samples == 2 and self._samples == "S"):
            raise SlideError(
                expected="1, 3 or 4 channels (grey, RGB, RGBA, CMYK)",
                found=f"{n_samples} in {path}",
                remedy="a fluorescence image is no H&E slide",
            )
        check_colours(self._page, path)
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

    def read(self, x: int, y: int, width: int, height: int, bits: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB of 8 bits."""
        return to_rgb(self._samples_at(x, y, width, height), self._page, bits)

    def maxima(self) -> Iterator[int]:
        """The largest value of chunks that lie evenly over the level; channels beside the colours do not count."""
        rows, columns = self.chunk_shape
        places = [
            (x, y) for y in range(0, self.height, rows) for x in range(0, self.width, columns)
        ]
        beside = int(self._page.samplesperpixel) - colour_samples(self._page)
        for i in np.unique(np.linspace(0, len(places) - 1, _LOOKED_AT).astype(int)).tolist():
            x, y = places[i]
            chunk = self._samples_at(x, y, min(columns, self.width - x), min(rows, self.height - y))
            yield int(chunk[..., : max(1, chunk.shape[2] - beside)].max())

    def _samples_at(self, x: int, y: int, width: int, height: int) -> npt.NDArray[Any]:
        """(height, width, samples) as they are stored."""
        where = {"Y": slice(y, y + height), "X": slice(x, x + width)}
        index = tuple(where.get(a, slice(None)) for a in self._axes)
        values = np.asarray(self._array[index])
        order = [self._axes.index(a) for a in ("Y", "X", self._samples) if a is not None]
        rest = [i for i in range(values.ndim) if i not in order]
        return values.transpose(*order, *rest).reshape(height, width, -1)

    def close(self) -> None:
        self._store.close()


def openslide_reads(path: Path) -> bool:
    """Whether OpenSlide's reader of plain TIFF gives the slide as its tags mean it."""
    with _open_quietly(path) as tiff, suppress(ValueError):
        return not tiff.is_ome and suits_openslide(tiff)
    return False  # without a picture: our reader says so


def picture_in(path: Path) -> str:
    """Which of several pictures of a TIFF file is the slide, where that is to be said; else empty."""
    with _open_quietly(path) as tiff:
        return picture_said(tiff, slide_series(tiff))


def find_missing_bytes(path: Path) -> str | None:
    """What shows that a TIFF file is cut short, for a message; None where it is whole."""
    size, needed = path.stat().st_size, 0
    with _open_quietly(path) as tiff:
        n_pages = len(tiff.pages)
        following = int(tiff.pages.next_page_offset or 0)
        if n_pages == 0 or following >= size:
            return f"its directory of page {n_pages + 1} is missing, it has {size} bytes"
        for page in tiff.pages:
            offsets, counts = page.dataoffsets, page.databytecounts
            if len(offsets) and len(counts):
                ends = np.add(offsets[: len(counts)], counts[: len(offsets)])
                # Nothing is missing of a part without bytes, wherever its place is said to be.
                needed = max(needed, int(ends[np.asarray(counts[: len(ends)]) > 0].max(initial=0)))
    return f"its image data ends at byte {needed}, it has {size} bytes" if needed > size else None


def empty_tiles(path: Path) -> tuple[int, int]:
    """How many tiles or strips of the largest picture hold no data, out of how many; (0, 0) for no TIFF.

    Readers show them as background. Some scanners leave out tiles without tissue; an interrupted copy or
    export leaves them out too.
    """
    try:
        with _open_quietly(path) as tiff:
            page = max(tiff.pages, key=lambda p: p.imagewidth * p.imagelength)
            counts = np.asarray(page.databytecounts)
            return int((counts == 0).sum()), len(counts)
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return 0, 0


@contextmanager
def _open_quietly(path: Path) -> Iterator[Any]:
    """A TIFF file; what tifffile would log of a broken one is said in our own error."""
    import tifffile

    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(path) as tiff:
            yield tiff
    finally:
        logger.setLevel(level)
