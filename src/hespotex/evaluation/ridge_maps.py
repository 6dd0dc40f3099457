"""Ridge's maps of a section, kept beside the model's as factors: a few numbers a spot and a few a gene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.evaluation.baselines import RidgeBaseline, stored_ridge

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RidgeMaps:
    """What the ridge baseline says of n spots and G genes: `spots @ genes.T`.

    The tables of 280 spots x 10,000 genes on two scales would take 22 MB, the factors take 5; of 200,000 spots x 2,000
    genes 3.2 GB and 53 MB.

    Attributes:
        spots: (n, K + 1) principal components of the features; the last column is 1.
        log1p, composition: (G, K + 1) coefficients and intercept.
    """

    spots: Floats
    log1p: Floats
    composition: Floats


def ridge_maps(
    arrays: Mapping[str, npt.NDArray[Any]], features: npt.NDArray[np.float32]
) -> RidgeMaps | None:
    """Maps by the ridge of a model file; None where the model has none.

    Args:
        arrays: `trust` of a bundle.
        features: (n, S, D) of the whole section, which they are standardised over.
    """
    ridge = stored_ridge(arrays)
    return None if ridge is None else RidgeMaps(*_factors(ridge, features))


def _factors(ridge: RidgeBaseline, features: npt.NDArray[np.float32]) -> tuple[Floats, ...]:
    spots = ridge.project(features)
    intercepts = ridge.intercepts + np.stack([ridge.train_mean, np.zeros_like(ridge.train_mean)])
    genes = (
        np.column_stack([ridge.coefficients[k].T, intercepts[k]]).astype(np.float32) for k in (0, 1)
    )
    return np.column_stack([spots, np.ones(len(spots))]).astype(np.float32), *genes
