"""Owns how positions fit the image that was given: a down-scaled copy of it, spots outside of it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError, SpotTableError
from hespotex.spots.base import ScaleHints, SpotTable


class SlideFacts(Protocol):
    """What a section needs to know of its slide."""

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

    A copy is told by its size: the spots leave it as they are, and fill it when multiplied by the
    scale that Space Ranger states for it.

    Raises:
        SlideError: the image is a copy, and copies are not allowed.
    """
    size = np.array([slide.width_px0, slide.height_px0], dtype=np.float64)
    outside = (table.xy_px0 >= size).any(axis=1).mean()
    fitting = {
        name: scale
        for name, scale in table.hints.image_scales.items()
        if scale < 0.9
        and outside > 0
        and ((table.xy_px0 * scale).max(axis=0) < size).all()
        and ((table.xy_px0 * scale).max(axis=0) > 0.25 * size).all()
    }
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
            f"expected the full-resolution image, found {path} of {size[0]:.0f} x {size[1]:.0f} px, which fits "
            f"{found}; give the image that Space Ranger was run on, or --allow-hires knowing that cells cannot be "
            "seen in it"
        )
    hints = table.hints
    diameter = hints.spot_diameter_px0
    smaller = replace(
        hints,
        mpp=effective,
        rough_mpp=rough,
        spot_diameter_px0=diameter * scale if diameter is not None else None,
        image_scales={},
        trust_slide_mpp=False,  # a copy often keeps the tags of its original
    )
    return FittedSpots(table.xy_px0 * scale, smaller, f"in place of the full image {found}")


def spots_outside(xy_px0: npt.NDArray[np.float64], slide: SlideFacts) -> npt.NDArray[np.bool_]:
    """(n,) True where a spot's centre lies outside the image."""
    size = np.array([slide.width_px0, slide.height_px0])
    return np.asarray(((xy_px0 < 0) | (xy_px0 >= size)).any(axis=1))


def outside_error(
    xy_px0: npt.NDArray[np.float64], slide: SlideFacts, source: str, path: Path
) -> SpotTableError:
    """What to say of spots outside the image, with the remedy that fits."""
    size = np.array([slide.width_px0, slide.height_px0])
    low, high = xy_px0.min(axis=0), xy_px0.max(axis=0)
    n_outside = int(spots_outside(xy_px0, slide).sum())
    remedy = "give the image that the positions were measured on, in full resolution"
    if not spots_outside(xy_px0[:, ::-1], slide).any():
        remedy = "all would lie inside with x and y swapped: swap them"
    elif n_outside <= 0.05 * len(xy_px0):
        remedy += ", or leave these spots out with --accept outside"
    return SpotTableError(
        f"expected all spots of {source} inside {path.name} ({size[0]} x {size[1]} px), found "
        f"{n_outside} of {len(xy_px0)} outside (x {low[0]:.0f} to {high[0]:.0f}, "
        f"y {low[1]:.0f} to {high[1]:.0f}); {remedy}"
    )
