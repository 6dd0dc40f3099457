"""Registration of two sections' pictures: where a point of one lies in the other, in microns, and how well they fit.

Both pictures are brought to one pixel size. Grey is the amount of haematoxylin, ranked within the tissue, so that
another stain or scanner changes little. All turns in steps of 15 degrees are tried, with and without a mirror; the
best go through SimpleITK's rigid, then affine search. A fit that is not good enough is refused by its numbers. One that is
may be bent (`bending.py`): that makes no refused fit a good one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.analysis.bending import NONE_FOUND, Bending, judged, searched_from_both
from hespotex.analysis.itk_search import searched
from hespotex.analysis.section_picture import (
    LEAST_TISSUE_PX,
    Image,
    Mask,
    Picture,
    middle,
    scaled,
    warped,
)
from hespotex.geometry import Affine, Map, Smooth

# Pixels of the longer side of both pictures in the search; the finer one is for the last step.
_COARSE_PX: Final = 64
_FINE_PX: Final = 256
_TURNS: Final = 24
_KEPT: Final = 6
# Pictures are compared smoothed by this part of the tissue's size.
_SMOOTHED: Final = 28
# Longest stretch that a cut or a mounting explains; beyond it the search has gone astray.
_MOST_STRETCH: Final = 1.25
# Refusal, as chosen on real tissue: see docs/agree.md.
LEAST_DICE: Final = 0.5
# Other tissue fits best where little of it is laid on anything.
LEAST_OVERLAP: Final = 0.7
SURE: Final = (0.7, 0.58)
LEAST: Final = (0.5, 0.38)
LEAST_LEAD: Final = 0.4
# A fit that is matched by one elsewhere says not where the section lies, however good it is.
SURE_LEAD: Final = 0.05


@dataclass(frozen=True)
class Quality:
    """How well two sections fit.

    Attributes:
        dice: of the tissue: twice the common area over the sum of areas.
        correlation: of grey over the common tissue, smoothed by a 28th of the tissue's size.
        detail: the same of what a four times wider smoothing leaves: structures, not how tissue darkens as a whole.
        mutual_information: of grey there, normalised: (H(a) + H(b)) / H(a, b) - 1, 0 to 1.
        overlap: common tissue as a share of the smaller one.
        lead: by how much the fit is better than the best one elsewhere (Dice + 2 correlation + 2 detail); NaN where
            there was no search, or no other fit.
    """

    dice: float
    correlation: float
    detail: float
    mutual_information: float
    overlap: float
    lead: float = float("nan")

    @property
    def refusal(self) -> str:
        """Why the fit must not be used; empty where it may be."""
        if not self.dice >= LEAST_DICE:
            return f"Dice of tissue {self.dice:.2f}, at least {LEAST_DICE} is needed"
        if not self.overlap >= LEAST_OVERLAP:
            return f"{self.overlap:.0%} of the smaller tissue lies on the other, at least {LEAST_OVERLAP:.0%} is needed"
        alike = (self.correlation, self.detail)
        sure, ahead = all(np.greater_equal(alike, SURE)), not self.lead < SURE_LEAD
        if (sure and ahead) or (all(np.greater_equal(alike, LEAST)) and self.lead >= LEAST_LEAD):
            return ""
        return (
            f"correlation of grey {self.correlation:.2f}, of its detail {self.detail:.2f}, lead over the next fit "
            f"{self.lead:.2f}; {SURE[0]}, {SURE[1]} and a lead of {SURE_LEAD} are needed, or {LEAST[0]}, {LEAST[1]} and "
            f"a lead of {LEAST_LEAD}"
        )


UNKNOWN: Final = Quality(*(float("nan"),) * 5)
"""Of a map that was given for sections without pictures."""


@dataclass(frozen=True)
class Registration:
    """What was found of a pair.

    Attributes:
        to_fixed: from microns of the moving section to microns of the fixed one.
        quality: of the fit, without a bend where it was searched for.
        kind: `rigid`, `affine`, or `given`.
        residual_um: of landmarks, root mean square; NaN where none were given.
        bending: what was found of a bend; None where none was looked for.
    """

    to_fixed: Map
    quality: Quality
    kind: str
    residual_um: float = float("nan")
    bending: Bending | None = None


def register(fixed: Picture, moving: Picture, *, bend: bool = True) -> Registration:
    """Where the moving section lies on the fixed one.

    Args:
        bend: look for a bend, too, where the affine map is good enough.

    Raises:
        GeometryError: SimpleITK is not installed.
    """
    coarse, fine = _pixel_sizes(fixed, moving)
    small = scaled(fixed, coarse), scaled(moving, coarse)
    found = [_best_rigid(small, start) for start in _apart(small, _starts(*small))[:_KEPT]]
    found = _apart(small, found)
    merits = [_merit(quality_of(*small, one), 1.0) for one in found]
    lead = merits[0] - merits[1] if len(merits) > 1 else float("nan")
    # Tissue that one section lacks pulls on the whole map: only what both have counts in one of either search.
    tried = [*found[:2], *_searches(small, found[:2])]
    large = scaled(fixed, fine), scaled(moving, fine)
    best = max(tried, key=lambda start: _merit(quality_of(*large, start), 0.5))
    last = [best, *_searches(large, [best])]
    best = max(last, key=lambda one: _merit(quality_of(*large, one), 0.5))
    kind = "rigid" if best.stretches[0] - best.stretches[1] < 1e-9 else "affine"
    quality = replace(quality_of(*large, best), lead=lead)
    if not bend or quality.refusal:
        return Registration(best, quality, kind)
    to_fixed, bending = _bent(large, best, quality.detail)
    return Registration(to_fixed, quality, kind, bending=bending)


def _bent(pictures: tuple[Picture, Picture], affine: Affine, before: float) -> tuple[Map, Bending]:
    """The map with a bend, where one is used."""
    found = searched_from_both(*pictures, affine)
    if found is None:
        return affine, NONE_FOUND
    bend, moved, most, apart = found
    whole = Smooth((affine, bend))
    size = float(np.sqrt(pictures[1].tissue.sum())) * pictures[1].um_per_px
    bending = judged(moved, most, apart, before, quality_of(*pictures, whole).detail, size)
    return (affine if bending.refusal else whole), bending


def quality_of_given(fixed: Picture, moving: Picture, to_fixed: Map) -> Quality:
    """The numbers of a map that was not searched for, at the pixel size of the last step of a search."""
    _, fine = _pixel_sizes(fixed, moving)
    return quality_of(scaled(fixed, fine), scaled(moving, fine), to_fixed)


def _pixel_sizes(fixed: Picture, moving: Picture) -> tuple[float, float]:
    """Microns of a pixel in the search, and in its last step."""
    extent = max(_extent_um(p) for p in (fixed, moving))
    finest = max(fixed.um_per_px, moving.um_per_px)
    return max(extent / _COARSE_PX, finest), max(extent / _FINE_PX, finest)


def _best_rigid(pictures: tuple[Picture, Picture], start: Affine) -> Affine:
    """The best of a start and of what either rigid search makes of it."""
    tried = [start, *(searched(*pictures, start, "rigid", inside=i) for i in (False, True))]
    return max(tried, key=lambda one: _merit(quality_of(*pictures, one), 1.0))


def _searches(pictures: tuple[Picture, Picture], starts: Sequence[Affine]) -> list[Affine]:
    return [
        searched(*pictures, start, "affine", inside=inside)
        for start in starts
        for inside in (False, True)
    ]


def _apart(pictures: tuple[Picture, Picture], maps: Iterable[Affine]) -> list[Affine]:
    """The best maps, best first, none of which lays tissue within a quarter of its size of where a better one does."""
    rows, columns = np.nonzero(pictures[1].tissue)
    points = np.stack([columns, rows], axis=1)[::7] * pictures[1].um_per_px
    near = 0.25 * np.sqrt(len(rows)) * pictures[1].um_per_px
    kept: list[Affine] = []
    for one in sorted(maps, key=lambda one: -_merit(quality_of(*pictures, one), 1.0)):
        off = [np.sqrt(np.square(one(points) - k(points)).sum(axis=1).mean()) for k in kept]
        if not off or min(off) > near:
            kept.append(one)
    return kept


def _extent_um(picture: Picture) -> float:
    """The longer side of the box around the tissue."""
    rows, columns = np.nonzero(picture.tissue)
    return float(max(np.ptp(rows), np.ptp(columns)) + 1) * picture.um_per_px


def _starts(fixed: Picture, moving: Picture) -> Iterable[Affine]:
    """Turns and mirrors that lay the middle of one tissue on that of the other, and each with its best shift."""
    to, of = middle(fixed), middle(moving)
    for mirror in (1.0, -1.0):
        for step in range(_TURNS):
            linear = Affine.turn(step * 360 / _TURNS).linear @ np.diag([mirror, 1.0])
            start = Affine.of(linear, to - linear @ of)
            yield start
            yield Affine.of(np.eye(2), _best_shift(fixed, moving, start)) @ start


def _best_shift(fixed: Picture, moving: Picture, start: Affine) -> npt.NDArray[np.float64]:
    """(2,) microns by which the laid section fits best, by cross-correlation: middles differ where a piece is cut off."""
    from scipy.fft import irfft2, rfft2

    grey = warped(moving.grey, moving, fixed, start)
    tissue = warped(moving.tissue, moving, fixed, start) > 0.5
    shape = [2 * n for n in grey.shape]
    # The shape of tissue counts a little, what is in it more.
    ours, theirs = (
        rfft2(np.where(m, g - 0.25, 0.0), s=shape)
        for g, m in ((fixed.grey, fixed.tissue), (grey, tissue))
    )
    found = irfft2(ours * np.conj(theirs), s=shape)
    place = np.array(np.unravel_index(int(found.argmax()), found.shape))
    rows, columns = np.where(place > np.array(grey.shape), place - np.array(shape), place)
    return np.array([columns, rows]) * fixed.um_per_px


def _merit(quality: Quality, of_shape: float) -> float:
    """What the search looks for. Dice leads to the right start; at the end it stretches a cut section over a whole one."""
    return of_shape * quality.dice + 2 * (quality.correlation + quality.detail)


def quality_of(fixed: Picture, moving: Picture, to_fixed: Map) -> Quality:
    """The numbers of a fit; a map that stretches by more than a quarter has none."""
    affine = to_fixed if isinstance(to_fixed, Affine) else to_fixed.affine
    most, least = affine.stretches
    tissue = warped(moving.tissue, moving, fixed, to_fixed) > 0.5
    both = tissue & fixed.tissue
    area = (fixed.um_per_px / moving.um_per_px) ** 2
    own = moving.tissue.sum() / area * most * least
    total = own + fixed.tissue.sum()
    dice = 2 * both.sum() / total if total else 0.0
    overlap = both.sum() / max(min(own, float(fixed.tissue.sum())), 1.0)
    if both.sum() < LEAST_TISSUE_PX or most > _MOST_STRETCH or least < 1 / _MOST_STRETCH:
        return Quality(float(dice), 0.0, 0.0, 0.0, float(overlap))
    grey = warped(moving.grey, moving, fixed, to_fixed)
    over = max(2.0, np.sqrt(min(own, float(fixed.tissue.sum()))) / _SMOOTHED)
    near = _smoothed((fixed.grey, grey), both, over)
    wide = _smoothed((fixed.grey, grey), both, 4 * over)
    return Quality(
        float(dice),
        _correlation(*near),
        _correlation(*(n - w for n, w in zip(near, wide, strict=True))),
        _mutual_information(fixed.grey[both], grey[both]),
        float(overlap),
    )


def _smoothed(images: tuple[Image, Image], within: Mask, over_px: float) -> tuple[Image, Image]:
    """Values of the pixels within, each a mean of those around it that lie within."""
    import cv2

    share = within.astype(np.float32)
    weight = np.maximum(cv2.GaussianBlur(share, (0, 0), over_px), 1e-6)
    a, b = ((cv2.GaussianBlur(image * share, (0, 0), over_px) / weight)[within] for image in images)
    return a, b


def _correlation(a: Image, b: Image) -> float:
    found = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
    return found if np.isfinite(found) else 0.0


def _mutual_information(a: Image, b: Image) -> float:
    from scipy.stats import entropy

    joint, _, _ = np.histogram2d(a, b, bins=16)
    both = entropy(joint.ravel())
    return float((entropy(joint.sum(0)) + entropy(joint.sum(1))) / both - 1) if both > 0 else 0.0
