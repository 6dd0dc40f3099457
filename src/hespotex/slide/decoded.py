"""Plain images that have to be decoded as a whole: JPEG, PNG, BMP, WebP and small TIFF.

Whatever the file holds becomes the 8-bit RGB that a viewer shows: turned as EXIF says, transparency
laid over white, palettes looked up, 16 bit cut to its upper 8, CMYK mixed.
"""

from __future__ import annotations

import math
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.slide.bit_depth import bits_in_use, to_8_bit
from hespotex.slide.pixel_size import mpp_of_density
from hespotex.storage.disk_errors import DAMAGED, damaged

_ROWS = 1024
_CUT = "copy or export it again"
# Pillow's guard against decompression bombs is a module-wide setting.
_BOMB_GUARD = threading.Lock()
_EXIF_X, _EXIF_Y, _EXIF_UNIT, _EXIF_ORIENTATION = 282, 283, 296, 274
_TURNED = {5, 6, 7, 8}  # orientations that swap width and height
_JPEG_END = b"\xff\xd9"
_TAIL_BYTES = 2**16
# Markers SOC and SIZ, which start the image in a JPEG 2000 file; the first component's precision lies so far on.
_JPEG_2000_SIZ, _TO_PRECISION = b"\xff\x4f\xff\x51", 42


