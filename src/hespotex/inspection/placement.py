"""Whether spots and tissue belong together, as findings: orientation, scale, bounds.

Three witnesses: the share of spots on tissue, the rank correlation of a spot's depth with the
darkness of the tissue under it, and the direction of the array's axes against the image's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hespotex.geometry import (
    ORIENTATIONS,
    Geometry,
    OrientationEvidence,
    orient,
    orientation_evidence,
)
from hespotex.inspection.findings import Finding, Level
from hespotex.inspection.slides import SlideView
from hespotex.sections.section import Section

# Positions are often in pixels of a smaller copy of the image: these are the usual ones.
_COPIES_PX = {"hires copy of 2,000 px": 2000, "lowres copy of 600 px": 600}
_FACTORS = {
    "half the size": 2.0,
    "a quarter of the size": 4.0,
    "a tenth of the size": 10.0,
    "twice the size": 0.5,
    "four times the size": 0.25,
    "ten times the size": 0.1,
}
# The counts speak for an orientation if their correlation leads by this, and by 2.5 standard errors.
_LEAST_LEAD = 0.15
_LEAST_CORRELATION = 0.15
# Of real sections 99.9 to 100 % of the spots lie on tissue, under their best wrong orientation 76 to 90 %; holes and fat
# that is pale take some.
_LEAST_ON_TISSUE = 0.9
# Below this lead on tissue an unmirrored array outweighs a mirrored orientation.
_SMALL_LEAD = 0.2
_MIRRORED = ": mirrored, as no turned array is"


@dataclass(frozen=True)
class Placement:
    """The evidence of three witnesses on the positions.

    Attributes:
        evidence: of the tissue.
        depth_correlation: rank correlation of depth with darkness, by orientation; empty without counts.
        array: how the array's axes run in the image; None where positions have no array.
        least_lead: how far the first correlation has to lead for the counts to speak.
    """

    evidence: OrientationEvidence
    depth_correlation: dict[str, float]
    array: str | None
    least_lead: float = _LEAST_LEAD

    @property
    def asked(self) -> tuple[str, ...]:
        """Orientations that the counts are asked about: where the tissue leaves some open, these alone."""
        if self.evidence.verdict == "undecidable" and self.evidence.open:
            return self.evidence.open
        return tuple(self.depth_correlation)

    @property
    def counts_say(self) -> str | None:
        """The orientation that the counts speak for; None where they are silent.

        It leads among those that are asked about, and no other one is above it: the correlations of
        orientations that the tissue rules out show what chance gives.
        """
        values = {name: self.depth_correlation.get(name) for name in self.asked}
        known = {name: value for name, value in values.items() if value is not None}
        if len(known) < max(2, len(values)):
            return None
        ranked = sorted(known.items(), key=lambda item: -item[1])
        (best, first), (_, second) = ranked[:2]
        leads = first - second >= self.least_lead and first >= max(self.depth_correlation.values())
        return best if leads and first >= _LEAST_CORRELATION else None


def known_scales(
    size_px0: tuple[int, int],
    geometry: Geometry | None,
    image_scales: dict[str, float] | None = None,
) -> dict[str, float]:
    """Factors that the positions may lack, by name.

    None where positions and image are known to have one scale: the pitch of the spots agrees with
    what the slide's tags or the manifest say of the image.
    """
    sources = geometry.mpp_sources if geometry is not None else {}
    by_pitch = any(name.startswith("spot pitch") for name in sources)
    by_image = any(name.startswith(("slide tag", "manifest column mpp")) for name in sources)
    if by_pitch and by_image:
        return {}
    longer = max(size_px0)
    copies = {name: longer / side for name, side in _COPIES_PX.items() if longer > 1.1 * side}
    stated = {name: 1 / scale for name, scale in (image_scales or {}).items()}
    # The other way round: the positions are right, the image is the copy.
    smaller = {f"the image is the {name} copy": s for name, s in (image_scales or {}).items()}
    return {**_FACTORS, **copies, **stated, **smaller}


def place(
    view: SlideView,
    xy_px0: npt.NDArray[np.float64],
    *,
    scales: dict[str, float],
    pitch_px0: float | None = None,
    depth: npt.NDArray[np.float64] | None = None,
    array_xy: npt.NDArray[np.float64] | None = None,
) -> Placement:
    """Ask all witnesses.

    Args:
        xy_px0: (n, 2) spot centres.
        scales: factors that the positions may lack, by name.
        pitch_px0: distance of neighbours in level-0 pixels.
        depth: (n,) total counts.
        array_xy: (n, 2) place in the array.
    """
    evidence = orientation_evidence(view.tissue, xy_px0, size_px0=view.size_px0, scales=scales)
    correlations = {}
    if depth is not None and pitch_px0 is not None:
        correlations = _depth_correlations(view, xy_px0, pitch_px0, depth)
    lead = max(_LEAST_LEAD, 2.5 / len(xy_px0) ** 0.5)
    return Placement(evidence, correlations, array_directions(array_xy, xy_px0), lead)


def place_section(view: SlideView, section: Section) -> Placement:
    """Ask all witnesses about a section that was read."""
    geometry = section.geometry
    return place(
        view,
        section.xy_px0,
        scales=known_scales(view.size_px0, geometry),
        pitch_px0=geometry.spot_pitch_um / geometry.mpp,
        depth=total_counts(section),
        array_xy=section.array_xy,
    )


def total_counts(section: Section) -> npt.NDArray[np.float64] | None:
    """(n,) total counts of the spots; None without expression."""
    if section.counts is None:
        return None
    return np.asarray(section.counts.sum(axis=1), dtype=np.float64).ravel()


def placement_findings(name: str, placement: Placement) -> list[Finding]:
    """Findings from the three witnesses, weighed against each other."""
    evidence = placement.evidence
    shown = evidence.message
    level: Level = "ok"
    remedy = ""
    if evidence.verdict == "other":
        level, shown, remedy = _weigh_other(placement)
    elif evidence.verdict == "undecidable":
        level, shown, remedy = _weigh_undecidable(placement)
    if level == "ok" and evidence.given.on_tissue < _LEAST_ON_TISSUE:
        level, remedy = "warning", "look at the overlay: are these the spots of this image?"
    found = [Finding(name, "position", level, shown, remedy)]
    if level == "ok" and placement.array is not None and _MIRRORED in placement.array:
        remedy = "look at the overlay: are x and y swapped?"
        found.append(Finding(name, "position", "warning", placement.array, remedy))
    return found


def _weigh_other(placement: Placement) -> tuple[Level, str, str]:
    """The tissue speaks for another hypothesis: red, unless another witness speaks against it."""
    shown = placement.evidence.message.removesuffix("; correct the positions") + _array(placement)
    if placement.counts_say == "as given":
        shown += f"; but {_correlations(placement)}, which speaks for the positions as given"
    elif _array_contradicts(placement):
        shown += ", which speaks against it"
    else:
        remedy = "correct the positions, or give the image that they were measured on"
        return "error", shown, f"{remedy} (where the overlay shows them right: --accept position)"
    return "warning", shown, "look at the overlay"


def _weigh_undecidable(placement: Placement) -> tuple[Level, str, str]:
    """The tissue is silent: fine if the counts speak for the positions as given."""
    shown = placement.evidence.message.removesuffix("; look at the overlay")
    if placement.counts_say == "as given":
        shown += f"; but {_correlations(placement)}, which speaks for the positions as given"
        return "ok", shown, ""
    shown += _array(placement)
    if placement.counts_say is not None:
        shown += f"; {_correlations(placement)}, which speaks for another orientation"
    return "warning", shown, "look at the overlay"


def _array(placement: Placement) -> str:
    return "" if placement.array is None else f"; {placement.array}"


def _array_contradicts(placement: Placement) -> bool:
    """Whether a small lead of a mirrored orientation would mirror an array that is not mirrored."""
    best, given = placement.evidence.best_other, placement.evidence.given
    mirrors = sum(ORIENTATIONS.get(best.name, (False,))) % 2 == 1
    if placement.array is None or _MIRRORED in placement.array or not mirrors:
        return False
    return best.on_tissue - given.on_tissue < _SMALL_LEAD


def _depth_correlations(
    view: SlideView,
    xy_px0: npt.NDArray[np.float64],
    pitch_px0: float,
    depth: npt.NDArray[np.float64],
) -> dict[str, float]:
    """Spearman's correlation of depth and darkness under each orientation that stays in the image."""
    from scipy.ndimage import gaussian_filter
    from scipy.stats import rankdata

    per_px = view.px0_per_px
    dark = gaussian_filter(
        255.0 - view.thumbnail.min(axis=2), max(1.0, pitch_px0 / float(per_px.mean()) / 3)
    )
    limits = np.array(dark.shape[::-1])
    found = {}
    for name in ORIENTATIONS:
        pixels = np.floor(orient(xy_px0, name, view.size_px0) / per_px).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < limits)).all(axis=1)
        if inside.sum() < max(10, 0.8 * len(xy_px0)):
            continue
        ranks = [rankdata(v) for v in (depth[inside], dark[tuple(pixels[inside, ::-1].T)])]
        if min(np.ptp(r) for r in ranks) > 0:
            found[name] = float(np.corrcoef(*ranks)[0, 1])
    return found


