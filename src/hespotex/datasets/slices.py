"""Serial sections: how slices of a block are moved on their glasses, and a scene in its slice's own frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform

from hespotex.datasets.draws import Draws
from hespotex.datasets.tissue import Nuclei, Scene
from hespotex.geometry import Affine

MOST_STRETCH = 0.05
# Tissue reaches so far from the middle, in half sides of the block: the outline's corner, stretched.
_REACH = 1.1


@dataclass(frozen=True)
class Serial:
    """Slices of one block a patient, and what happened to each on its way to the glass.

    Attributes:
        z_um: depth of each slice in the block, 0 or more; as many as there are sections a patient.
        turn_degrees: each slice is turned by up to so much, either way.
        mirror_chance: each slice is mirrored with this chance.
        stretch: each slice is stretched by up to this share in some direction and shrunk across it; at most 0.05.
        shift_um: each slice lies off the middle of its glass by up to so much in x and y.
        restained: each slice has a stain of its own, else all have the patient's.

    Raises:
        ValueError: a depth is below 0, or a number is out of its range.
    """

    z_um: tuple[float, ...]
    turn_degrees: float = 0.0
    mirror_chance: float = 0.0
    stretch: float = 0.0
    shift_um: float = 0.0
    restained: bool = False

    def __post_init__(self) -> None:
        if not self.z_um or min(self.z_um) < 0:
            raise ValueError(f"expected depths of 0 um or more, found {self.z_um}")
        if not 0 <= self.stretch <= MOST_STRETCH:
            raise ValueError(f"expected a stretch of 0 to {MOST_STRETCH}, found {self.stretch}")
        if not 0 <= self.mirror_chance <= 1:
            raise ValueError(f"expected a chance of 0 to 1, found {self.mirror_chance}")
        if min(self.turn_degrees, self.shift_um) < 0:
            raise ValueError("expected a turn and a shift of 0 or more")

    @property
    def moves(self) -> bool:
        """Whether any slice is moved."""
        return any((self.turn_degrees, self.mirror_chance, self.stretch, self.shift_um))

    def canvas_um(self, side_um: float) -> float:
        """Side of a slice's image: where slices are moved it holds the tissue in any position."""
        return side_um * _REACH + 2 * self.shift_um if self.moves else side_um

    def draw_move(self, rng: Draws, side_um: float) -> Affine:
        """From the block's microns to those of one slice."""
        turn = rng.uniform(-self.turn_degrees, self.turn_degrees)
        mirror = -1.0 if rng.random() < self.mirror_chance else 1.0
        along, share = rng.uniform(0, 180), rng.uniform(-self.stretch, self.stretch)
        shift = rng.uniform(-self.shift_um, self.shift_um, size=2)
        stretch = Affine.turn(along) @ Affine.of(np.diag([1 + share, 1 - share]))
        linear = Affine.turn(turn) @ Affine.of(np.diag([mirror, 1.0]))
        linear = linear @ stretch @ Affine.turn(-along)
        if not self.moves:
            return Affine()
        middle = self.canvas_um(side_um) / 2
        placed = Affine.of(np.eye(2), shift + middle) @ linear
        return placed @ Affine.of(np.eye(2), (-side_um / 2, -side_um / 2))


def moved(scene: Scene, to_slice: Affine, side_um: float) -> Scene:
    """A scene as it lies on its glass; the shapes of nuclei move with their centres.

    The block's border is glass everywhere, and so is what lies beyond it.

    Args:
        scene: in the block's frame.
        to_slice: from the block's microns to the slice's.
        side_um: of the slice's image.
    """
    if to_slice == Affine():
        return scene
    back, size = to_slice.inverse(), round(side_um / scene.mpp)

    def warp(field: npt.NDArray[Any], order: int) -> npt.NDArray[Any]:
        # Rows and columns of pixel centres: y before x, half a pixel off.
        matrix = back.linear[::-1, ::-1]
        offset = back.shift[::-1] / scene.mpp + matrix @ np.full(2, 0.5) - 0.5
        found = affine_transform(
            field, matrix, offset, output_shape=(size, size), order=order, mode="nearest"
        )
        return np.asarray(found, dtype=field.dtype)

    return replace(
        scene,
        outline=warp(scene.outline.astype(np.uint8), 0).astype(bool),
        tissue=warp(scene.tissue, 0),
        fibre=warp(scene.fibre, 1),
        empty=warp(scene.empty, 1),
        gland_wall=warp(scene.gland_wall, 1),
        nuclei=_moved_nuclei(scene.nuclei, to_slice),
    )


def _moved_nuclei(nuclei: Nuclei, affine: Affine) -> Nuclei:
    axis = np.stack([np.cos(nuclei.angle), np.sin(nuclei.angle)], axis=1) @ affine.linear.T
    along = np.linalg.norm(axis, axis=1)
    across = abs(float(np.linalg.det(affine.linear))) / along
    return Nuclei(
        affine(nuclei.xy_um),
        nuclei.tissue,
        np.arctan2(axis[:, 1], axis[:, 0]),
        nuclei.half_axes_um * np.stack([along, across], axis=1),
    )
