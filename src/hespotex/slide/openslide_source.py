"""Slides that OpenSlide reads: whole-slide formats of scanners, and TIFF with tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.slide.bit_depth import no_pixels
from hespotex.slide.pixel_size import mpp_of_density
from hespotex.slide.tiff_tags import aperio_pixel_size, ome_pixel_size
from hespotex.storage.disk_errors import DAMAGED

CHUNK = (512, 512)
# DICOM compressions that OpenSlide refuses by number alone.
_TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
    "1.2.840.10008.1.2.5": "RLE",
}


class OpenSlideSource:
    """A slide behind OpenSlide.

    Asked directly: wsidata's reader calls the same library, and its import takes half a second and 60 MB of others.

    Args:
        path: of the file.
        picture: which of several pictures in it this is; empty where it is the only one.

    Raises:
        SlideError: OpenSlide refuses the file, or it has no pixel.
    """

    whole_in_memory = False
    bits = 8

    def __init__(self, path: Path, picture: str = "") -> None:
        self.path, self.picture = path, picture
        self._opened: Any = None
        try:
            slide = self._slide()
        except Exception as error:
            raise refusal(path, str(error)) from error
        self.level_sizes, self.level_downsamples = levels_with_pixels(
            path, slide.level_dimensions, slide.level_downsamples
        )
        self.chunk_shapes = (CHUNK,) * len(self.level_sizes)
        tags = dict(slide.properties)
        self.mpp_tags = _mpp_tags(tags)
        x, y = (float(tags.get(f"openslide.bounds-{axis}") or 0) for axis in "xy")
        self.bounds_px0 = (x, y)
        colour = str(tags.get("openslide.background-color") or "ffffff")
        self._background = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)], np.uint16)

    def _slide(self) -> Any:
        from openslide import OpenSlide

        if self._opened is None:
            self._opened = OpenSlide(str(self.path))
        return self._opened

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB; x, y in pixels of the level, all of it inside the image."""
        at_px0 = corner_px0(x, y, self.level_downsamples[level])
        try:
            region = self._slide().read_region(at_px0, level, (width, height))
            return self._over_background(np.asarray(region))
        except Exception as error:
            # After an error OpenSlide refuses everything: opened again, the rest can be read.
            self.close()
            raise no_pixels(at_px0, level, self.path, error) from error

    def _over_background(self, rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        alpha = rgba[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(rgba[..., :3])
        a = alpha.astype(np.uint16)
        mixed = rgba[..., :3] * a + self._background * (255 - a)
        return ((mixed + 127) // 255).astype(np.uint8)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def levels_with_pixels(
    path: Path, sizes: Sequence[tuple[int, int]], downsamples: Sequence[float]
) -> tuple[tuple[tuple[int, int], ...], tuple[float, ...]]:
    """Sizes and downsamples of the levels that are not empty, as the coarsest may be.

    Raises:
        SlideError: all are.
    """
    kept = [(size, float(d)) for size, d in zip(sizes, downsamples, strict=True) if all(size)]
    if not kept:
        raise SlideError(
            expected="a slide with pixels",
            found=f"one of {sizes[0][0]} x {sizes[0][1]} px: {path}",
            remedy="export it again",
        )
    return tuple(size for size, _ in kept), tuple(d for _, d in kept)


def corner_px0(x: int, y: int, downsample: float) -> tuple[int, int]:
    """Level-0 pixels to ask for: readers map them to the level by flooring, so the ceiling lands on pixel x, y."""
    return math.ceil(x * downsample), math.ceil(y * downsample)


def refusal(path: Path, cause: str) -> SlideError:
    """What is said of a file that a reader does not open."""
    remedy = DAMAGED
    if "transfer syntax" in cause.lower():
        names = [name for uid, name in _TRANSFER_SYNTAXES.items() if cause.endswith(uid)]
        cause += f" ({names[0]})" if names else ""
        remedy = "convert it to DICOM with JPEG or JPEG 2000 tiles, or to a pyramidal TIFF"
    return SlideError(
        expected="a slide that can be read", cause=f"{cause.rstrip('.')} ({path})", remedy=remedy
    )


def _mpp_tags(tags: dict[str, str]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    vendor = tags.get("openslide.vendor", "openslide")
    description = tags.get("tiff.ImageDescription", "")
    found.update(ome_pixel_size(description))
    if vendor == "generic-tiff":
        found.update(aperio_pixel_size(description))
    name = "TIFF resolution" if vendor == "generic-tiff" else f"{vendor} mpp"
    try:
        found[name] = (float(tags["openslide.mpp-x"]), float(tags["openslide.mpp-y"]))
    except (KeyError, ValueError):
        unit = {"inch": "inch", "centimeter": "cm"}.get(tags.get("tiff.ResolutionUnit", ""), "none")
        try:
            x, y = (float(tags[f"tiff.{axis}Resolution"]) for axis in "XY")
        except (KeyError, ValueError):
            return found
        if unit != "none" and x > 0 and y > 0:
            found["TIFF resolution"] = (mpp_of_density(x, unit), mpp_of_density(y, unit))
    return found