def _correlations(placement: Placement) -> str:
    """The correlation of the positions as given beside the best other one that was asked about."""
    values = placement.depth_correlation
    given = values.get("as given", float("nan"))
    other = max((k for k in placement.asked if k != "as given"), key=lambda k: values[k])
    return (
        f"the rank correlation of depth with the tissue's darkness is {given:.2f} as given and "
        f"{values[other]:.2f} otherwise ({other})"
    )


def array_directions(
    array_xy: npt.NDArray[np.float64] | None, xy_px0: npt.NDArray[np.float64]
) -> str | None:
    """How the array's axes run in the image, in words; None where that cannot be told."""
    if array_xy is None or len(xy_px0) < 3 or not np.isfinite(array_xy).all():
        return None
    with_one = np.column_stack([array_xy, np.ones(len(xy_px0))])
    if np.linalg.matrix_rank(with_one) < 3:
        return None
    axes = np.linalg.lstsq(with_one, xy_px0, rcond=None)[0][:2]
    if abs(np.linalg.det(axes)) < 1e-9:
        return None
    words = [
        f"array {name} runs {_direction(axis)}" for name, axis in zip(("x", "y"), axes, strict=True)
    ]
    mirrored = np.linalg.det(axes) < 0
    return ", ".join(words) + (_MIRRORED if mirrored else "")


def _direction(axis: npt.NDArray[np.float64]) -> str:
    across = abs(axis[0]) >= abs(axis[1])
    if across:
        return "to the right" if axis[0] > 0 else "to the left"
    return "down" if axis[1] > 0 else "up"
