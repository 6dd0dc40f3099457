"""Slide: an image file whose regions are read in level-0 pixels, at any scale."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.slide.bit_depth import LEAST_BITS, MOST_BITS
from hespotex.slide.decoded import DecodedImage
from hespotex.slide.pixel_size import MAX_MPP, PixelSize, judge
from hespotex.slide.sources import LevelSource, open_source, read_padded
from hespotex.slide.zarr_image import image_path, is_zarr, zarr_key
from hespotex.storage.content_keys import content_key, file_key
from hespotex.storage.disk_errors import damaged

# Decoded chunks that are kept: neighbouring patches overlap, and every pixel is decoded once.
_CACHE_BYTES = 128 * 2**20
# A level may be this much coarser than asked for (pyramids are off by a pixel in their last rows).
_LEVEL_SLACK = 1.005
# Regions above this many pixels of a level are read and shrunk band by band.
_BAND_PIXELS = 2**25
# Blocks a side into which the thumbnail of a damaged slide is divided.
_THUMBNAIL_BLOCKS = 64
_CUBIC_MARGIN = 3


class Slide:
    """An open slide; made by `open_slide`, closed by `close` or a `with` block.

    Attributes:
        reader: which library reads it.
        width_px0, height_px0: size in level-0 pixels.
        level_downsamples: level-0 pixels per pixel of each level.
        mpp: microns per level-0 pixel, stated by the caller or else by the file's own tags; None
            where neither says anything believable.
        mpp_source: where `mpp` comes from.
        mpp_sources: every believable value in the file's tags, by the name of the tag.
        bounds_px0: x, y where the part of level 0 that holds an image starts (MRXS); else (0, 0).
        mpp_rejected: values in the tags that mean "not set" (72 dpi, 1000, ...).
        picture: which of several pictures in the file this is, where it is not the first and alone of its size; else empty.
        bits: of a sample, that hold the picture.
        stated_bits: the same where the caller stated them.
    """

    def __init__(
        self, path: Path, source: LevelSource, reader: str, mpp: float | None, bits: int | None,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:  # fmt: skip
        self.path = path
        self.bits, self.stated_bits = source.bits, bits
        self.reader = reader
        self._source = source
        self._chunks = _ChunkCache(source, cache_bytes)
        self.width_px0, self.height_px0 = source.level_sizes[0]
        self.level_downsamples = source.level_downsamples
        self.bounds_px0 = source.bounds_px0
        self.picture = source.picture
        tags: PixelSize = judge(source.mpp_tags)
        self.mpp_sources: Mapping[str, float] = tags.sources
        self.mpp_rejected: Mapping[str, float] = tags.rejected
        self.mpp = tags.mpp if mpp is None else mpp
        self.mpp_source = tags.mpp_source if mpp is None else "stated"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and forget decoded pixels."""
        self._chunks.clear()
        self._source.close()

    def key(self) -> str:
        """Key of the file's content, as `slide_key`."""
        return slide_key(self.path, self.stated_bits)

    def read_region(
        self,
        x_px0: float,
        y_px0: float,
        width_px0: float,
        height_px0: float,
        out_width: int,
        out_height: int,
    ) -> npt.NDArray[np.uint8]:
        """Read a rectangle of level-0 pixels, resampled to a given size.

        Read from the coarsest level that is not coarser than the output. Shrinking averages over
        areas, and the rectangle is snapped to whole pixels of the level read, which are never larger
        than pixels of the output; enlarging is cubic and exact to a fraction of a pixel.

        Args:
            x_px0, y_px0: corner of the top left pixel, may lie outside the slide.
            width_px0, height_px0: size of the rectangle, above 0.
            out_width, out_height: size of the result in pixels.

        Returns:
            (out_height, out_width, 3) RGB, white outside the slide.

        Raises:
            SlideError: the file is damaged there.
        """
        if width_px0 <= 0 or height_px0 <= 0 or out_width < 1 or out_height < 1:
            raise ValueError(
                f"a region needs a size above 0, found {width_px0} x {height_px0} px to "
                f"{out_width} x {out_height}"
            )
        level = self._level_for(min(width_px0 / out_width, height_px0 / out_height))
        downsample = self.level_downsamples[level]
        box = (
            x_px0 / downsample,
            y_px0 / downsample,
            width_px0 / downsample,
            height_px0 / downsample,
        )
        if box[2] * box[3] <= _BAND_PIXELS or box[3] < 2 * out_height:
            return self._read_box(level, box, out_width, out_height)
        n_bands = math.ceil(box[2] * box[3] / _BAND_PIXELS)
        edges = np.unique(np.linspace(0, out_height, min(n_bands, out_height) + 1).astype(int))
        rows = box[3] / out_height
        bands = [
            self._read_box(
                level, (box[0], box[1] + a * rows, box[2], (b - a) * rows), out_width, int(b - a)
            )
            for a, b in itertools.pairwise(edges)
        ]
        return np.concatenate(bands)

    def thumbnail(self, max_side_px: int) -> tuple[npt.NDArray[np.uint8], float]:
        """The whole slide, no side longer than `max_side_px`.

        Returns:
            (h, w, 3) RGB, and level-0 pixels per pixel of it (the same for x and y, >= 1).
        """
        scale = max(1.0, max(self.width_px0, self.height_px0) / max_side_px)
        width = max(1, math.ceil(self.width_px0 / scale - 1e-9))
        height = max(1, math.ceil(self.height_px0 / scale - 1e-9))
        if isinstance(self._source, DecodedImage):
            reduced = self._source.reduced(scale)
            if reduced is not None:
                pixels, by = reduced
                return _average(pixels, scale / by, width, height), scale
        return self.read_region(0, 0, width * scale, height * scale, width, height), scale

    def thumbnail_around_holes(
        self, max_side_px: int
    ) -> tuple[npt.NDArray[np.uint8], float, float]:
        """As `thumbnail`, with blocks that cannot be read left white; and the share of those.

        Raises:
            SlideError: no block can be read.
        """
        try:
            return *self.thumbnail(max_side_px), 0.0
        except SlideError as error:
            scale = max(1.0, max(self.width_px0, self.height_px0) / max_side_px)
            width, height = (math.ceil(n / scale - 1e-9) for n in (self.width_px0, self.height_px0))
            rgb = np.full((height, width, 3), 255, np.uint8)
            side, unreadable = math.ceil(max(width, height) / _THUMBNAIL_BLOCKS), 0
            for y, x in itertools.product(range(0, height, side), range(0, width, side)):
                w, h = min(side, width - x), min(side, height - y)
                try:
                    block = self.read_region(x * scale, y * scale, w * scale, h * scale, w, h)
                    rgb[y : y + h, x : x + w] = block
                except SlideError:
                    unreadable += w * h
            if unreadable == width * height:
                raise error
            return rgb, scale, unreadable / (width * height)

    def _level_for(self, scale: float) -> int:
        fits = [i for i, d in enumerate(self.level_downsamples) if d <= scale * _LEVEL_SLACK]
        return max(fits, key=lambda i: self.level_downsamples[i], default=0)

    def _read_box(
        self, level: int, box: tuple[float, float, float, float], out_width: int, out_height: int
    ) -> npt.NDArray[np.uint8]:
        x, y, width, height = box
        if width >= out_width and height >= out_height:
            left, top = round(x), round(y)
            columns, rows = round(width), round(height)
            pixels = self._chunks.read(level, left, top, columns, rows)
            return _shrink(pixels, out_width, out_height)
        left, top = math.floor(x) - _CUBIC_MARGIN, math.floor(y) - _CUBIC_MARGIN
        columns = math.ceil(x + width) + _CUBIC_MARGIN - left
        rows = math.ceil(y + height) + _CUBIC_MARGIN - top
        pixels = self._chunks.read(level, left, top, columns, rows)
        return _enlarge(pixels, (x - left, y - top, width, height), out_width, out_height)


