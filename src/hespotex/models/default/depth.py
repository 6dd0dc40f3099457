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
    x = [np.asarray(part, np.float64) * weight for part in inputs]
    left_out = _left_out(x, centred, xy_um, section_ids, patient_ids, penalty)
    coefficients = _ridge(np.concatenate(x), np.concatenate(centred), penalty)
    return DepthRidge(
        (weight * coefficients).astype(np.float32),
        float(np.sqrt(np.mean(np.square(left_out)))),
        float(np.std(np.concatenate(centred))),
    )


def _left_out(
    x: Sequence[Float64],
    y: Sequence[Float64],
    xy_um: Sequence[Float64],
    section_ids: Sequence[str],
    patient_ids: Sequence[str],
    penalty: float,
) -> Float64:
    """Errors on the spots that were left out; the target's own deviations where nothing can be left out."""
    errors = []
    if len(x) > 1:
        place = {name: i for i, name in enumerate(section_ids)}
        for fold in inner_folds(section_ids, patient_ids):
            train, held = ([place[i] for i in ids] for ids in (fold.train, fold.held_out))
            beta = _ridge(
                np.concatenate([x[i] for i in train]),
                np.concatenate([y[i] for i in train]),
                penalty,
            )
            errors += [y[i] - x[i] @ beta for i in held]
    elif len(y[0]) >= 8 * _BLOCKS:
        for block in spatial_blocks(xy_um[0], _BLOCKS, 0.0):
            beta = _ridge(x[0][block.train], y[0][block.train], penalty)
            errors.append(y[0][block.held_out] - x[0][block.held_out] @ beta)
    return np.concatenate(errors or list(y))


def _ridge(x: Float64, y: Float64, penalty: float) -> Float64:
    gram = x.T @ x + penalty * np.eye(x.shape[1])
    return np.asarray(np.linalg.solve(gram, x.T @ y), np.float64)
