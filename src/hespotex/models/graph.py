"""Spot positions to edges between spots.

An edge_index is an int64 array (2, E): row 0 the source j, row 1 the target i, a message runs
j -> i. Edges are unique and sorted by target, then source, so equal graphs are equal arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from hespotex.errors import GeometryError

Edges = npt.NDArray[np.int64]

_TIE = 1e-9  # relative difference below which two distances count as equal


def knn_edges(
    xy: npt.ArrayLike, neighbours: int, *, self_loops: bool = False, undirected: bool = False
) -> Edges:
    """Edges to every spot from its nearest other spots.

    Lattices are full of equal distances. Of equally far spots those with the smaller (x, y) are
    taken, so the result does not depend on the order of the spots.

    Args:
        xy: positions (n, 2), any unit.
        neighbours: number of nearest spots, the spot itself not counted; all others if fewer exist.
        self_loops: add i -> i.
        undirected: add j -> i wherever i -> j is.

    Returns:
        edge_index (2, E).
    """
    points = _points(xy)
    if neighbours < 0:
        raise GeometryError(
            f"neighbours must be 0 or more, found {neighbours}: set a count of spots"
        )
    n = len(points)
    k = min(neighbours, n - 1)
    source, target = _nearest(points, k) if k > 0 else (np.zeros(0, int), np.zeros(0, int))
    return _finish(source, target, n, self_loops=self_loops, undirected=undirected)


def published_gate_edges(xy: npt.ArrayLike, query: int = 8) -> Edges:
    """Graph of the published GATE: a query of `query` spots that counts the spot itself.

    The spot and its `query - 1` nearest, made undirected (docs/design/method.md, "GATE").
    """
    return knn_edges(xy, query - 1, self_loops=True, undirected=True)


def published_decoder_edges(xy: npt.ArrayLike) -> Edges:
    """Graph of the published decoder: the 4 nearest, directed, no self-loop (docs/design/method.md, "Graph decoder")."""
    return knn_edges(xy, 4)


def join_edges(graphs: Sequence[Edges], sizes: Sequence[int]) -> Edges:
    """One graph of several sections side by side, without an edge between them.

    Args:
        graphs: edge_index of each section.
        sizes: its number of spots.
    """
    if len(graphs) != len(sizes):
        raise GeometryError(f"{len(graphs)} graphs and {len(sizes)} sizes: give one size per graph")
    starts = np.cumsum([0, *sizes[:-1]])
    shifted = [np.asarray(g, np.int64) + s for g, s in zip(graphs, starts, strict=True)]
    return np.concatenate([np.zeros((2, 0), np.int64), *shifted], axis=1)


def _points(xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    points = np.asarray(xy, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise GeometryError(
            f"positions must be of shape (n, 2), found {points.shape}: give x, y a spot"
        )
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise GeometryError(
            f"positions must be finite, found {points[bad].tolist()} at spot {bad}: drop or mend it"
        )
    return points


class Neighbours:
    """The nearest others of some spots of a large graph, found when they are asked for.

    They are those of `knn_edges`, whose array would hold every edge of the slide.

    Args:
        xy: positions (n, 2), any unit.
        neighbours: number of nearest spots, the spot itself not counted.
    """

    def __init__(self, xy: npt.ArrayLike, neighbours: int) -> None:
        self._points = _points(xy)
        self._tree = cKDTree(self._points)
        self._k = min(neighbours, len(self._points) - 1)

    def of(self, spots: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """All spots that send a message to one of these, ascending."""
        if self._k <= 0 or not len(spots):
            return np.zeros(0, np.intp)
        return np.unique(_nearest(self._points, self._k, self._tree, spots)[0]).astype(np.intp)


def _nearest(
    points: npt.NDArray[np.float64],
    k: int,
    tree: cKDTree | None = None,
    rows: npt.NDArray[np.intp] | None = None,
) -> tuple[npt.NDArray[np.int64], ...]:
    """Source and target of the k nearest others of each point (or of `rows`), ties by (x, y)."""
    n = len(points)
    tree = cKDTree(points) if tree is None else tree
    rows = np.arange(n) if rows is None else rows
    width = min(n, k + 14)  # rings of square and hexagonal lattices have at most 12 members
    while True:
        distance, index = tree.query(points[rows], k=width)
        target = np.broadcast_to(rows[:, None], index.shape)
        # The spot itself comes last, whatever shares its place.
        distance = np.where(index == target, np.inf, distance)
        order = np.argsort(distance, axis=1, kind="stable")
        distance = np.take_along_axis(distance, order, axis=1)
        index = np.take_along_axis(index, order, axis=1)
        limit = distance[:, k - 1 : k]
        last = np.where(np.isfinite(distance), distance, -np.inf).max(axis=1, keepdims=True)
        if width == n or bool((last > limit * (1 + _TIE)).all()):
            break
        width = min(n, 2 * width)
    rank = np.where(distance < limit * (1 - _TIE), 0, 1)
    rank = np.where(distance > limit * (1 + _TIE), 2, rank)
    x, y = points[index, 0], points[index, 1]
    chosen = np.take_along_axis(index, np.lexsort((y, x, rank), axis=1)[:, :k], axis=1)
    return chosen.ravel().astype(np.int64), np.repeat(rows.astype(np.int64), k)


def _finish(
    source: npt.NDArray[np.int64],
    target: npt.NDArray[np.int64],
    n: int,
    *,
    self_loops: bool,
    undirected: bool,
) -> Edges:
    """Make edges unique and sorted by (target, source)."""
    if undirected:
        source, target = np.concatenate([source, target]), np.concatenate([target, source])
    if self_loops:
        own = np.arange(n)
        source, target = np.concatenate([source, own]), np.concatenate([target, own])
    key = np.unique(target.astype(np.int64) * n + source)
    return np.stack([key % max(n, 1), key // max(n, 1)]).astype(np.int64)
