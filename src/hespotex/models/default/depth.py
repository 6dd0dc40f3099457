"""The linear part of predicted depth: ridge on the inputs, its error by inner folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hespotex.sections.splits import inner_folds, spatial_blocks

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

_BLOCKS = 4


@dataclass(frozen=True)
class DepthRidge:
    """log(1 + total) over its section's mean = inputs @ coefficients.

    Attributes:
        coefficients: (K,).
        residual_sd: standard deviation of what is left in sections (or blocks) that were left out.
        target_sd: standard deviation of the target itself.
    """

    coefficients: Float32
    residual_sd: float
    target_sd: float


def fit_depth(
    inputs: Sequence[Float32],
    centred: Sequence[Float64],
    xy_um: Sequence[Float64],
    section_ids: Sequence[str],
    patient_ids: Sequence[str],
    variance_share: Float64,
    penalty: float,
) -> DepthRidge:
    """Ridge in the coordinates of the standardised features, where a component counts by its variance.

    Args:
        inputs: (n_i, K) whitened inputs of each section.
        centred: (n_i,) log(1 + total) minus its mean over the section.
        xy_um: (n_i, 2), for spatial blocks where there is one section.
        section_ids, patient_ids: who is left out with whom.
        variance_share: (K,) share of the features' variance along each input.
        penalty: of the squared coefficients, in spots.
    """
    weight = np.sqrt(variance_share)
    moments = [_Moments.of(part, y, weight) for part, y in zip(inputs, centred, strict=True)]
    left_out = _left_out(inputs, centred, moments, xy_um, section_ids, patient_ids, weight, penalty)
    coefficients = _ridge(moments, penalty)
    return DepthRidge(
        (weight * coefficients).astype(np.float32),
        float(np.sqrt(np.mean(np.square(left_out)))),
        float(np.std(np.concatenate(centred))),
    )


@dataclass(frozen=True)
class _Moments:
    """What ridge needs of a section: x' x, (K, K), and x' y, (K,), of its weighted inputs."""

    square: Float64
    moved: Float64

    @classmethod
    def of(cls, inputs: Float32, y: Float64, weight: Float64) -> _Moments:
        x = np.asarray(inputs, np.float64) * weight
        return cls(x.T @ x, x.T @ y)


def _left_out(
    inputs: Sequence[Float32],
    y: Sequence[Float64],
    moments: Sequence[_Moments],
    xy_um: Sequence[Float64],
    section_ids: Sequence[str],
    patient_ids: Sequence[str],
    weight: Float64,
    penalty: float,
) -> Float64:
    """Errors on the spots that were left out; the target's own deviations where nothing can be left out."""
    errors = []
    if len(inputs) > 1:
        place = {name: i for i, name in enumerate(section_ids)}
        for fold in inner_folds(section_ids, patient_ids):
            train, held = ([place[i] for i in ids] for ids in (fold.train, fold.held_out))
            beta = weight * _ridge([moments[i] for i in train], penalty)
            errors += [y[i] - inputs[i] @ beta for i in held]
    elif len(y[0]) >= 8 * _BLOCKS:
        for block in spatial_blocks(xy_um[0], _BLOCKS, 0.0):
            known = _Moments.of(inputs[0][block.train], y[0][block.train], weight)
            beta = weight * _ridge([known], penalty)
            errors.append(y[0][block.held_out] - inputs[0][block.held_out] @ beta)
    return np.concatenate(errors or list(y))


def _ridge(moments: Sequence[_Moments], penalty: float) -> Float64:
    square, moved = penalty * np.eye(len(moments[0].moved)), np.zeros(len(moments[0].moved))
    for section in moments:
        square += section.square
        moved += section.moved
    return np.asarray(np.linalg.solve(square, moved), np.float64)
