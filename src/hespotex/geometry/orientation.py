"""Whether spots lie on the tissue as given, or turned or mirrored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["as given", "other", "undecidable"]

# Transposed first, then mirrored in x, mirrored in y: what has to be done to the positions.
ORIENTATIONS: Mapping[str, tuple[bool, bool, bool]] = {
    "as given": (False, False, False),
    "mirrored left to right": (False, True, False),
    "mirrored top to bottom": (False, False, True),
    "turned by 180 degrees": (False, True, True),
    "x and y swapped": (True, False, False),
    "turned by 90 degrees clockwise": (True, True, False),
    "turned by 90 degrees counter-clockwise": (True, False, True),
    "x and y swapped and turned by 180 degrees": (True, True, True),
}
_LEAST_MARGIN = 0.05
_LEAST_Z = 2.0
# A correction that leaves most spots off the tissue corrects nothing.
_LEAST_ON_TISSUE = 0.5
# A wrong scale moves spots by far more than a wrong orientation: it has to show clearly.
_LEAST_SCALE_MARGIN = 0.2
# A shift is fitted, so it has to gain more: right positions gain up to 3 points within 0.2 pitches.
_LEAST_SHIFT_GAIN = 0.1
_LEAST_SHIFT_PITCHES = 1.0
_MOST_TISSUE_POINTS = 4000
_OFFSET_SIDE_PX = 250


@dataclass(frozen=True)
class Hypothesis:
    """One way in which the positions may have been meant.

    Attributes:
        name: what has to be done to the positions, in words.
        scale: factor on the positions.
        on_tissue: share of the spots on tissue; a spot outside the image is on none.
        covered: share of the tissue within reach of a spot.
    """

    name: str
    scale: float
    on_tissue: float
    covered: float

    @property
    def overlap(self) -> float:
        """Harmonic mean of the two shares: 1 where spots and tissue are the same area."""
        total = self.on_tissue + self.covered
        return 2 * self.on_tissue * self.covered / total if total else 0.0


@dataclass(frozen=True)
class OrientationEvidence:
    """The evidence of the tissue on the positions.

    Attributes:
        verdict: `as given` and `other` where one hypothesis is clearly best, else `undecidable`.
        given: the positions as they are.
        best_other: the best of all other hypotheses.
        message: one line with both shares, and what to do.
        open: names in `ORIENTATIONS` that the tissue does not rule out against the best of the eight; empty where
            it was not asked.
    """

    verdict: Verdict
    given: Hypothesis
    best_other: Hypothesis
    message: str
    open: tuple[str, ...] = ()


def orient(
    xy_px0: npt.NDArray[np.float64], name: str, frame_px0: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Positions after one of `ORIENTATIONS`, mirrored within a frame of width, height `frame_px0`."""
    transposed, mirror_x, mirror_y = ORIENTATIONS[name]
    x, y = xy_px0.T[::-1] if transposed else xy_px0.T
    width, height = frame_px0
    return np.column_stack([width - x if mirror_x else x, height - y if mirror_y else y])


