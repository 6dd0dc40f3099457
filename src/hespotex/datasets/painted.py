"""A painted section as values: its picture, its spots, and what lies behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from hespotex.datasets.expression import GeneTruth
from hespotex.datasets.tissue import Points
from hespotex.datasets.truth import SectionTruth
from hespotex.geometry import SectionFrame

Lattice = Literal["square", "hexagonal"]


@dataclass(frozen=True)
class LatticeKind:
    """How an array of spots is laid out: in microns, with the scanner's pixel size.

    Attributes:
        spot_pitch_um, spot_diameter_um: of the spots.
        side_um: of the image.
        mpp: microns per pixel.
        mean_depth: geometric mean of the spots' expected totals.
    """

    spot_pitch_um: float
    spot_diameter_um: float
    side_um: float
    mpp: float
    mean_depth: float


LATTICES: Final[dict[Lattice, LatticeKind]] = {
    "square": LatticeKind(150.0, 100.0, 2600.0, 1.5, 1800.0),
    "hexagonal": LatticeKind(100.0, 55.0, 1600.0, 1.0, 1200.0),
}


@dataclass(frozen=True)
class SectionArrays:
    """One painted section.

    Attributes:
        image: (H, W, 3) uint8 RGB; (0, 0, 3) where no picture was asked for.
        mpp: microns per pixel.
        lattice: `square` or `hexagonal`.
        array_xy: (n, 2) whole numbers, place in the lattice (hexagonal: Visium's array_col, array_row).
        xy_px0: (n, 2) x, y of the spot centres in pixels.
        spot_pitch_um, spot_diameter_um: of the lattice.
        counts: (n, G) raw counts.
        truth: what each gene depends on.
        area: (n, kinds) share of the spot that each tissue covers; kinds are TISSUES, and foci where the plan has them.
        nuclei: (n, kinds) nuclei under the spot.
        share: (n, G) expected share of each gene in the spot's total.
        depth: (n,) expected total.
    """

    image: npt.NDArray[np.uint8]
    mpp: float
    lattice: Lattice
    array_xy: npt.NDArray[np.int64]
    xy_px0: Points
    spot_pitch_um: float
    spot_diameter_um: float
    counts: npt.NDArray[np.int64]
    truth: GeneTruth
    area: npt.NDArray[np.float64]
    nuclei: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]
    depth: npt.NDArray[np.float64]

    @property
    def xy_um(self) -> Points:
        """(n, 2) spot centres in microns."""
        return self.xy_px0 * self.mpp


@dataclass(frozen=True)
class PaintedSection:
    """A painted section with everything that is known of it.

    Attributes:
        section_id, patient_id: `P1S2` of `P1`.
        label: the patient's, such as a diagnosis; may be empty.
        scanner: name of the scanner that took the picture; empty where the plan has none.
        arrays: picture, spots and counts.
        frame: the section's frame; its map leads into the block that a serial plan cuts, else nowhere else.
        truth: what is expected at any point.
    """

    section_id: str
    patient_id: str
    label: str
    scanner: str
    arrays: SectionArrays
    frame: SectionFrame
    truth: SectionTruth


def lattice_points(
    kind: Lattice, pitch_um: float, side_um: float
) -> tuple[npt.NDArray[np.int64], Points]:
    """All points of a lattice whose spots lie inside the image."""
    step_y = pitch_um if kind == "square" else pitch_um * np.sqrt(3) / 2
    margin = pitch_um * 0.75
    n_rows = int((side_um - 2 * margin) / step_y) + 1
    n_columns = int((side_um - 2 * margin - pitch_um / 2) / pitch_um) + 1
    row, column = np.divmod(np.arange(n_rows * n_columns), n_columns)
    array_x = column if kind == "square" else 2 * column + row % 2
    step_x = pitch_um if kind == "square" else pitch_um / 2
    xy_um = np.stack([margin + array_x * step_x, margin + row * step_y], axis=1)
    return np.stack([array_x, row], axis=1), xy_um
