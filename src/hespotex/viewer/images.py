"""Tiles of a slide on demand: from its file, else from the picture that its prediction carries."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.export.h5ad import StoredPrediction, Thumbnail
from hespotex.slide import Slide, open_slide
from hespotex.viewer.sources import Entry

TILE_PX: Final = 256
_QUALITY: Final = 85
_THUMBNAIL_PX: Final = 320
_CACHE_BYTES: Final = 48 * 2**20
# Of decoded pixels, for each open slide: tiles are kept packed, so that few pixels are asked for twice.
_DECODED_BYTES: Final = 12 * 2**20
# A slide of another size than the prediction's picture by more than this is another slide.
_OFF: Final = 0.02

Pixels = npt.NDArray[np.uint8]


class _Regions(Protocol):
    def read_region(
        self, x_px0: float, y_px0: float, width_px0: float, height_px0: float,
        out_width: int, out_height: int,
    ) -> Pixels: ...  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """The tiles of a slide: at zoom z, 2**z of 256 px a side cover the square that holds it.

    Attributes:
        width_px0, height_px0: of the slide.
        max_zoom: whose tiles have level-0 pixels.
    """

    width_px0: float
    height_px0: float
    max_zoom: int

    @classmethod
    def of(cls, width_px0: float, height_px0: float) -> Grid:
        """The grid of a slide of this size."""
        tiles = max(width_px0, height_px0, 1) / TILE_PX
        return cls(width_px0, height_px0, max(0, math.ceil(math.log2(tiles))))

    def box(self, zoom: int, column: int, row: int) -> tuple[float, float, float] | None:
        """Left, top and side of a tile in level-0 pixels; None where it lies beside the slide."""
        if not (0 <= zoom <= self.max_zoom and min(column, row) >= 0):
            return None
        side = TILE_PX * 2.0 ** (self.max_zoom - zoom)
        left, top = column * side, row * side
        return (left, top, side) if left < self.width_px0 and top < self.height_px0 else None


class _Picture:
    """The small picture of a prediction, read as a slide is."""

    def __init__(self, thumbnail: Thumbnail) -> None:
        self._image = np.ascontiguousarray(thumbnail.image[..., :3])
        self._scale = thumbnail.px0_per_px

    def read_region(
        self, x_px0: float, y_px0: float, width_px0: float, height_px0: float, out_width: int, out_height: int
    ) -> Pixels:  # fmt: skip
        import cv2

        step_x = width_px0 / out_width / self._scale
        step_y = height_px0 / out_height / self._scale
        image, shrunk = self._image, 1.0
        if max(step_x, step_y) > 2:
            shrunk = max(step_x, step_y)
            size = tuple(max(1, round(n / shrunk)) for n in image.shape[1::-1])
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        scale = self._scale * shrunk
        to_input = np.array(
            [
                [width_px0 / out_width / scale, 0, x_px0 / scale + step_x / shrunk / 2 - 0.5],
                [0, height_px0 / out_height / scale, y_px0 / scale + step_y / shrunk / 2 - 0.5],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        white = (255, 255, 255)
        return np.asarray(
            cv2.warpAffine(
                image, to_input, (out_width, out_height), flags=flags, borderValue=white
            ),
            np.uint8,
        )


class SlideImage:
    """What is drawn under the spots of one prediction; opened when first asked.

    Args:
        entry: says where the file lies.
        spots: the prediction: its picture is shown where the file is gone.

    Attributes:
        kind: `file`, `picture` or `none`.
        note: why it is not the file; empty where it is.
        grid: of the tiles; where there is nothing, of what the spots reach.
    """

    def __init__(self, entry: Entry, spots: StoredPrediction) -> None:
        self.kind: str
        self.grid: Grid
        self._regions: _Regions | None = None
        self.note, thumbnail = entry.why_no_image, spots.thumbnail
        self._slide = self._open(entry, spots)
        if self._slide is not None:
            self._regions = self._slide
            self.kind, self.grid = "file", Grid.of(self._slide.width_px0, self._slide.height_px0)
            return
        self.kind = "none" if thumbnail is None else "picture"
        if thumbnail is None:
            reach = spots.xy_px0.max(axis=0) if len(spots.xy_px0) else np.zeros(2)
            radius = spots.spot_diameter_um / spots.mpp
            self.grid = Grid.of(float(reach[0] + radius), float(reach[1] + radius))
            return
        self._regions = _Picture(thumbnail)
        height, width = (n * thumbnail.px0_per_px for n in thumbnail.image.shape[:2])
        self.grid = Grid.of(width, height)

    def _open(self, entry: Entry, spots: StoredPrediction) -> Slide | None:
        if entry.image is None:
            return None
        bits = spots.record.get("bits")
        try:
            slide = open_slide(
                entry.image, bits=None if bits is None else int(bits), cache_bytes=_DECODED_BYTES
            )
        except SlideError as error:
            self.note = error.finding
            return None
        known = spots.thumbnail
        if known is not None:
            height, width = (n * known.px0_per_px for n in known.image.shape[:2])
            off = max(abs(width / slide.width_px0 - 1), abs(height / slide.height_px0 - 1))
            slack = known.px0_per_px / max(1, min(slide.width_px0, slide.height_px0))
            if off > _OFF + slack:
                self.note = (
                    f"{slide.path.name} has {slide.width_px0} x {slide.height_px0} px, the slide that was predicted "
                    f"{width:.0f} x {height:.0f}"
                )
                slide.close()
                return None
        return slide

    @property
    def bounds_px0(self) -> tuple[float, float]:
        """x, y where QuPath's coordinates start; (0, 0) where there is no file that tells."""
        return (0.0, 0.0) if self._slide is None else self._slide.bounds_px0

    def tile(self, zoom: int, column: int, row: int) -> Pixels | None:
        """(256, 256, 3) RGB, white beside the slide; None where there is no such tile.

        Raises:
            SlideError: the file is damaged there, or was changed.
        """
        box = self.grid.box(zoom, column, row)
        if box is None or self._regions is None:
            return None
        left, top, side = box
        return self._regions.read_region(left, top, side, side, TILE_PX, TILE_PX)

    def region(self, box_px0: tuple[float, float, float, float], size: tuple[int, int]) -> Pixels:
        """(h, w, 3) of left, top, width, height in level-0 pixels, at this width and height; white without an image."""
        if self._regions is None:
            return np.full((size[1], size[0], 3), 255, np.uint8)
        return self._regions.read_region(*box_px0, *size)


