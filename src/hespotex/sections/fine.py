"""Bins of a fine lattice, summed into squares that hold enough counts to be fitted on and scored.

A bin of 16 um holds some dozens of counts: of one gene mostly noise, and its patches overlap its neighbours' almost
wholly. So bins are summed into squares of 2 x 2, 4 x 4, ... of them. The rule looks at one section alone: nothing of a
held-out section decides how others are fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.config import PoolingConfig
from hespotex.errors import SpotTableError
from hespotex.progress import Reporter
from hespotex.sections.section import Section

Floats = npt.NDArray[np.float64]

# Finer lattices are summed before a fit: no printed array is finer, no lattice of bins coarser. A bare slide's map is fine
# up to here: neighbours are closer than the spots of Visium are wide (55 um), and it is looked at as an image.
FINE_UM: Final = 50.0
# Squares are doubled until they hold so many counts in the median, or are so wide: wider ones lost more than noise costs,
# however shallow the bins (docs/design/area.md), ...
LEAST_COUNTS: Final = 500.0
WIDEST_FOR_COUNTS_UM: Final = 64.0
# ... and until there are so few: a fit rests on 8,192 spots at most, and the features of more only fill the memory.
MOST_SQUARES: Final = 16_384
# No square is larger than this, whatever the rule asks for.
WIDEST_UM: Final = 128.0
# None is smaller: the rate of false discoveries of the spatial null was simulated down to here (docs/trust.md).
FINEST_UM: Final = 16.0
# A square with fewer than half as many bins as the fullest tenth has lies at a rim, and is left out.
_LEAST_FILLED: Final = 0.5
_FULL: Final = 0.9
# How far, in pitches, a bin may lie from the place that its row and column give it.
_OFF_LATTICE: Final = 0.1


@dataclass(frozen=True)
class Squares:
    """Bins of a section in squares of one size; m squares.

    Attributes:
        section: the squares as spots.
        member: (n,) square of each bin; -1 where it lies in none.
    """

    section: Section
    member: npt.NDArray[np.intp]


def fitted_squares(section: Section, side_um: float | None = None) -> Section:
    """The section as a model is fitted on it and scored on it: as it is, or as squares that know their bins.

    A square may be a single bin, which then stays what it is.

    Squares are of 2^k x 2^k bins, the smallest that hold `LEAST_COUNTS` in the median or are
    `WIDEST_FOR_COUNTS_UM` wide, and that are at most `MOST_SQUARES`; none is narrower than `FINEST_UM` or wider than
    `WIDEST_UM`. Sections of a coarser lattice, without counts, or with given features stay.

    Args:
        side_um: of the squares; None: by that rule. At most the pitch: bins stay.

    Raises:
        SpotTableError: the side is no multiple of the lattice's pitch, or less than `FINEST_UM`.
    """
    pitch = section.geometry.spot_pitch_um
    if section.counts is None or section.features_file is not None or pitch >= FINE_UM:
        return section
    if side_um is None:
        side_um = _side_by_rule(section)
    elif abs(side_um / pitch - round(side_um / pitch)) > 0.01 and side_um > pitch:
        raise SpotTableError(
            expected=f"pooling.side_um as a multiple of the lattice's {pitch:g} um",
            found=f"{side_um:g}",
            section=section.section_id,
        )
    if max(side_um, pitch) < 0.99 * FINEST_UM:
        raise SpotTableError(
            expected=f"pooling.side_um of at least {FINEST_UM:g}, since the spatial null was shown to hold for no finer squares",
            found=f"{side_um:g}, where bins are {pitch:g} um apart",
            remedy="leave pooling.side_um out",
            section=section.section_id,
        )
    if side_um < 1.5 * pitch:
        return replace(section, bins=section)
    return replace(squares(section, side_um).section, bins=section)


def in_squares(
    sections: Sequence[Section], config: PoolingConfig, reporter: Reporter
) -> tuple[Section, ...]:
    """`fitted_squares` of every section, and a sentence on each that was summed.

    Raises:
        SpotTableError: as of `fitted_squares`.
    """
    found = tuple(fitted_squares(section, config.side_um) for section in sections)
    for section in found:
        if section.bins is not None and section.bins.n_spots > section.n_spots:
            reporter.say(
                f"section {section.section_id}: {section.bins.n_spots:,} spots "
                f"{section.bins.geometry.spot_pitch_um:g} um apart are fitted on and scored as {section.n_spots:,} "
                f"squares of {section.geometry.spot_pitch_um:g} um ({_median_depth(section):,.0f} counts in the median)"
            )
    return found


def null_holds(section: Section) -> bool:
    """Whether its spots are no closer than the null's rate of false discoveries was simulated for."""
    return section.geometry.spot_pitch_um >= 0.99 * FINEST_UM


