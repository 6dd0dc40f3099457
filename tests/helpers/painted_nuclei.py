"""Nuclei painted at known places: a slide, its label image, and squares that no centre comes near the edge of."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

MPP = 0.5
SPACING_PX, RADIUS_PX = 34, 8
GLASS, STROMA, NUCLEUS = (244, 240, 243), (226, 188, 212), (70, 55, 120)


@dataclass(frozen=True)
class Painted:
    """A picture (h, w, 3), its labels (h, w), and the (k, 2) x, y of the nuclei, in pixels of 0.5 um."""

    picture: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    centres: npt.NDArray[np.float64]


def paint_nuclei(width: int = 1020, height: int = 714, seed: int = 0) -> Painted:
    """Discs of 8 um on pink, in a jittered lattice, none touching another; glass on the left."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(
        np.arange(SPACING_PX // 2, width, SPACING_PX),
        np.arange(SPACING_PX // 2, height, SPACING_PX),
    )
    lattice = np.stack([x.ravel(), y.ravel()], axis=1)
    kept = (rng.random(len(lattice)) < 0.7) & (lattice[:, 0] > 120)
    centres = lattice[kept] + rng.integers(-6, 7, size=(kept.sum(), 2))
    picture = np.full((height, width, 3), STROMA, np.uint8)
    picture[:, :100] = GLASS
    labels = np.zeros((height, width), np.int32)
    for number, centre in enumerate(centres.tolist(), start=1):
        cv2.circle(picture, centre, RADIUS_PX, NUCLEUS, -1)
        cv2.circle(labels, centre, RADIUS_PX, number, -1)
    return Painted(picture, labels, centres.astype(np.float64))


def in_squares(
    points: npt.NDArray[np.float64], xy: npt.NDArray[np.float64], side: float
) -> npt.NDArray[np.int64]:
    """How many points lie in the square around each spot."""
    half = side / 2
    inside = (points[None] >= xy[:, None] - half) & (points[None] < xy[:, None] + half)
    return inside.all(axis=2).sum(axis=1)
