"""The bend that remains after the affine map of two sections: searched from either side, used where both sides agree that it is there.

Tissue is warped on its glass, and B-splines can follow it. They also follow what two slices differ in, and then move tissue
that lay right. Searched from A to B and from B to A, a true warp gives one map, and what is made up gives two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hespotex.analysis.itk_search import searched_bend
from hespotex.analysis.section_picture import Picture
from hespotex.errors import GeometryError
from hespotex.geometry import Affine, Bend

# Fields of B-splines along the longer side of tissue and rim.
_MESH: Final = 4
# The two searches may differ by this part of what they move (root mean squares): found in docs/agree.md.
MOST_APART: Final = 1 / 3
# Detail must come nearer to 1 by this part of what it lacks.
LEAST_GAIN: Final = 0.05
# Tissue may move by this part of its size (the root of its area).
MOST_MOVED: Final = 0.1


@dataclass(frozen=True)
class Bending:
    """What was found of a bend.

    Attributes:
        moved_um: by how much it moves tissue, root mean square; NaN where none was found.
        most_um: the most.
        apart_um: how far apart the searches from either side lay a point, root mean square.
        detail: correlation of detail with it.
        refusal: why it is not used; empty where it is.
    """

    moved_um: float
    most_um: float
    apart_um: float
    detail: float
    refusal: str

    @property
    def brief(self) -> str:
        """Whether tissue is bent, and by how much."""
        return "not bent" if self.refusal else f"bent by {self.moved_um:.0f} um"

    @property
    def said(self) -> str:
        """In words, for a page."""
        if self.refusal:
            return f"not bent: {self.refusal}"
        return (
            f"bent by {self.moved_um:.0f} um (root mean square; {self.most_um:.0f} um at most; another search lies "
            f"{self.apart_um:.0f} um elsewhere), correlation of detail then {self.detail:.2f}"
        )


NONE_FOUND: Final = Bending(*(float("nan"),) * 4, refusal="tissue would fold")


def as_columns(found: Bending | None) -> dict[str, float | str]:
    """For the table of pairs; `bend_refused` is empty where the bend is used, and where none was looked for."""
    said = found or replace(NONE_FOUND, refusal="")
    return {
        "bend_um": said.moved_um,
        "bend_most_um": said.most_um,
        "bend_apart_um": said.apart_um,
        "bend_detail": said.detail,
        "bend_refused": said.refusal,
    }


def searched_from_both(
    fixed: Picture, moving: Picture, affine: Affine
) -> tuple[Bend, float, float, float] | None:
    """A bend after the affine map; root mean square and most of what it moves tissue by, and how far from it the other search lies.

    None where a map would fold tissue.
    """
    try:
        back = searched_bend(fixed, moving, affine, _MESH)
        other = searched_bend(moving, fixed, affine.inverse(), _MESH)
        size = np.array(back.moved_um.shape[1::-1]) - 1
        lower = np.array(back.origin_um)
        bend = Bend.of(back.inverse(), lower, lower + size * back.step_um, back.step_um)
    except GeometryError:
        return None
    rows, columns = np.nonzero(moving.tissue[::3, ::3])
    points = (np.stack([columns, rows], axis=1) * 3 + 0.5) * moving.um_per_px
    laid = affine(points)
    moved = np.linalg.norm(bend.moved(laid), axis=1)
    apart = np.linalg.norm(bend(laid) - affine(other(points)), axis=1)
    return bend, _rms(moved), float(moved.max()), _rms(apart)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def judged(
    moved_um: float, most_um: float, apart_um: float, before: float, detail: float, size_um: float
) -> Bending:
    """Whether a bend is used.

    Args:
        before: correlation of detail without it.
        size_um: root of the area of the moving tissue.
    """
    refusal = ""
    if not apart_um <= MOST_APART * moved_um:
        refusal = f"it moves tissue by {moved_um:.0f} um, and by another search {apart_um:.0f} um elsewhere"
    elif not detail - before >= LEAST_GAIN * (1 - before):
        refusal = f"correlation of detail does not gain ({before:.3f} to {detail:.3f})"
    elif not most_um <= MOST_MOVED * size_um:
        refusal = f"it moves tissue by up to {most_um:.0f} um, a tenth of its size is {MOST_MOVED * size_um:.0f} um"
    return Bending(moved_um, most_um, apart_um, detail, refusal)
