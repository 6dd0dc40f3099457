"""How positions fit the given image: a down-scaled copy of it, spots outside of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError, SpotTableError
from hespotex.spots.base import ScaleHints, SpotTable
from hespotex.spots.scale_factors import copy_kind

# An image is no small copy if both sides are above this share of the full ones.
_SMALLER = 0.9
# Relative difference up to which both sides of an image are a stated scale of the full ones.
_COPY = 0.01
_AGREEMENT = 0.01
# Where the full size is not known: how far the spots of a copy reach at least.
_FILLED = 0.6
_REMEDY = (
    "give the image that Space Ranger was run on (cytassist_image.tiff is that one only where no microscope image was "
    "given to it)"
)


class SlideFacts(Protocol):
    """Facts about its slide that a section needs."""

    @property
    def width_px0(self) -> int:
        """Width of level 0 in pixels."""

    @property
    def height_px0(self) -> int:
        """Height of level 0 in pixels."""

    @property
    def mpp_sources(self) -> Mapping[str, float]:
        """Microns per level-0 pixel that the tags say, by tag."""


@dataclass(frozen=True)
class FittedSpots:
    """Positions in pixels of the given image.

    Attributes:
        xy_px0: (n, 2) spot centres.
        hints: scale, of that image.
        copy: what was accepted in place of the full image, in words; empty for the full image.
    """

    xy_px0: npt.NDArray[np.float64]
    hints: ScaleHints
    copy: str = ""


def fit_to_image(
    table: SpotTable, slide: SlideFacts, path: Path, *, allow_hires: bool
) -> FittedSpots:
    """Positions and hints in the pixels of the given image; a down-scaled copy needs `allow_hires`.

    Spots that leave the image say that it is not the full one. It is a copy only where both of its sides are the
    stated scale of the full ones within 1 %.

    Raises:
        SlideError: the image is a copy, and copies are not allowed; or it is smaller, and no copy of a stated scale.
    """
    size = np.array([slide.width_px0, slide.height_px0], dtype=np.float64)
    scales = {name: s for name, s in table.hints.image_scales.items() if s < _SMALLER}
    if not scales or not (table.xy_px0 >= size).any():
        return FittedSpots(table.xy_px0, table.hints)
    fitting = _fitting(table, scales, size, path)
    if not fitting:
        return FittedSpots(table.xy_px0, table.hints)
    name, scale = max(fitting.items(), key=lambda item: item[1])
    effective = {source: mpp / scale for source, mpp in table.hints.mpp.items()}
    rough = {source: mpp.scaled(1 / scale) for source, mpp in table.hints.rough_mpp.items()}
    mpp = next(iter([*effective.values(), *(r.likely for r in rough.values())]), None)
    said = ""
    if mpp is not None:
        said = f", effective {mpp:.3g} um per pixel instead of {mpp * scale:.4g}"
    found = f"the {name} copy ({scale:.4g} of the full size{said})"
    if not allow_hires:
        raise SlideError(
            expected="the full-resolution image",
            found=f"{path} of {size[0]:.0f} x {size[1]:.0f} px, which fits {found}",
            remedy=(
                "give the image that Space Ranger was run on, or --allow-hires knowing that cells cannot "
                "be seen in it"
            ),
        )
    hints = table.hints
    diameter = hints.spot_diameter_px0
    smaller = replace(
        hints,
        mpp=effective,
        rough_mpp=rough,
        spot_diameter_px0=diameter * scale if diameter is not None else None,
        image_scales={},
        full_size_px0=None,
        trust_slide_mpp=False,  # a copy often keeps the tags of its original
    )
    return FittedSpots(table.xy_px0 * scale, smaller, f"in place of the full image {found}")


def _fitting(
    table: SpotTable, scales: Mapping[str, float], size: npt.NDArray[np.float64], path: Path
) -> dict[str, float]:
    """Stated scales under which the image is a copy of the full one; none where it need not be a copy."""
    reach = table.xy_px0.max(axis=0)
    full = np.array(table.hints.full_size_px0 or (np.nan, np.nan))
    if not (reach < full * (1 + _AGREEMENT)).all():  # not known, or of a copy of another section
        holding = {name: s for name, s in scales.items() if (reach * s < size).all()}
        named = copy_kind(path)
        if named in holding:
            return {named: holding[named]}
        filled = {name: s for name, s in holding.items() if (reach * s > _FILLED * size).all()}
        if holding and not filled:
            name, scale = max(holding.items(), key=lambda item: item[1])
            share = reach * scale / size
            raise SlideError(
                (
                    f"{_expected(scales)}, found {path} of {size[0]:.0f} x {size[1]:.0f} px: as the {name} "
                    f"copy its spots would end at {share[0]:.2f} of the width and {share[1]:.2f} of the height"
                ),
                remedy=_REMEDY,
            )
        return filled
    ratio = size / full
    if (ratio > _SMALLER).all():  # spots lie outside for another reason
        return {}
    fitting = {name: s for name, s in scales.items() if (np.abs(ratio / s - 1) <= _COPY).all()}
    if not fitting:
        raise SlideError(
            (
                f"{_expected(scales)}, found {path} of {size[0]:.0f} x {size[1]:.0f} px: {ratio[0]:.4g} "
                f"of the full width ({full[0]:.0f} px) and {ratio[1]:.4g} of the full height ("
                f"{full[1]:.0f} px)"
            ),
            remedy=_REMEDY,
        )
    return fitting


def _expected(scales: Mapping[str, float]) -> str:
    stated = ", ".join(f"{name} {scale:.4g}" for name, scale in scales.items())
    return f"expected the full-resolution image, or a copy of a stated scale ({stated})"


def spots_outside(xy_px0: npt.NDArray[np.float64], slide: SlideFacts) -> npt.NDArray[np.bool_]:
    """(n,) True where a spot's centre lies outside the image."""
    size = np.array([slide.width_px0, slide.height_px0])
    return np.asarray(((xy_px0 < 0) | (xy_px0 >= size)).any(axis=1))


def outside_error(
    xy_px0: npt.NDArray[np.float64], slide: SlideFacts, source: str, path: Path
) -> SpotTableError:
    """The error about spots outside the image, with the remedy that fits."""
    size = np.array([slide.width_px0, slide.height_px0])
    low, high = xy_px0.min(axis=0), xy_px0.max(axis=0)
    n_outside = int(spots_outside(xy_px0, slide).sum())
    remedy = "give the image that the positions were measured on, in full resolution"
    if not spots_outside(xy_px0[:, ::-1], slide).any():
        remedy = "all would lie inside with x and y swapped: swap them"
    elif n_outside <= 0.05 * len(xy_px0):
        remedy += ", or leave these spots out with --accept outside"
    return SpotTableError(
        expected=f"all spots of {source} inside {path.name} ({size[0]} x {size[1]} px)",
        found=(
            f"{n_outside} of {len(xy_px0)} outside (x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} "
            f"to {high[1]:.0f})"
        ),
        remedy=remedy,
    )
