"""Small pictures with known pixels, and files that hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from hespotex.slide import Slide

Picture = npt.NDArray[np.uint8]

RED, GREEN, BLUE, WHITE = (200, 30, 40), (20, 180, 60), (30, 50, 210), (255, 255, 255)


def quarters(width: int = 600, height: int = 400) -> Picture:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    image[height // 2 :, width // 2 :] = WHITE
    return image


def ramp(width: int = 250, height: int = 200) -> Picture:
    """Red grows by 1 per pixel of x, green by 1 per pixel of y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def noise(width: int = 700, height: int = 500) -> Picture:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_pyramid(path: Path, levels: list[Picture], **tags: object) -> Path:
    """A tiled pyramid as OpenSlide's generic reader knows it; any pictures as levels."""
    with tifffile.TiffWriter(path) as tiff:
        for i, level in enumerate(levels):
            extra = tags if i == 0 else {"subfiletype": 1}
            tiff.write(level, tile=(64, 64), photometric="rgb", compression="deflate", **extra)
    return path


def whole(slide: Slide) -> Picture:
    w, h = slide.width_px0, slide.height_px0
    return slide.read_region(0, 0, w, h, w, h)


def write_png(path: Path, mode: str) -> Path:
    rgb = Image.fromarray(quarters())
    rgb.convert(mode).save(path)
    return path