def orientation_evidence(
    mask: npt.NDArray[np.bool_],
    xy_px0: npt.NDArray[np.float64],
    *,
    size_px0: tuple[int, int],
    scales: Mapping[str, float] | None = None,
) -> OrientationEvidence:
    """Compare the share of spots on tissue as given, under 7 other orientations and other scales.

    Orientations are told by the share of spots on tissue, spot by spot against the given one
    (McNemar's z); scales by the overlap of spots and tissue, since a smaller copy of the positions may
    lie on tissue as well; an offset by the best cross-correlation of spots and tissue.

    Args:
        mask: (h, w) tissue, of the whole slide.
        xy_px0: (n, 2) spot centres in the tissue.
        size_px0: width and height of level 0.
        scales: factors that the positions may lack, by name, for example {"hires": 1 / 0.15}.
    """
    weigh = _Scales(mask, size_px0)
    given, given_hits = weigh("as given", xy_px0)
    others = [weigh(*pair) for pair in _reoriented(xy_px0, size_px0)]
    best, hits = max(others, key=lambda pair: pair[0].on_tissue)
    if not mask.any() or mask.all():
        text = "no tissue can be told from the background on this slide; look at the overlay"
        return OrientationEvidence("undecidable", given, best, text)
    scaled = [
        weigh(f"multiplied by {factor:.4g} ({name})", xy_px0 * factor, factor)[0]
        for name, factor in (scales or {}).items()
    ]
    best_scaled = max(scaled, key=lambda h: h.overlap, default=None)
    if (
        best_scaled is not None
        and _clearly_better_scale(best_scaled, given)
        and best_scaled.overlap >= best.overlap
        and best_scaled.on_tissue >= _LEAST_ON_TISSUE
    ):
        return OrientationEvidence("other", given, best_scaled, _message(best_scaled, given))
    shifted = _find_offset(mask, xy_px0, weigh)
    if (
        shifted is not None
        and shifted.on_tissue >= _LEAST_ON_TISSUE
        and shifted.on_tissue >= given.on_tissue + _LEAST_SHIFT_GAIN
        and shifted.on_tissue >= best.on_tissue + _LEAST_MARGIN
    ):
        return OrientationEvidence("other", given, shifted, _message(shifted, given))
    judged = _judge(given, given_hits, best, hits)
    return replace(judged, open=_open([(given, given_hits), *others]))


def _open(weighed: Sequence[tuple[Hypothesis, npt.NDArray[np.bool_]]]) -> tuple[str, ...]:
    """Orientations whose share of spots on tissue is not clearly below the best one's."""
    best, hits = max(weighed, key=lambda pair: pair[0].on_tissue)
    left = (
        hypothesis.name
        for hypothesis, own in weighed
        if best.on_tissue - hypothesis.on_tissue < _LEAST_MARGIN or _mcnemar_z(hits, own) < _LEAST_Z
    )
    return tuple(dict.fromkeys(left))