def sizes_of(bins: Section) -> Iterator[float]:
    """Sides in microns of the squares that a section of bins is scored at: its pitch, doubled up to `WIDEST_UM`."""
    size = bins.geometry.spot_pitch_um
    while size <= WIDEST_UM * 1.01:
        yield size
        size *= 2


def own_squares(section: Section) -> Squares:
    """A section of `fitted_squares` with the square of each of its bins.

    Raises:
        SpotTableError: its spots are no squares of fine bins.
    """
    if section.bins is None:
        raise SpotTableError(
            expected="squares of fine bins", found="spots", section=section.section_id
        )
    if section.bins.n_spots == section.n_spots:
        return Squares(section, np.arange(section.n_spots))
    return squares(section.bins, section.geometry.spot_pitch_um)


def squares(section: Section, side_um: float) -> Squares:
    """Sum the bins of a section into squares; those of one size lie within those of twice the size.

    A square's centre is that of its full area. Columns of the bins that differ inside the section are left out.

    Args:
        section: with counts.
        side_um: of the squares.
    """
    counts = sparse.csr_matrix(section.counts)
    place, to_px = _plane(section)
    grid = np.floor(place / side_um + 1e-6).astype(np.int64)
    corners, member, filled = np.unique(grid, axis=0, return_inverse=True, return_counts=True)
    kept = filled >= _LEAST_FILLED * np.quantile(filled, _FULL)
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    member = number[member.ravel()]
    corners, inside = corners[kept], np.flatnonzero(member >= 0)
    gather = sparse.csr_matrix(
        (np.ones(len(inside), counts.dtype), (member[inside], inside)),
        shape=(len(corners), section.n_spots),
    )
    summed = sparse.csr_matrix(gather @ counts)
    summed.sort_indices()
    names = np.array([f"{x}x{y}" for x, y in corners.tolist()])
    centres = np.hstack([(corners + 0.5) * side_um, np.ones((len(corners), 1))])
    left_out = section.n_spots - len(inside)
    return Squares(
        replace(
            section,
            barcodes=names,
            xy_px0=centres @ to_px,
            counts=summed,
            array_xy=corners.astype(np.float64),
            obs=_shared_columns(section.obs, names),
            geometry=replace(section.geometry, spot_pitch_um=side_um, spot_diameter_um=side_um),
            dropped={**section.dropped, **({"bins at a rim": left_out} if left_out else {})},
            bins=None,
        ),
        member.astype(np.intp),
    )


def _side_by_rule(section: Section) -> float:
    pitch, side = section.geometry.spot_pitch_um, section.geometry.spot_pitch_um
    while 2 * side <= WIDEST_UM * 1.01:
        found = squares(section, side).section if side > pitch else section
        deep = _median_depth(found) >= LEAST_COUNTS or 2 * side > WIDEST_FOR_COUNTS_UM * 1.01
        if null_holds(found) and deep and found.n_spots <= MOST_SQUARES:
            break
        side *= 2
    return side


def _median_depth(section: Section) -> float:
    counts = sparse.csr_matrix(section.counts)
    return float(np.median(np.asarray(counts.sum(axis=1, dtype=np.float64))))


def _plane(section: Section) -> tuple[Floats, Floats]:
    """(n, 2) places of the bins in microns along their own lattice, from a corner on, and the (3, 2) way to pixels.

    Rows and columns count where the bins lie on them at right angles, one pitch apart: a lattice is never quite parallel to
    the picture. Else the picture's own axes are taken.
    """
    pitch, mpp = section.geometry.spot_pitch_um, section.geometry.mpp
    if section.array_xy is not None:
        place = (section.array_xy - section.array_xy.min(axis=0) + 0.5) * pitch
        design = np.hstack([place, np.ones((len(place), 1))])
        to_px, *_ = np.linalg.lstsq(design, section.xy_px0, rcond=None)
        off = np.abs(design @ to_px - section.xy_px0).max() * mpp / pitch
        steps = to_px[:2] * mpp
        right = np.abs(steps @ steps.T - np.eye(2)).max() < _OFF_LATTICE
        if off < _OFF_LATTICE and right:
            return place, to_px
    corner = section.xy_um.min(axis=0) - pitch / 2
    return section.xy_um - corner, np.vstack([np.eye(2), corner]) / mpp


def _shared_columns(obs: pd.DataFrame | None, names: npt.NDArray[np.str_]) -> pd.DataFrame | None:
    """Columns with one value in the whole section: what differs between bins is said of no square."""
    if obs is None:
        return None
    same = [name for name in obs.columns if obs[name].nunique(dropna=False) == 1]
    first = obs[same].iloc[np.zeros(len(names), np.intp)]
    return first.set_axis(pd.Index(names.astype(object)), axis=0) if same else None