def _average(
    pixels: npt.NDArray[np.uint8], scale: float, out_width: int, out_height: int
) -> npt.NDArray[np.uint8]:
    """Weighted means of about `scale` pixels a side, to fractions of a pixel; white beyond the last ones."""
    from PIL import Image

    rows, columns = pixels.shape[:2]
    width, height = out_width * scale, out_height * scale
    whole = Image.new(
        "RGB", (max(columns, math.ceil(width)), max(rows, math.ceil(height))), "white"
    )
    whole.paste(Image.fromarray(pixels))
    box = (0, 0, width, height)
    return np.asarray(whole.resize((out_width, out_height), Image.Resampling.HAMMING, box))


def _shrink(
    pixels: npt.NDArray[np.uint8], out_width: int, out_height: int
) -> npt.NDArray[np.uint8]:
    import cv2

    if pixels.shape[:2] == (out_height, out_width):
        return pixels.copy()
    return np.asarray(cv2.resize(pixels, (out_width, out_height), interpolation=cv2.INTER_AREA))


def _enlarge(
    pixels: npt.NDArray[np.uint8],
    box: tuple[float, float, float, float],
    out_width: int,
    out_height: int,
) -> npt.NDArray[np.uint8]:
    """Cubic resampling of a box inside `pixels`; an axis that shrinks is averaged first."""
    import cv2

    x, y, width, height = box
    rows, columns = pixels.shape[:2]
    scale_x, scale_y = width / out_width, height / out_height
    if max(scale_x, scale_y) > 1:
        columns_new = columns if scale_x <= 1 else max(1, round(columns / scale_x))
        rows_new = rows if scale_y <= 1 else max(1, round(rows / scale_y))
        pixels = np.asarray(
            cv2.resize(pixels, (columns_new, rows_new), interpolation=cv2.INTER_AREA)
        )
        fx, fy = columns_new / columns, rows_new / rows
        x, y, scale_x, scale_y = x * fx, y * fy, scale_x * fx, scale_y * fy
    # Pixel centres: output u stands for input x + (u + 1/2) * scale - 1/2.
    to_input = np.array(
        [[scale_x, 0.0, x + scale_x / 2 - 0.5], [0.0, scale_y, y + scale_y / 2 - 0.5]]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(
        pixels, to_input, (out_width, out_height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped)


class _ChunkCache:
    """Regions of any place and size, put together from decoded chunks of a fixed grid.

    The grid makes a pixel's value independent of what was read before; the least recently used
    chunks are dropped.
    """

    def __init__(self, source: LevelSource, most_bytes: int) -> None:
        self._source, self._most = source, most_bytes
        self._chunks: OrderedDict[tuple[int, int, int], npt.NDArray[np.uint8]] = OrderedDict()
        self._broken: set[tuple[int, int, int]] = set()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) pixels of a level, white outside of it."""
        if self._source.whole_in_memory:
            return read_padded(self._source, level, x, y, width, height)
        out = np.full((height, width, 3), 255, np.uint8)
        full_width, full_height = self._source.level_sizes[level]
        rows, columns = self._source.chunk_shapes[level]
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, full_width), min(y + height, full_height)
        for j in range(top // rows, -(-bottom // rows) if top < bottom else 0):
            for i in range(left // columns, -(-right // columns) if left < right else 0):
                x0, y0 = i * columns, j * rows
                a, b = max(left, x0), min(right, x0 + columns)
                c, d = max(top, y0), min(bottom, y0 + rows)
                chunk = self._chunk(level, i, j)
                if chunk is None:  # what lies beside the damage is still there
                    with self._lock:
                        part = self._source.read(level, a, c, b - a, d - c)
                else:
                    part = chunk[c - y0 : d - y0, a - x0 : b - x0]
                out[c - y : d - y, a - x : b - x] = part
        return out

    def _chunk(self, level: int, i: int, j: int) -> npt.NDArray[np.uint8] | None:
        """None where it cannot be decoded as a whole: the file's own tiles may be smaller."""
        with self._lock:
            key = (level, i, j)
            if key in self._broken:
                return None
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key]
            rows, columns = self._source.chunk_shapes[level]
            full_width, full_height = self._source.level_sizes[level]
            x, y = i * columns, j * rows
            width, height = min(columns, full_width - x), min(rows, full_height - y)
            try:
                chunk = self._source.read(level, x, y, width, height)
            except SlideError:
                self._broken.add(key)
                return None
            self._chunks[key] = chunk
            self._bytes += chunk.nbytes
            while self._bytes > self._most and len(self._chunks) > 1:
                self._bytes -= self._chunks.popitem(last=False)[1].nbytes
            return chunk

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._chunks.clear()
            self._bytes = 0