def _mcnemar_z(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    different = int((one != other).sum())
    return float(abs(int(one.sum()) - int(other.sum())) / max(1.0, different) ** 0.5)


def _judge(
    given: Hypothesis,
    given_hits: npt.NDArray[np.bool_],
    best: Hypothesis,
    hits: npt.NDArray[np.bool_],
) -> OrientationEvidence:
    margin, z = given.on_tissue - best.on_tissue, _mcnemar_z(given_hits, hits)
    shares = f"{_percent(given.on_tissue)} of spots lie on tissue as given, {_percent(best.on_tissue)} otherwise ({best.name})"
    if abs(margin) < _LEAST_MARGIN or z < _LEAST_Z:
        text = f"the tissue does not tell the orientation: {shares}; look at the overlay"
        return OrientationEvidence("undecidable", given, best, text)
    if max(given.on_tissue, best.on_tissue) < _LEAST_ON_TISSUE:
        text = f"no orientation puts the spots on the tissue: {shares}; look at the overlay"
        return OrientationEvidence("undecidable", given, best, text)
    if margin > 0:
        return OrientationEvidence("as given", given, best, f"{shares}, the best other orientation")
    return OrientationEvidence("other", given, best, _message(best, given))


def _reoriented(
    xy_px0: npt.NDArray[np.float64], size_px0: tuple[int, int]
) -> list[tuple[str, npt.NDArray[np.float64]]]:
    """The 7 other orientations; a turn by 90 degrees may have happened in the frame of either image."""
    moved = []
    for name, (transposed, mirror_x, mirror_y) in ORIENTATIONS.items():
        if name == "as given":
            continue
        moved.append((name, orient(xy_px0, name, size_px0)))
        if transposed and (mirror_x or mirror_y) and size_px0[0] != size_px0[1]:
            moved.append((name, orient(xy_px0, name, (size_px0[1], size_px0[0]))))
    return moved


def _find_offset(
    mask: npt.NDArray[np.bool_], xy_px0: npt.NDArray[np.float64], weigh: _Scales
) -> Hypothesis | None:
    """The shift that puts most spots on tissue; None if it is less than a pitch."""
    from scipy.signal import fftconvolve

    step = max(1, max(mask.shape) // _OFFSET_SIDE_PX)
    small, per_px = mask[::step, ::step], weigh.per_px * step
    pixels = np.floor(xy_px0 / per_px).astype(np.int64)
    low = pixels.min(axis=0)
    extent = pixels.max(axis=0) - low + 1
    if (extent > 4 * np.array(small.shape[::-1])).any():
        return None
    spots = np.zeros(extent[::-1])
    np.add.at(spots, (pixels[:, 1] - low[1], pixels[:, 0] - low[0]), 1.0)
    found = fftconvolve(small.astype(np.float64), spots[::-1, ::-1], mode="full")
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    origin = np.array([column - (extent[0] - 1), row - (extent[1] - 1)])
    shift = (origin - low) * per_px
    if len(xy_px0) < 2 or np.hypot(*shift) < _LEAST_SHIFT_PITCHES * _typical_distance(xy_px0):
        return None
    return weigh(f"moved by {shift[0]:.0f}, {shift[1]:.0f} px", xy_px0 + shift)[0]


def _typical_distance(xy_px0: npt.NDArray[np.float64]) -> float:
    from scipy.spatial import cKDTree

    return float(np.median(cKDTree(xy_px0).query(xy_px0, k=2)[0][:, 1]))


def _message(best: Hypothesis, given: Hypothesis) -> str:
    cover = ""
    if best.scale != 1:
        cover = f" (covering {_percent(best.covered)} of it against {_percent(given.covered)})"
    return (
        f"{_percent(best.on_tissue)} of spots lie on tissue if corrected ({best.name}){cover}, "
        f"{_percent(given.on_tissue)} as given; correct the positions"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _clearly_better_scale(other: Hypothesis, given: Hypothesis) -> bool:
    return (
        other.overlap >= given.overlap + _LEAST_SCALE_MARGIN
        and other.on_tissue >= given.on_tissue - _LEAST_MARGIN
    )


class _Scales:
    """Weighs positions against a tissue mask.

    Args:
        mask: (h, w) tissue, of the whole slide.
        size_px0: width and height of level 0.
    """

    def __init__(self, mask: npt.NDArray[np.bool_], size_px0: tuple[int, int]) -> None:
        self._mask = mask
        self.per_px = np.array(size_px0, dtype=np.float64) / np.array(mask.shape[::-1])
        rows, columns = np.nonzero(mask)
        step = max(1, len(rows) // _MOST_TISSUE_POINTS)
        self._tissue = (np.column_stack([columns, rows])[::step] + 0.5) * self.per_px

    def __call__(
        self, name: str, xy_px0: npt.NDArray[np.float64], scale: float = 1.0
    ) -> tuple[Hypothesis, npt.NDArray[np.bool_]]:
        """The hypothesis with its shares, and for every spot whether it is on tissue."""
        hits = self._hits(xy_px0)
        return Hypothesis(name, scale, float(hits.mean()), self._covered(xy_px0)), hits

    def _hits(self, xy_px0: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        height, width = self._mask.shape
        pixels = np.floor(xy_px0 / self.per_px).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
        hits = np.zeros(len(xy_px0), dtype=bool)
        hits[inside] = self._mask[pixels[inside, 1], pixels[inside, 0]]
        return hits

    def _covered(self, xy_px0: npt.NDArray[np.float64]) -> float:
        from scipy.spatial import cKDTree

        if len(self._tissue) == 0 or len(xy_px0) < 2:
            return 0.0
        reach = 0.75 * max(_typical_distance(xy_px0), float(self.per_px.max()))
        near = cKDTree(xy_px0).query(self._tissue, distance_upper_bound=reach)[0]
        return float(np.isfinite(near).mean())
