"""The look of a slide: the shape of its features' distribution over spots, read along directions in which tissue moves it; pure.

The shape is, per raw feature, the logarithm of its deviation beside the usual one, less the mean over features, and its
skewness. A stain or scanner that shifts all features of a slide, or stretches them alike, moves neither. One that bends
features, or stretches each by a factor of its own, moves both. Tissue and scanner are told apart by what happens inside a
slide, which has one scanner: let its spots weigh by exp(t z), z an input of the model. More of a tissue then counts, and
the derivative of the shape is a direction of tissue. Slides differ along these in tissue, along all others mostly not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.models.preprocessing import FeatureStats, standardise

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Inputs of largest variance that spots are weighed by; the size, beside the largest, at which half of a direction is kept; and the
# part of all variance that stays for the directions of patients that no tissue was seen to move along.
_INPUTS: Final = 12
_HALF_SIZE: Final = 0.1**0.5
_REST: Final = 0.1
_TINY: Final = 1e-6
_ROWS: Final = 256


def shape_of(stats: FeatureStats, usual: npt.NDArray[Any]) -> Float64:
    """(2 x S x D,) log deviation of every feature beside the usual one, less its mean over features, and skewness."""
    if stats.skew is None:
        raise ValueError("expected skewness among the statistics of a slide, found none")
    seen = (usual > _TINY) & (stats.std > _TINY)
    spread = np.zeros(usual.shape)
    np.log(np.divide(stats.std, usual, out=np.ones(usual.shape), where=seen), out=spread)
    if seen.any():
        spread = np.where(seen, spread - spread[seen].mean(), 0.0)
    return np.concatenate([spread.ravel(), np.where(seen, stats.skew, 0.0).ravel()])


def tissue_moves(features: Float32, stats: FeatureStats, inputs: Float32) -> Float64:
    """(12, 2 x S x D) derivative of the shape of a slide by the weight of its spots, exp(t z), at t = 0.

    With u a standardised feature and z an input of mean 0 and deviation 1, the log deviation moves by E[u2 z] / 2 and the
    skewness g by E[u3 z] - 3 E[u z] - 1.5 g E[u2 z]. Rows of 0 where there are fewer inputs.

    Args:
        features: (n, S, D) raw.
        inputs: (n, K) of the model, largest variance first.
    """
    if stats.skew is None:
        raise ValueError("expected skewness among the statistics of a slide, found none")
    z = np.asarray(inputs[:, :_INPUTS], np.float64)
    z = z - z.mean(axis=0)
    spread = z.std(axis=0)
    z = np.divide(z, spread, out=np.zeros_like(z), where=spread > _TINY)
    sums = np.zeros((3, z.shape[1], stats.std.size))
    for at in range(0, len(features), _ROWS):
        u, weight = standardise(features[at : at + _ROWS], stats), z[at : at + _ROWS].T
        power = u.copy()
        for k in range(3):
            sums[k] += weight.astype(np.float32) @ power
            power *= u
    along, square, cube = sums / max(len(features), 1)
    seen = (stats.std > _TINY).ravel()
    deviation = square / 2
    if seen.any():
        deviation = np.where(seen, deviation - deviation[:, seen].mean(axis=1, keepdims=True), 0.0)
    skew = cube - 3 * along - 1.5 * stats.skew.ravel() * square
    moves = np.zeros((_INPUTS, 2 * stats.std.size))
    moves[: z.shape[1]] = np.concatenate([deviation, skew], axis=1)
    return moves


def directions_of(shapes: Float64, moves: Sequence[Float64]) -> Float64:
    """(K, 2 x S x D) a shape less the patients' centre, times these, is a look.

    Directions of tissue come first, each the smaller the less tissue moved the shape along it; then the other directions in
    which patients differ, as a tenth of the variance. Without `moves` they are all that there is.

    Args:
        shapes: (P, 2 x S x D) of the patients, less their centre.
        moves: of each training slide.
    """
    weight = _block_weight(shapes)
    own, few = shapes * weight, max(len(shapes) - 1, 1)
    if not moves:
        return np.asarray(np.linalg.svd(own, full_matrices=False)[2][:few] * weight)
    _, size, tissue = np.linalg.svd(np.mean(moves, axis=0) * weight, full_matrices=False)
    kept = size > _TINY * max(float(size[0]), 1e-300)
    size, tissue = size[kept], tissue[kept]
    shrunk = (size**2 / (size**2 + (_HALF_SIZE * size.max(initial=0.0)) ** 2))[:, None] * tissue
    rest = own - (own @ tissue.T) @ tissue
    _, left, others = np.linalg.svd(rest, full_matrices=False)
    told, total = np.square(own @ shrunk.T).sum(), np.square(left).sum()
    # Without any tissue that moved the shape, the other directions stand as they are.
    factor = np.sqrt(_REST * told / total) if told > 0 and total > 0 else 1.0
    return np.asarray(np.concatenate([shrunk, factor * others[:few]]) * weight)


def _block_weight(shapes: Float64) -> Float64:
    """(2 x S x D,) factor that gives deviations and skewness the same say, from (P, 2 x S x D) of mean 0."""
    size = np.square(shapes).mean(axis=0).reshape(2, -1).sum(axis=1)
    factor = np.where(size > 0, 1 / np.sqrt(np.where(size > 0, size, 1.0)), 0.0)
    return np.repeat(factor, shapes.shape[1] // 2)
