"""Space Ranger's statements on small copies of an image: their scales, and the full size that follows."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from hespotex.spots.text import positive_number
from hespotex.storage.text_files import Packed

_NAME: Final = "scalefactors_json"
# Which copy a file is by its name: the ones with nothing drawn on them first.
COPY_PATTERNS: Final = (
    ("*tissue_hires_image.*", "hires"),
    ("*tissue_lowres_image.*", "lowres"),
    ("*aligned_fiducials.*", "hires"),
    ("*detected_tissue_image.*", "hires"),
)


def copy_kind(path: Path) -> str | None:
    """Which copy a file is by its name; None for any other name."""
    return next((kind for pattern, kind in COPY_PATTERNS if fnmatch(path.name, pattern)), None)


def copy_scales(values: Mapping[str, Any], path: Path | Packed) -> dict[str, float]:
    """Pixels of each copy per level-0 pixel, by its name (hires, lowres).

    Raises:
        SpotTableError: a scale is no number above 0.
    """
    scales = {
        name: positive_number(values, f"tissue_{name}_scalef", path) for name in ("hires", "lowres")
    }
    return {name: scale for name, scale in scales.items() if scale is not None}


def full_size(path: Path | Packed, scales: Mapping[str, float]) -> tuple[float, float] | None:
    """Width and height of the full image, from the largest copy beside the scale factors; None without one."""
    if not isinstance(path, Path):
        return None
    prefix = path.name.partition(_NAME)[0]  # GEO puts the sample's name before every file
    for pattern, kind in COPY_PATTERNS:
        for copy in sorted(path.parent.glob(prefix + pattern.removeprefix("*"))):
            size = _size(copy)
            if kind in scales and size is not None:
                return size[0] / scales[kind], size[1] / scales[kind]
    return None


def _size(path: Path) -> tuple[int, int] | None:
    """From the header alone."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return int(image.width), int(image.height)
    except (OSError, ValueError, SyntaxError):
        return None