def slide_key(path: Path, bits: int | None = None) -> str:
    """Key of a slide's content without opening it as a slide; for MIRAX and Zarr of the folder.

    Args:
        bits: of a sample, where they are stated: other bits are other colours.

    Raises:
        SlideError: the file is missing or cannot be read.
    """
    if bits is not None:
        return content_key(slide_key(path), "bits", bits)
    try:
        folder = path.with_suffix("")
        if path.suffix.lower() == ".mrxs" and folder.is_dir():
            parts = [(p.name, file_key(p)) for p in sorted(folder.iterdir()) if p.is_file()]
            return content_key(file_key(path), parts)
        if is_zarr(path):
            return zarr_key(image_path(path))
        return file_key(path)
    except OSError as error:
        raise damaged(SlideError, "a readable slide", error, f"({path})") from error


def open_slide(
    path: str | Path, *, mpp: float | None = None, bits: int | None = None, cache_bytes: int = _CACHE_BYTES
) -> Slide:  # fmt: skip
    """Open a slide or an image.

    Args:
        path: everything that OpenSlide reads, TIFF of any kind, JPEG, PNG, OME-Zarr, a SpatialData store
            with one image.
        mpp: microns per level-0 pixel where the caller knows it; used exactly as given.
        bits: of a sample of 16, that hold the picture, where no tag tells it (a camera of 12 bits).
        cache_bytes: of decoded pixels that are kept.

    Raises:
        SlideError: the file is missing, no image, cut short, of a kind that cannot be read, or nothing tells how many
            bits its colours fill.
        ValueError: `mpp` is not above 0, or `bits` are not between 8 and 32.

    Example:
        >>> with open_slide("slide.svs") as slide:  # doctest: +SKIP
        ...     patch = slide.read_region(1000.0, 2000.0, 448.0, 448.0, 224, 224)
    """
    path = Path(path)
    if mpp is not None and not 0 < mpp <= MAX_MPP:
        raise ValueError(f"mpp has to be above 0 and at most {MAX_MPP:g} um per pixel, found {mpp}")
    if bits is not None and not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"bits have to be between {LEAST_BITS} and {MOST_BITS}, found {bits}")
    try:
        if path.is_dir() and not is_zarr(path):
            raise SlideError(expected="an image file as slide", found=f"a folder: {path}")
        path.stat()
        source, reader = open_source(path, bits)
    except SlideError:
        raise
    except Exception as error:  # tags of a damaged file make libraries fail in ways of their own
        raise damaged(SlideError, "a readable slide", error, f"({path})") from error
    return Slide(path, source, reader, mpp, bits, cache_bytes)
