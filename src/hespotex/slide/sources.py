"""Which reader opens which file; the only module that imports wsidata's readers.

Vendor formats go to OpenSlide, then to wsidata's other readers, TIFF that OpenSlide does not know or sees only in
part to `TiffImage`, Zarr to `ZarrImage`, plain images to `DecodedImage`. Readers are asked one after another and the
true cause of a refusal is kept.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.slide.bit_depth import bits_in_use, no_pixels
from hespotex.slide.decoded import DecodedImage
from hespotex.slide.openslide_source import (
    CHUNK,
    OpenSlideSource,
    corner_px0,
    levels_with_pixels,
    refusal,
)
from hespotex.slide.tiff import TiffImage, find_missing_bytes, openslide_reads, picture_in
from hespotex.slide.zarr_image import ZarrImage, is_zarr
from hespotex.storage.disk_errors import damaged
from hespotex.storage.file_kinds import mistaken_kind

READER_NAME = "hespotex"
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PLAIN_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".ome.tif",
    ".ome.tiff",
)


class LevelSource(Protocol):
    """The interface of a reader, as `Slide` uses it.

    Attributes:
        level_sizes: (width, height) of each level, level 0 first.
        level_downsamples: level-0 pixels per pixel of the level.
        chunk_shapes: (rows, columns) of each level that are cheap to read at once.
        whole_in_memory: reading costs nothing.
        mpp_tags: (x, y) microns per pixel by the name of the tag, the most trusted first.
        bounds_px0: x, y where the part of level 0 that holds an image starts; (0, 0) where no tag says so.
        bits: of a sample, that hold the picture.
        picture: which of several pictures in the file this is, where that is to be said; else empty.
    """

    level_sizes: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    chunk_shapes: tuple[tuple[int, int], ...]
    whole_in_memory: bool
    mpp_tags: dict[str, tuple[float, float]]
    bounds_px0: tuple[float, float]
    picture: str
    bits: int

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB; x, y in pixels of the level, all of it inside the image."""

    def close(self) -> None:
        """Close the file."""


def open_source(path: Path, bits: int | None = None) -> tuple[LevelSource, str]:
    """Open a file with the reader that suits it.

    Returns:
        the source, and the name of the reader (for OpenSlide with the vendor).

    Raises:
        SlideError: nothing can read the file; the message holds the true cause.
    """
    if is_zarr(path):
        return ZarrImage(path, bits), "zarr"
    with path.open("rb") as handle:
        magic = handle.read(4)
    mistaken = mistaken_kind(path)
    if mistaken is not None:
        raise SlideError(
            expected="a slide", found=f"{mistaken.found}: {path}", remedy=mistaken.remedy_for(path)
        )
    if magic in _TIFF_MAGIC:
        _check_whole_tiff(path)
    vendor = _openslide_vendor(path)
    if magic in _TIFF_MAGIC and (
        vendor is None or (vendor == "generic-tiff" and not openslide_reads(path))
    ):
        return TiffImage(path, bits), "tifffile"
    if vendor is not None:
        bits_in_use(path, OpenSlideSource.bits, (), stated=bits)
        picture = picture_in(path) if vendor == "generic-tiff" else ""
        return OpenSlideSource(path, picture), f"openslide ({vendor})"
    found = _open_elsewhere(path)
    if found is not None:
        bits_in_use(path, _WsidataSource.bits, (), stated=bits)
        return found
    return DecodedImage(path, bits), "pillow"


def _openslide_vendor(path: Path) -> str | None:
    from openslide import OpenSlide

    vendor = OpenSlide.detect_format(str(path))
    return None if vendor is None else str(vendor)


def _check_whole_tiff(path: Path) -> None:

    try:
        missing = find_missing_bytes(path)
    except (OSError, ValueError, LookupError) as error:
        where = f"in {path} ({path.stat().st_size} bytes)"
        raise damaged(SlideError, "a whole TIFF file", error, where) from error
    if missing is not None:
        raise SlideError(
            expected="a whole TIFF file",
            found=f"one that is cut short: {path}: {missing}",
            remedy="copy it again",
        )