def thumbnail_of(picture: Thumbnail | None) -> Pixels:
    """A small picture of a prediction for lists; grey where it carries none."""
    import cv2

    if picture is None:
        return np.full((_THUMBNAIL_PX, _THUMBNAIL_PX, 3), 225, np.uint8)
    image = picture.image[..., :3]
    factor = min(1.0, _THUMBNAIL_PX / max(image.shape[:2]))
    size = tuple(max(1, round(n * factor)) for n in image.shape[1::-1])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(pixels: Pixels) -> bytes:
    """A JPEG of (h, w, 3) RGB."""
    import cv2

    done, coded = cv2.imencode(
        ".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    if not done:
        raise SlideError(expected="a tile that can be packed as JPEG", found=str(pixels.shape))
    return bytes(coded)


class ByteCache:
    """Packed tiles, the least recently used dropped."""

    def __init__(self, most: int = _CACHE_BYTES) -> None:
        self._most, self._size = most, 0
        self._kept: OrderedDict[object, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object, make: Callable[[], bytes | None]) -> bytes | None:
        """What is kept under a key, made where there is none."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        if made is not None:
            with self._lock:
                self._size += len(made) - len(self._kept.get(key, b""))
                self._kept[key] = made
                while self._size > self._most and len(self._kept) > 1:
                    self._size -= len(self._kept.popitem(last=False)[1])
        return made

    def forget(self, number: int) -> None:
        """Drop what belongs to one slide: entries whose key starts with its number."""
        with self._lock:
            for key in [k for k in self._kept if isinstance(k, tuple) and k[0] == number]:
                self._size -= len(self._kept.pop(key))
