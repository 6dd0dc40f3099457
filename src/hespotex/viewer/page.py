"""What the page is made of, and what it is given in bytes: texts of the package, spots, pixels, values; no HTTP."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from hespotex.viewer.opened import OpenedSlide

_DROPPED_BITS = 11


def static_text(name: str) -> str:
    """A file of the page, as it lies in the package."""
    return (resources.files("hespotex.viewer") / "static" / name).read_text(encoding="utf-8")


def packed_spots(slide: OpenedSlide) -> bytes:
    """x, y in level-0 pixels (float32, n each), then flags (uint8)."""
    x, y = np.asarray(slide.file.spots.xy_px0, np.float32).T
    flagged = (~slide.file.usable).astype(np.uint8)
    return bytes(x.tobytes() + y.tobytes() + flagged.tobytes())


def packed_raster(slide: OpenedSlide) -> bytes:
    """Height, width (int32), level-0 pixels per pixel (float32), then the spot of each pixel (int32)."""
    index, scale = slide.raster()
    head = np.array(index.shape, np.int32).tobytes() + np.float32(scale).tobytes()
    return head + index.tobytes()


def packed_values(slide: OpenedSlide, show: str, gene: str, *, rounded: bool = False) -> bytes:
    """A header in JSON (its length first, uint32, padded to 4 bytes), then the values (float32).

    Args:
        rounded: to 12 bits after the first (one part in 8,000), which packs to half the size.

    Raises:
        RunError: the slide does not hold that.
    """
    layer = slide.layer(show, gene)
    head = {
        "title": layer.title, "unit": layer.unit, "limits": layer.limits, "diverging": layer.diverging,
        "categories": layer.categories, "explained": layer.explained, "told": slide.told(gene),
        "half_widths": slide.half_widths(gene), "suspended": slide.claims.suspended,
        "verdict": slide.claims.verdict or "",
    }  # fmt: skip
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 4)
    values = layer.values.astype("<f4")
    return np.uint32(len(text)).tobytes() + text + (_short(values) if rounded else values).tobytes()


def _short(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    bits = np.ascontiguousarray(values).view(np.uint32)
    half = np.uint32(1 << (_DROPPED_BITS - 1))
    kept = (bits + half) & ~np.uint32((1 << _DROPPED_BITS) - 1)
    return np.where(np.isfinite(values), kept.view(np.float32), values)