class _WsidataSource:
    """A slide behind one of wsidata's readers but OpenSlide."""

    whole_in_memory = False
    bits = 8
    picture = ""
    bounds_px0 = (0.0, 0.0)

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        try:
            self._reader = wsidata_readers().try_open(str(path), reader=name)
        except Exception as error:
            raise refusal(path, str(error)) from error
        shape = self._reader.properties
        sizes = [(int(w), int(h)) for h, w in shape.level_shape]
        self.level_sizes, self.level_downsamples = levels_with_pixels(
            path, sizes, shape.level_downsample
        )
        self.chunk_shapes = (CHUNK,) * len(self.level_sizes)
        mpp = math.nan if shape.mpp is None else float(shape.mpp)
        self.mpp_tags = {} if math.isnan(mpp) else {f"{name} mpp": (mpp, mpp)}

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB; x, y in pixels of the level, all of it inside the image."""
        x_px0, y_px0 = corner_px0(x, y, self.level_downsamples[level])
        try:
            return np.asarray(self._reader.get_region(x_px0, y_px0, width, height, level=level))
        except Exception as error:
            self._reader.detach_reader()
            raise no_pixels((x_px0, y_px0), level, self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._reader.detach_reader()


def _open_elsewhere(path: Path) -> tuple[LevelSource, str] | None:
    """Ask wsidata's other readers for a file whose suffix only they know."""
    suffix = path.suffix.lower()
    if suffix in _PLAIN_SUFFIXES or suffix in {"", ".dcm", ".dicom"}:
        return None
    readers = wsidata_readers()
    able = [r for r in readers if r.name != "openslide" and suffix in (r.extensions or ())]
    causes = []
    for reader in able:
        if reader.is_available():
            try:
                return _WsidataSource(path, reader.name), reader.name
            except SlideError as error:
                causes.append(str(error))
    if causes:
        raise SlideError(causes[0])
    if able and suffix not in readers["openslide"].extensions:
        extras = " or ".join(f"wsidata[{name}]" for name in sorted(r.name for r in able))
        raise SlideError(
            expected="a slide that an installed reader knows",
            found=f"{suffix}: {path}",
            remedy=f"pip install {extras}, or export it as pyramidal TIFF",
        )
    return None


@lru_cache(maxsize=1)
def wsidata_readers() -> Any:
    """wsidata's registry of readers, with ours for plain images in it.

    Ours is asked for JPEG, PNG and the like at once, for TIFF after OpenSlide: `wsidata.open_wsi`
    and LazySlide open plain images too, once this was called.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations among wsidata's own imports
        from wsidata.reader import READERS, ReaderBase, SlideProperties
    if READER_NAME not in READERS:
        READERS[READER_NAME] = _reader_class(ReaderBase, SlideProperties)
    return READERS


def _reader_class(base: Any, properties: Any) -> Any:
    class PlainImageReader(base):  # type: ignore[misc]
        """JPEG, PNG and TIFF without tiles, for wsidata."""

        name = READER_NAME
        pkg_namespaces = ("PIL", "tifffile")
        extensions = _PLAIN_SUFFIXES

        def __init__(self, file: str | Path, **_options: Any) -> None:
            self.file = str(file)
            self.create_reader()
            source = self._reader
            shapes = [[h, w] for w, h in source.level_sizes]
            width, height = source.level_sizes[0]
            self.set_properties(
                properties(
                    shape=shapes[0],
                    n_level=len(shapes),
                    level_shape=shapes,
                    level_downsample=list(source.level_downsamples),
                    bounds=[0, 0, width, height],
                    raw="{}",
                )
            )

        def create_reader(self) -> None:
            path = Path(self.file)
            with path.open("rb") as handle:
                is_tiff = handle.read(4) in _TIFF_MAGIC
            self.set_reader(TiffImage(path) if is_tiff else DecodedImage(path))

        def detach_reader(self) -> None:
            if self._reader is not None:
                self._reader.close()
                self.set_reader(None)

        def get_region(
            self, x: int, y: int, width: int, height: int, level: int = 0, **_options: Any
        ) -> npt.NDArray[np.uint8]:
            level = int(self.translate_level(level))
            downsample = self.properties.level_downsample[level]
            return read_padded(
                self.reader,
                level,
                int(x / downsample),
                int(y / downsample),
                int(width),
                int(height),
            )

        def get_thumbnail(self, size: int, **_options: Any) -> npt.NDArray[np.uint8]:
            height, width = self.properties.level_shape[-1]
            scale = min(1.0, size / max(height, width))
            whole = read_padded(self.reader, self.properties.n_level - 1, 0, 0, width, height)
            small = (max(1, round(width * scale)), max(1, round(height * scale)))
            return np.asarray(self.resize_img(whole, small))

    return PlainImageReader


def read_padded(
    source: LevelSource, level: int, x: int, y: int, width: int, height: int
) -> npt.NDArray[np.uint8]:
    """Like `source.read`, white where the region leaves the image."""
    full_width, full_height = source.level_sizes[level]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, full_width), min(y + height, full_height)
    if (left, top, right, bottom) == (x, y, x + width, y + height):
        return source.read(level, x, y, width, height)
    out = np.full((height, width, 3), 255, np.uint8)
    if left < right and top < bottom:
        part = source.read(level, left, top, right - left, bottom - top)
        out[top - y : bottom - y, left - x : right - x] = part
    return out
