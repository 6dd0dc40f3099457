"""The nuclei factor that multiplies the expression of a spot.

Formulas: docs/design/method.md, "Nuclei factor". Modes: `published` (relative to the slide), `density` (physical,
comparable between slides), `off` (1 everywhere, nothing to compute).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hespotex.config import NucleiMode
from hespotex.errors import SlideError
from hespotex.nuclei import NucleiCounts

FloatArray = npt.NDArray[np.float64]

PUBLISHED_CAP = 20
SATURATION_PER_MM2 = PUBLISHED_CAP / 0.055**2
"""Nuclei per mm2 from which the density factor stays at 2: the published cap of 20 nuclei, in the
patch it was set for, the 55 um square of a Visium spot (about 6,600 per mm2)."""


def nuclei_factor(
    counts: NucleiCounts, mode: NucleiMode, *, section: str | None = None
) -> FloatArray | None:
    """The factor of every spot of ONE whole section or slide; None where the model has none.

    Args:
        counts: of all its spots.
    """
    if mode == "off":
        return None
    if mode == "published":
        return published_nuclei_factor(counts.label_values, section=section)
    return density_nuclei_factor(counts.nuclei, counts.area_um2, section=section)


def published_nuclei_factor(
    label_values: npt.ArrayLike, *, section: str | None = None
) -> FloatArray:
    """c / (largest c of the slide) + 1 with c = the number of label values, clipped to 1 .. 20.

    Args:
        label_values: (n,) distinct values of the nuclei mask under each patch of ONE whole slide;
            the background counts as one.

    Returns:
        (n,) in (1, 2], relative to the slide: the fullest patch has 2.

    Raises:
        SlideError: a value is negative or not finite.
    """
    values = _checked(label_values, "label values under a patch", section)
    clipped = np.clip(values, 1, PUBLISHED_CAP)
    factor: FloatArray = clipped / clipped.max(initial=1) + 1
    return factor


def density_nuclei_factor(
    nuclei: npt.ArrayLike, area_um2: npt.ArrayLike, *, section: str | None = None
) -> FloatArray:
    """1 + density / SATURATION_PER_MM2, at most 2: the published range in physical units.

    Real nuclei only, per area, with no maximum of the slide: a spot's factor depends on that spot
    alone, so slides, tiles and patch sides compare.

    Args:
        nuclei: (n,) nuclei in each patch, the background not counted.
        area_um2: area of a patch in square microns, one for all or (n,).

    Returns:
        (n,) in [1, 2].

    Raises:
        SlideError: a count is negative or not finite, or an area is not above 0.
    """
    counts = _checked(nuclei, "nuclei in a patch", section)
    area = _checked(area_um2, "areas of patches in um2", section)
    if not (area > 0).all():
        raise SlideError(
            f"areas of patches must be above 0 um2, found {area.min():g}: check patch side and mpp",
            section=section,
        )
    return 1 + np.minimum(counts / (area * 1e-6) / SATURATION_PER_MM2, 1)


def _checked(values: npt.ArrayLike, what: str, section: str | None) -> FloatArray:
    array = np.asarray(values, np.float64)
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        raise SlideError(
            f"{what} must be numbers of 0 or more, found {array[wrong].ravel()[0]:g} "
            f"({int(wrong.sum())} of {array.size}): check the nuclei mask",
            section=section,
        )
    return array