class DecodedImage:
    """An image with the face of a slide of one level.

    A JPEG, the usual large one, is decoded when first read; others when opened, since what is said
    of them may stand behind their pixels.

    Args:
        bits: of a sample of 16, that hold the picture, where the user states them.

    Raises:
        SlideError: the file is no image, is cut short, holds values that are no colours, or colours of 16 bits of which
            nothing tells how many they fill.
    """

    whole_in_memory = True
    bounds_px0 = (0.0, 0.0)
    picture = ""

    def __init__(self, path: Path, bits: int | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pixels: npt.NDArray[np.uint8] | None = None
        with _opened(path) as image:
            deep = _is_deep(image, path)  # reading EXIF of a PNG may decode it
            self.mpp_tags = _mpp_tags(image)
            width, height = image.size
            if image.getexif().get(_EXIF_ORIENTATION, 1) in _TURNED:
                width, height = height, width
            if image.mode == "F":
                raise SlideError(
                    expected="colours of 8 or 16 bit",
                    found=f"floating point values in {path}",
                    remedy="export the image as 8-bit RGB",
                )
            is_jpeg = image.format in {"JPEG", "MPO"}
        self.bits = 8
        if deep:
            self._pixels, self.bits = _decode_deep(path, bits)
        elif bits is not None:
            bits_in_use(path, self.bits, (), stated=bits)
        if not is_jpeg and not deep:
            self._pixels = _decode(path)
        elif is_jpeg and not _has_end(path):
            raise SlideError(
                expected="a whole image",
                found=f"a truncated JPEG, without its end marker, in {path}",
                remedy=_CUT,
            )
        self.level_sizes: tuple[tuple[int, int], ...] = ((width, height),)
        self.level_downsamples: tuple[float, ...] = (1.0,)
        self.chunk_shapes: tuple[tuple[int, int], ...] = ((height, width),)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB; x, y in pixels of the level, all of it inside the image."""
        with self._lock:
            if self._pixels is None:
                self._pixels = _decode(self.path)
        return self._pixels[y : y + height, x : x + width]

    def reduced(self, scale: float) -> tuple[npt.NDArray[np.uint8], int] | None:
        """The whole image at about twice the size that `scale` asks for, and level-0 pixels per pixel of it.

        JPEG holds blocks of 8 x 8 frequencies: leaving the upper ones out gives a half, a quarter or an eighth of
        the image in a tenth of the time. None for other images, turned ones, and where it would not be smaller.
        """
        by = max((f for f in (2, 4, 8) if 2 * f <= scale), default=1)
        with _opened(self.path) as image:
            if by == 1 or image.format != "JPEG" or not _is_upright(image):
                return None
            image.draft(None, (max(1, image.width // by), max(1, image.height // by)))
            return _load(image), by

    def close(self) -> None:
        """Let go of the pixels."""
        self._pixels = None


def _has_end(path: Path) -> bool:
    """Whether the tail of a JPEG file holds its end marker; cheap, decoding finds the rest."""
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return _JPEG_END in handle.read()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The image as Pillow opens it; whatever goes wrong inside is said in one line."""
    from PIL import Image, UnidentifiedImageError

    with _BOMB_GUARD, warnings.catch_warnings():
        # A section of 10,000 px a side is above Pillow's limit and no attack.
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                yield image
        except UnidentifiedImageError as error:
            raise SlideError(
                expected="a slide or an image",
                found=f"a file that no reader knows: {path}",
                remedy="export it as pyramidal TIFF, JPEG or PNG",
            ) from error
        except MemoryError as error:
            raise SlideError(
                expected="an image that fits into memory",
                found=f"a bigger one: {path}",
                remedy="convert it to a tiled pyramidal TIFF (e.g. vips tiffsave --tile --pyramid)",
            ) from error
        except SlideError:
            raise
        except Exception as error:  # Pillow's plugins raise their own kinds
            # Pillow says where a file breaks off; whatever else it says, the bytes are there.
            cut = re.search(r"truncated|unexpected end|no more data|EOF", str(error), re.IGNORECASE)
            raise damaged(
                SlideError, "a whole image", error, f"in {path}", _CUT if cut else DAMAGED
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(path: Path) -> npt.NDArray[np.uint8]:
    with _opened(path) as image:
        pixels = _plain_jpeg(path, image)
        return _load(image) if pixels is None else pixels


def _is_deep(image: Any, path: Path) -> bool:
    """Whether samples have more than 8 bits: grey, or a PNG or JPEG 2000 of colours, of which Pillow keeps the upper 8."""
    if image.format == "JPEG2000":
        return _jpeg_2000_bits(path.read_bytes()) > 8
    stored = image.tile[0].args if image.format == "PNG" and image.tile else ""
    return bool(image.mode.startswith("I") or "16" in str(stored))


def _jpeg_2000_bits(content: bytes) -> int:
    """Bits of the first component, as the marker SIZ states them (ISO 15444-1, A.5.1); 8 where there is none."""
    start = content.find(_JPEG_2000_SIZ)
    stated = content[start + _TO_PRECISION : start + _TO_PRECISION + 1] if start >= 0 else b""
    return (stated[0] & 0x7F) + 1 if stated else 8


def _decode_deep(path: Path, stated: int | None) -> tuple[npt.NDArray[np.uint8], int]:
    """(H, W, 3) of samples of more than 8 bits, and how many of them hold the picture."""
    from PIL import Image

    with _opened(path) as image:
        values, container = _deep_values(path, image)
        colours = values if values.ndim == 2 else values[..., : (values.shape[2] - 1) // 2 * 2 + 1]
        bits = bits_in_use(path, container, iter([int(colours.max())]), stated=stated)
        eight = Image.fromarray(to_8_bit(values, bits))
        eight.info.update({k: v for k, v in image.info.items() if k == "exif"})
        return _load(eight), bits


def _deep_values(path: Path, image: Any) -> tuple[npt.NDArray[Any], int]:
    """(H, W) or (H, W, samples) as they are stored, and the bits of a sample; Pillow knows those of grey alone."""
    import imagecodecs

    decoders = {"PNG": imagecodecs.png_decode, "JPEG2000": imagecodecs.jpeg2k_decode}
    if image.format not in decoders:
        return np.clip(np.asarray(image), 0, 2**16 - 1).astype(np.uint16), 16
    content = path.read_bytes()
    try:
        values = np.asarray(decoders[image.format](content))
    except (imagecodecs.PngError, imagecodecs.Jpeg2kError) as error:
        name = {"JPEG2000": "JPEG 2000"}.get(image.format, image.format)
        raise ValueError(f"truncated or damaged {name} ({error})") from error
    return values, _jpeg_2000_bits(content) if image.format == "JPEG2000" else 16


def _load(image: Any) -> npt.NDArray[np.uint8]:
    from PIL import ImageOps

    image.load()
    ImageOps.exif_transpose(image, in_place=True)  # a copy would double the memory
    return _to_rgb(image)


def _plain_jpeg(path: Path, image: Any) -> npt.NDArray[np.uint8] | None:
    """Pixels of an upright colour JPEG, the same as Pillow's in half the memory; None for all other images."""
    import imagecodecs

    if image.format != "JPEG" or image.mode != "RGB" or not _is_upright(image):
        return None
    try:
        pixels = np.asarray(imagecodecs.jpeg8_decode(path.read_bytes()))
    except imagecodecs.Jpeg8Error:
        return None  # Pillow says what is wrong
    width, height = image.size
    return pixels if pixels.shape == (height, width, 3) else None


def _is_upright(image: Any) -> bool:
    return bool(image.getexif().get(_EXIF_ORIENTATION, 1) == 1)


def _mpp_tags(image: Any) -> dict[str, tuple[float, float]]:
    """(x, y) microns per pixel by tag, believable or not."""
    found: dict[str, tuple[float, float]] = {}
    info: Mapping[str, Any] = image.info
    exif = image.getexif()
    x, y = _number(exif.get(_EXIF_X)), _number(exif.get(_EXIF_Y))
    if x is not None and y is not None:
        unit = {2: "inch", 3: "cm"}.get(exif.get(_EXIF_UNIT, 2), "none")
        label = "TIFF resolution" if image.format == "TIFF" else "EXIF resolution"
        found[label] = (mpp_of_density(x, unit), mpp_of_density(y, unit))
    if image.format == "JPEG" and info.get("jfif_unit") in (1, 2):
        unit = {1: "inch", 2: "cm"}[info["jfif_unit"]]
        dx, dy = info["jfif_density"]
        found["JFIF density"] = (mpp_of_density(dx, unit), mpp_of_density(dy, unit))
    elif image.format == "PNG" and "dpi" in info:
        dx, dy = info["dpi"]
        found["PNG pHYs"] = (mpp_of_density(dx, "inch"), mpp_of_density(dy, "inch"))
    return {name: axes for name, axes in found.items() if not all(map(math.isnan, axes))}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _to_rgb(image: Any) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8, by bands of rows so that the image is in memory twice at most."""
    width, height = image.size
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        bottom = min(top + _ROWS, height)
        out[top:bottom] = _band_to_rgb(image.crop((0, top, width, bottom)))
    return out


def _band_to_rgb(band: Any) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if band.mode == "RGB":
        return np.asarray(band)
    if band.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in band.info:
        rgba = band.convert("RGBA")
        white = Image.new("RGBA", band.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(band.convert("RGB"))
