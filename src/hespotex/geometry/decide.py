"""The physical scale of a section: every source is asked, and they have to agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hespotex.errors import GeometryError
from hespotex.geometry.lattice import Lattice, fit_lattice
from hespotex.slide.pixel_size import AGREEMENT
from hespotex.spots.base import RoughScale, ScaleHints

_PLAUSIBLE_MPP = (0.02, 100.0)
_MOST_STRETCH = 1.03


@dataclass(frozen=True)
class ScaleNote:
    """One thing that was assumed, set aside or doubted of the scale; its text is "found; remedy".

    Attributes:
        found: what it is, with its values.
        remedy: what to do; empty where there is nothing to do, or nothing better than to look.
        doubtful: whether it should be looked at before a run.
    """

    found: str
    remedy: str = ""
    doubtful: bool = False

    def __str__(self) -> str:
        return f"{self.found}; {self.remedy}" if self.remedy else self.found


@dataclass(frozen=True)
class Geometry:
    """The physical scale that was decided for a section, and from what.

    Attributes:
        mpp: microns per level-0 pixel.
        spot_pitch_um: distance of neighbouring spots in microns.
        spot_diameter_um: diameter of a spot in microns.
        mpp_sources: every source's own value of mpp, by name.
        notes: what was assumed or set aside.
        overruled: sources that disagree, and that the user let the manifest's mpp count against.
        doubts: what weak sources say against the scale; all of them doubtful.
    """

    mpp: float
    spot_pitch_um: float
    spot_diameter_um: float
    mpp_sources: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[ScaleNote, ...] = ()
    overruled: Mapping[str, float] = field(default_factory=dict)
    doubts: tuple[ScaleNote, ...] = ()


@dataclass(frozen=True)
class StatedScale:
    """The scale that the manifest states; None where its cell is empty."""

    mpp: float | None = None
    spot_pitch_um: float | None = None
    spot_diameter_um: float | None = None


def decide_geometry(
    xy_px0: npt.NDArray[np.float64],
    hints: ScaleHints,
    *,
    stated: StatedScale | None = None,
    slide_mpp: Mapping[str, float] | None = None,
    manifest_wins: bool = False,
    section: str | None = None,
) -> Geometry:
    """Decide mpp, pitch and diameter from all sources at once.

    In order of precedence: the manifest, the slide's own tags, what the spot files state, the spot
    pitch against the lattice in the positions, the spot diameter. All that exist must agree within 3 %.
    A weak source (`ScaleHints.rough_mpp`) decides where there is no other; else it can only raise a doubt.

    Args:
        xy_px0: (n, 2) spot centres in level-0 pixels.
        slide_mpp: microns per level-0 pixel that the slide's tags say, by tag.
        manifest_wins: sources that contradict the manifest's mpp are set aside, named in `overruled`.

    Raises:
        GeometryError: no source, or sources that disagree; each is named with its value.
    """
    stated = stated or StatedScale()
    notes: list[ScaleNote] = []
    lattice = fit_lattice(xy_px0)
    pitch_um = _agreed("spot pitch", "um", stated.spot_pitch_um, hints.spot_pitch_um, section)
    diameter_um = _agreed(
        "spot diameter", "um", stated.spot_diameter_um, hints.spot_diameter_um, section
    )
    sources = _mpp_sources(stated, hints, slide_mpp or {}, lattice, pitch_um, notes)
    doubts = [] if sources else [_assumed(name, rough) for name, rough in hints.rough_mpp.items()]
    sources = sources or {name: rough.likely for name, rough in hints.rough_mpp.items()}
    if not sources:
        raise _nothing_known(lattice, pitch_um, section)
    overruled: dict[str, float] = {}
    if manifest_wins and stated.mpp is not None:
        overruled = {n: v for n, v in sources.items() if not _agree([v, stated.mpp])}
        sources = {n: v for n, v in sources.items() if n not in overruled}
    _check_plausible(sources, section)
    _check_agreement(sources, section)
    mpp = next(iter(sources.values()))
    for name, rough in hints.rough_mpp.items():
        _weigh_rough(name, rough, mpp, sources, notes, doubts)
    if pitch_um is None:
        pitch_um = _measured_pitch(xy_px0, lattice, mpp, notes)
    if diameter_um is None:
        if hints.spot_diameter_px0 is not None:
            diameter_um = hints.spot_diameter_px0 * mpp
        else:
            diameter_um = 0.5 * pitch_um
            notes.append(
                ScaleNote(
                    f"no file states the spot diameter: half the pitch, {diameter_um:.4g} um, is assumed",
                    "set spot_diameter_um in the manifest",
                    doubtful=True,
                )
            )
    return Geometry(mpp, pitch_um, diameter_um, sources, tuple(notes), overruled, tuple(doubts))


def _assumed(name: str, rough: RoughScale) -> ScaleNote:
    return ScaleNote(
        f"{name} is the only source of microns per pixel: {rough.likely:.4g} is assumed, {rough.low:.4g} to "
        f"{rough.high:.4g} is possible, since versions write circles of different size",
        "set mpp or spot_pitch_um in the manifest",
        doubtful=True,
    )


def _weigh_rough(
    name: str,
    rough: RoughScale,
    mpp: float,
    sources: dict[str, float],
    notes: list[ScaleNote],
    doubts: list[ScaleNote],
) -> None:
    """A weak source beside the scale that was decided: it agrees, is explained, or raises a doubt."""
    if name in sources:
        return
    if _agree([rough.likely, mpp]):
        sources[name] = rough.likely
    elif rough.low / (1 + AGREEMENT) <= mpp <= rough.high * (1 + AGREEMENT):
        notes.append(
            ScaleNote(
                f"{name} would mean {rough.likely:.4g} um per pixel; versions write circles of different size, so it "
                "does not decide"
            )
        )
    else:
        doubts.append(
            ScaleNote(
                f"{name} would mean {rough.low:.4g} to {rough.high:.4g} um per pixel, not {mpp:.4g}: are the scale "
                "factors of another image or sample?",
                "look at the close-up of the overlay",
                doubtful=True,
            )
        )


def _mpp_sources(
    stated: StatedScale,
    hints: ScaleHints,
    slide_mpp: Mapping[str, float],
    lattice: Lattice | None,
    pitch_um: float | None,
    notes: list[ScaleNote],
) -> dict[str, float]:
    sources: dict[str, float] = {}
    if stated.mpp is not None:
        sources["manifest column mpp"] = stated.mpp
    for tag, value in slide_mpp.items():
        if hints.trust_slide_mpp:
            sources[f"slide tag {tag}"] = value
        else:
            notes.append(
                ScaleNote(
                    f"slide tag {tag} says {value:.4g} um/px; not used, slides of this collection carry wrong tags"
                )
            )
    sources.update(hints.mpp)
    if pitch_um is not None and lattice is not None:
        if lattice.stretch > _MOST_STRETCH:
            notes.append(
                ScaleNote(
                    f"the two directions of the spot lattice differ by {100 * (lattice.stretch - 1):.1f} %: "
                    "the image may be stretched",
                    doubtful=True,
                )
            )
        name = f"spot pitch ({pitch_um:g} um = {lattice.pitch_px:.5g} px)"
        sources[name] = pitch_um / lattice.pitch_px
    elif pitch_um is not None:
        notes.append(
            ScaleNote(
                f"the positions form no regular lattice, so the pitch of {pitch_um:g} um says nothing about mpp"
            )
        )
    if hints.spot_diameter_px0 is not None and hints.spot_diameter_um is not None:
        name = f"spot diameter ({hints.spot_diameter_um:g} um = {hints.spot_diameter_px0:.5g} px)"
        sources[name] = hints.spot_diameter_um / hints.spot_diameter_px0
    return sources


def _agreed(
    what: str, unit: str, manifest: float | None, files: float | None, section: str | None
) -> float | None:
    if manifest is not None and files is not None and not _agree([manifest, files]):
        raise GeometryError(
            expected=f"one {what}",
            found=f"{manifest:g} {unit} in the manifest and {files:g} {unit} in the spot files",
            remedy=f"correct or empty the manifest's column {what.replace(' ', '_')}_{unit}",
            section=section,
        )
    return manifest if manifest is not None else files


def _agree(values: list[float]) -> bool:
    return max(values) <= min(values) * (1 + AGREEMENT)


def _check_plausible(sources: Mapping[str, float], section: str | None) -> None:
    low, high = _PLAUSIBLE_MPP
    for name, value in sources.items():
        if not (np.isfinite(value) and low <= value <= high):
            raise GeometryError(
                expected=f"{low:g} to {high:g} microns per pixel",
                found=f"{value:.4g} from {name}",
                remedy="correct it",
                section=section,
            )


def _check_agreement(sources: Mapping[str, float], section: str | None) -> None:
    if _agree(list(sources.values())):
        return
    named = ", ".join(f"{name}: {value:.4g}" for name, value in sources.items())
    ratio = max(sources.values()) / min(sources.values())
    raise GeometryError(
        expected=f"all sources of microns per pixel to agree within {100 * AGREEMENT:.0f} %",
        found=f"{named} (they differ {ratio:.3g}-fold)",
        remedy=(
            "correct the wrong one: is the image a down-scaled copy, are the positions in pixels of "
            "another image, or is a manifest value wrong? (where you know better than all others: "
            "mpp in the manifest and --accept mpp)"
        ),
        section=section,
    )


def _nothing_known(
    lattice: Lattice | None, pitch_um: float | None, section: str | None
) -> GeometryError:
    if pitch_um is not None:
        return GeometryError(
            expected=f"spots on a regular lattice to turn the pitch of {pitch_um:g} um into microns per pixel",
            found="positions without one, and no other source",
            remedy="set mpp in the manifest",
            section=section,
        )
    found = f" (neighbouring spots are {lattice.pitch_px:.4g} px apart)" if lattice else ""
    return GeometryError(
        expected="microns per pixel from the manifest, the slide's tags or the spot files",
        found=f"none{found}",
        remedy=(
            "set mpp (microns per pixel of the full image) or spot_pitch_um (microns between "
            "neighbouring spots, for example 100 for Visium, 200 for legacy ST) in the manifest"
        ),
        section=section,
    )


def _measured_pitch(
    xy_px0: npt.NDArray[np.float64], lattice: Lattice | None, mpp: float, notes: list[ScaleNote]
) -> float:
    if lattice is not None:
        pitch_um = lattice.pitch_px * mpp
        notes.append(ScaleNote(f"spot pitch measured from the positions: {pitch_um:.4g} um"))
        return pitch_um
    if len(xy_px0) < 2:
        raise GeometryError(
            expected="spot_pitch_um in the manifest for a section of a single spot", found="none"
        )
    from scipy.spatial import cKDTree

    nearest = cKDTree(xy_px0).query(xy_px0, k=2)[0][:, 1]
    pitch_um = float(np.median(nearest)) * mpp
    notes.append(
        ScaleNote(
            f"the spots lie on no lattice: the median distance of neighbours, {pitch_um:.4g} um, is taken as pitch"
        )
    )
    return pitch_um
