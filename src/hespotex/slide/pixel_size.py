"""Pixel size in a slide file's own tags, and the values that mean "not set"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hespotex.errors import GeometryError

# Printing densities that cameras, Photoshop and TIFF writers put in when they know nothing. Those
# below 254 dpi give more than 100 um per pixel and are refused by size alone.
_PRINT_DPI = (254, 300, 350, 360, 400, 600, 720, 1200)
MAX_MPP = 100.0
_UM_PER_INCH = 25_400.0
# Relative difference up to which sources of mpp agree, and a pixel counts as square.
AGREEMENT: Final = 0.03

UM_PER_UNIT: Mapping[str, float] = {
    "nm": 1e-3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": _UM_PER_INCH,
}


@dataclass(frozen=True)
class PixelSize:
    """What the tags say.

    Attributes:
        sources: believable microns per level-0 pixel, by the name of the tag.
        rejected: values that mean "not set" or cannot be, by the name of the tag.
    """

    sources: Mapping[str, float]
    rejected: Mapping[str, float]

    @property
    def mpp(self) -> float | None:
        """The first believable source, where all of them agree within 3 %; else None."""
        values = list(self.sources.values())
        if not values or max(values) > min(values) * (1 + AGREEMENT):
            return None
        return values[0]

    @property
    def mpp_source(self) -> str | None:
        """Name of the tag that `mpp` stands in."""
        return next(iter(self.sources)) if self.mpp is not None else None


def no_mpp(path: Path, tags: PixelSize) -> GeometryError:
    """The error of a slide without spots whose tags tell no mpp, in the preflight and in runs."""
    if tags.sources:
        found = "tags that contradict each other: " + ", ".join(
            f"{tag} {value:.4g}" for tag, value in tags.sources.items()
        )
    elif tags.rejected:
        found = "none but " + ", ".join(
            f"{value:.4g} ({tag}), which means not set" for tag, value in tags.rejected.items()
        )
    else:
        found = "none"
    return GeometryError(
        expected=f"microns per pixel in the tags of {path}",
        found=found,
        remedy=(
            "give --mpp (0.25 is typical of 40x, 0.5 of 20x) or the manifest's column mpp, or "
            "positions of known pitch with --spots and --spot-pitch-um"
        ),
    )


def tags_beside(sources: Mapping[str, float], stated: float) -> tuple[str, ...]:
    """Notes on tags that contradict the stated mpp, which is used all the same."""
    return tuple(
        f"{stated:g} um per pixel is used as stated; the slide's tag {tag} says {value:.4g}"
        for tag, value in sources.items()
        if max(value, stated) > min(value, stated) * (1 + AGREEMENT)
    )


def mpp_of_density(pixels_per_unit: float, unit: str) -> float:
    """Microns per pixel of a density; NaN where the density or the unit says nothing."""
    if unit not in UM_PER_UNIT or not pixels_per_unit > 0:
        return math.nan
    return UM_PER_UNIT[unit] / pixels_per_unit


def is_plausible(mpp: float) -> bool:
    """Whether a value can be the pixel size of a microscope's image.

    Refused: 0 and below, NaN, above 100 um, exactly 1000, and the usual printing densities.
    """
    if not (math.isfinite(mpp) and 1e-3 < mpp <= MAX_MPP):
        return False
    return all(abs(mpp * dpi / _UM_PER_INCH - 1) > 2e-3 for dpi in _PRINT_DPI)


def judge(axes: Mapping[str, tuple[float, float]]) -> PixelSize:
    """Sort the values of tags into believable and rejected ones.

    Args:
        axes: (x, y) microns per pixel by the name of the tag, the most trusted tag first. Where x
            and y differ by more than 3 %, both are kept apart, as `<tag> x` and `<tag> y`.
    """
    sources: dict[str, float] = {}
    rejected: dict[str, float] = {}
    for name, (x, y) in axes.items():
        if not (math.isfinite(x) and math.isfinite(y)) or abs(x - y) <= AGREEMENT * abs(x):
            value = x if not math.isfinite(y) else y if not math.isfinite(x) else (x + y) / 2
            named = {name: value}
        else:
            named = {f"{name} x": x, f"{name} y": y}
        for label, value in named.items():
            (sources if is_plausible(value) else rejected)[label] = value
    return PixelSize(sources, rejected)
