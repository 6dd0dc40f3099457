"""Masks of nuclei that a user brings: which kind a file is; label images, read region by region."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hespotex.errors import NucleiError
from hespotex.nuclei.labels import Labels, LabelSource
from hespotex.nuclei.origin import MASK_SUFFIXES
from hespotex.nuclei.outlines import OutlineLabels
from hespotex.storage.content_keys import content_key, file_key
from hespotex.storage.disk_errors import DAMAGED, damaged, disk_fields
from hespotex.storage.file_kinds import mistaken_kind

# Width and height of a mask may differ from the slide's by so much in their ratio.
_SAME_SHAPE = 0.01
_ROWS = 512


def open_mask(
    path: Path, size_px0: tuple[int, int], mpp: float, origin_px0: tuple[float, float] = (0.0, 0.0)
) -> LabelSource:
    """Open a mask that covers a slide.

    Args:
        path: label image (.npy, .tif, .png) of the slide's size or of a whole or broken part of it, one
            value a nucleus; an image of a single value is taken apart into connected parts. Or outlines
            (.geojson, as QuPath exports them) in level-0 pixels.
        size_px0: width and height of the slide.
        mpp: microns per level-0 pixel.
        origin_px0: where the coordinates of outlines start (QuPath's: at the slide's bounds).

    Raises:
        NucleiError: the file is missing, of another kind, or does not cover the slide.
    """
    suffix = path.suffix.lower()
    try:
        mistaken = mistaken_kind(path) if suffix in MASK_SUFFIXES else None
        if mistaken is not None:
            raise NucleiError(expected=f"a nuclei mask at {path}", **mistaken.fields(path))
        if suffix in {".geojson", ".json"}:
            return OutlineLabels(path, size_px0, mpp, origin_px0)
        if suffix == ".npy":
            return ImageLabels(path, np.load(path, mmap_mode="r"), size_px0)
        if suffix in {".tif", ".tiff"}:
            return ImageLabels(path, _TiffPixels(path), size_px0)
        if suffix == ".png":
            return ImageLabels(path, _read_png(path), size_px0)
    except NucleiError:
        raise
    except Exception as error:  # every library fails on a damaged file in ways of its own
        expected, otherwise = "a readable nuclei mask", "export it again"
        raise damaged(NucleiError, expected, error, f"({path})", otherwise) from error
    raise NucleiError(
        expected=f"a nuclei mask of {', '.join(MASK_SUFFIXES)}",
        found=f"{suffix or 'no suffix'} ({path})",
    )


class _Pixels(Protocol):
    """A 2-D image that is sliced like an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""

    def __getitem__(self, index: Any) -> Any:
        """The part under two slices."""


class _TiffPixels:
    """The first full-size plane of a TIFF, read region by region."""

    def __init__(self, path: Path) -> None:
        import tifffile
        import zarr

        try:
            self._file = tifffile.TiffFile(path)
        except tifffile.TiffFileError as error:
            raise ValueError(str(error)) from error
        weakref.finalize(self, self._file.close)
        level = self._file.series[0].levels[0]
        self._array: Any = zarr.open_array(level.aszarr(level=0, multiscales=False), mode="r")
        shape = tuple(int(n) for n in self._array.shape)
        wide = [i for i, n in enumerate(shape) if n > 1]
        self._flat = wide if len(wide) >= 2 else [len(shape) - 2, len(shape) - 1]
        others = self._flat[2:]
        self.shape = shape if others else tuple(shape[i] for i in self._flat)
        self.dtype = np.dtype(self._array.dtype)

    def __getitem__(self, index: Any) -> Any:
        where: list[Any] = [0] * self._array.ndim
        for axis, part in zip(self._flat, index, strict=True):
            where[axis] = part
        return np.asarray(self._array[tuple(where)])


def _read_png(path: Path) -> npt.NDArray[Any]:
    """A PNG cannot be read in parts: all of it is decoded."""
    import cv2

    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        cause = str(error.err or error)
        raise NucleiError(
            expected="a PNG of less than 2^30 pixels, which is decoded as a whole",
            cause=f"{cause} ({path})",
            remedy="export as TIFF or .npy, which are read in parts",
        ) from error
    if pixels is None:
        raise ValueError("no PNG, or one that is cut short")
    return np.asarray(pixels)


class ImageLabels:
    """A label image.

    Args:
        path: for messages and the key.
        pixels: (h, w) integers.
        size_px0: width and height of the slide.

    Raises:
        NucleiError: no integers in two dimensions, or another shape than the slide's.
    """

    given = True

    def __init__(self, path: Path, pixels: _Pixels, size_px0: tuple[int, int]) -> None:
        self._path, self._pixels = path, pixels
        if len(pixels.shape) != 2 or pixels.dtype.kind not in "uib":
            shape = " x ".join(map(str, pixels.shape))
            raise NucleiError(
                expected=f"one plane of whole numbers in the nuclei mask {path}",
                found=f"{shape} of {pixels.dtype}",
                remedy="export a label image, not a picture",
            )
        height, width = pixels.shape
        steps = size_px0[0] / width, size_px0[1] / height
        # A side may be rounded by a pixel.
        slack = _SAME_SHAPE + 1 / min(width, height)
        if abs(steps[0] / steps[1] - 1) > slack:
            raise NucleiError(
                expected=f"a nuclei mask of the slide's shape, {size_px0[0]} x {size_px0[1]} px or a fraction of it",
                found=f"{width} x {height} px in {path}",
                remedy="export it for the whole slide",
            )
        self.step_px0 = steps[0] if width >= height else steps[1]
        self._binary = self._is_binary()

    def _is_binary(self) -> bool:
        """Whether there is one value besides 0: then connected parts are the nuclei."""
        seen: set[int] = set()
        for row in range(0, self._pixels.shape[0], _ROWS):
            part = self._part(slice(row, row + _ROWS), slice(None))
            seen |= set(np.unique(part).tolist()) - {0}
            if len(seen) > 1:
                return False
        return True

    def _part(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._pixels[rows, columns])
        except Exception as error:  # as above
            raise NucleiError(
                expected=f"pixels in rows {rows.start} to {rows.stop} of the nuclei mask {self._path}",
                **disk_fields(error, otherwise=DAMAGED),
            ) from error

    def read(self, x: int, y: int, width: int, height: int) -> Labels:
        """See `LabelSource`."""
        full_height, full_width = self._pixels.shape
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, full_width), min(y + height, full_height)
        out = np.zeros((height, width), np.int64)
        if left < right and top < bottom:
            part = self._part(slice(top, bottom), slice(left, right))
            out[top - y : bottom - y, left - x : right - x] = part
        if not self._binary:
            return out
        from skimage.measure import label

        return np.asarray(label(out != 0, connectivity=2), np.int64)

    def key(self) -> str:
        """Key of the file's content."""
        return content_key("mask", file_key(self._path))
