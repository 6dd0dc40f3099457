"""How the lattice of a spot array is fitted to positions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

_MOST_CENTRES = 2000
_REACH = (
    1.6,
    2.5,
    3.5,
    3.5,
)  # pitches, by round; vectors up to here are indexed with whole numbers
_TOLERANCE = 0.25  # pitches; beyond that a difference vector belongs to no node of the lattice
_LEAST_EXPLAINED = 0.6  # points without order reach 0.2 with that tolerance
_LEAST_ORDER = 0.5


@dataclass(frozen=True)
class Lattice:
    """A regular array of spots as found in the positions.

    Attributes:
        kind: square or hexagonal.
        pitch_px: distance of neighbouring centres, in the unit of the positions.
        angle_degrees: direction of an axis against x, the one nearest to x; within 45 or 30;
            0 for a single row of spots.
        explained: share of the neighbour vectors that lie on a node.
        stretch: longest over shortest axis; 1 where both axes have the same scale.
    """

    kind: Literal["square", "hexagonal"]
    pitch_px: float
    angle_degrees: float
    explained: float
    stretch: float


def fit_lattice(xy: npt.NDArray[np.float64]) -> Lattice | None:
    """Fit a square or hexagonal lattice; None if the positions follow none.

    The first guess of the pitch is a low quantile of the nearest-neighbour distances, which missing
    spots do not move; kind and direction come from the angular moments of the vectors of about that
    length; the axes then from least squares on all vectors up to 1.6, 2.5, 3.5 pitches in turn, each
    indexed with whole numbers. Vectors, not distances, are averaged: jitter makes distances too long.

    Args:
        xy: (n, 2) positions.
    """
    from scipy.spatial import cKDTree

    xy = np.unique(np.asarray(xy, dtype=np.float64), axis=0)
    if len(xy) < 4:
        return None
    tree = cKDTree(xy)
    step = max(1, len(xy) // _MOST_CENTRES)
    centres = xy[::step]
    nearest = tree.query(centres, k=2)[0][:, 1]
    pitch = float(np.quantile(nearest, 0.2))
    vectors = _vectors(tree, xy, centres, 1.3 * _REACH[-1] * pitch)
    lengths = np.hypot(*vectors.T)
    for _ in range(
        3
    ):  # jitter makes the nearest too near: the guess is lifted to the typical length
        close = vectors[(lengths > 0.75 * pitch) & (lengths < 1.25 * pitch)]
        if len(close) < 4:
            return None
        pitch = float(np.median(np.hypot(*close.T)))
    theta = np.arctan2(close[:, 1], close[:, 0])
    moments = {fold: complex(np.exp(1j * fold * theta).mean()) for fold in (4, 6)}
    fold = max(moments, key=lambda f: abs(moments[f]))
    # A single row of spots has both symmetries: it is fitted as a square lattice.
    if abs(abs(moments[4]) - abs(moments[6])) < 0.05:
        fold = 4
    if abs(moments[fold]) < _LEAST_ORDER:
        return None
    angle = float(np.angle(moments[fold])) / fold
    opening = np.pi / 2 if fold == 4 else np.pi / 3
    axes = pitch * np.array(
        [[np.cos(angle + turn), np.sin(angle + turn)] for turn in (0.0, opening)]
    )
    return _refine(vectors, axes, fold, opening)


def _vectors(
    tree: object, xy: npt.NDArray[np.float64], centres: npt.NDArray[np.float64], reach: float
) -> npt.NDArray[np.float64]:
    lists = tree.query_ball_point(centres, reach)  # type: ignore[attr-defined]
    counts = np.array([len(found) for found in lists])
    vectors: npt.NDArray[np.float64] = xy[
        np.concatenate([np.asarray(f, dtype=np.intp) for f in lists])
    ] - np.repeat(centres, counts, axis=0)
    return np.asarray(vectors[np.abs(vectors).sum(axis=1) > 0])


def _refine(
    vectors: npt.NDArray[np.float64], axes: npt.NDArray[np.float64], fold: int, opening: float
) -> Lattice | None:
    explained, all_vectors = 0.0, vectors
    for reach in _REACH:
        pitch = float(np.hypot(*axes.T).mean())
        vectors = all_vectors[np.hypot(*all_vectors.T) < reach * pitch]
        whole = np.rint(vectors @ np.linalg.inv(axes))
        off = np.hypot(*(vectors - whole @ axes).T)
        good = (off < _TOLERANCE * pitch) & (np.abs(whole).sum(axis=1) > 0)
        explained = float(good.mean())
        if explained < _LEAST_EXPLAINED or np.linalg.matrix_rank(whole[good]) == 0:
            return None
        if np.linalg.matrix_rank(whole[good]) < 2:  # one row of spots: one axis is all there is
            used = whole[good]
            length = float((np.hypot(*vectors[good].T) / np.hypot(*used.T)).mean())
            return Lattice("square", length, 0.0, explained, 1.0)
        axes = np.linalg.lstsq(whole[good], vectors[good], rcond=None)[0]
    lengths = np.hypot(*axes.T)
    if fold == 6:
        lengths = np.append(lengths, np.hypot(*(axes[0] - axes[1])))
    period = float(np.degrees(opening))
    angle = float(np.degrees(np.arctan2(axes[0, 1], axes[0, 0])))
    angle -= period * round(angle / period)
    return Lattice(
        kind="square" if fold == 4 else "hexagonal",
        pitch_px=float(lengths.mean()),
        angle_degrees=angle,
        explained=explained,
        stretch=float(lengths.max() / lengths.min()),
    )
