"""The look of a slide: where its mean spot lies along the model's inputs, as far as tissue can account for it; pure.

Spots are inputs of the model in units of their deviation inside slides. Read with the training's mean and deviations in place of
its own, the mean spot of a slide lies somewhere along these inputs: further along one, the more of its tissue there is. Stain and
scanner move it, too. But slides are mixtures of the tissues that their spots are, so that tissue moves slides
about as far as spots, and hardly further. Where training patients differ by more, the rest is stain or scanner.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.models.preprocessing import FeatureStats, InputProjection

Float64 = npt.NDArray[np.float64]

# Inputs of largest variance that are looked along.
LOOKED: Final = 12
_TINY: Final = 1e-6


def place_of(stats: FeatureStats, centre: npt.NDArray[Any], usual: npt.NDArray[Any]) -> Float64:
    """(S x D,) mean spot of a slide, less the training's, in usual deviations; 0 for a feature that does not vary in slides."""
    away = np.asarray(stats.mean, np.float64) - centre
    place = np.divide(away, usual, out=np.zeros(away.shape), where=usual > _TINY)
    return np.asarray(place.ravel())


def directions_of(places: Float64, projection: InputProjection) -> Float64:
    """(K, S x D) a place times these is a look.

    With w the variance between patients along one of its own axes, where that of spots inside slides is 1, a look keeps min(1, 1 / w)
    of what lies along it.

    Args:
        places: (P, S x D) of the training patients, of mean 0.
        projection: of the model.
    """
    k = min(LOOKED, len(projection.scale))
    axes = (projection.components[:, :k] / projection.scale[:k]).T.astype(np.float64)
    along = places @ axes.T
    variance, turn = np.linalg.eigh(along.T @ along / max(len(places), 1))
    kept = 1 / np.maximum(variance, 1.0)
    return np.asarray((turn * kept) @ turn.T @ axes)


def within(look: Float64, farthest: float) -> Float64:
    """The look, drawn in to the distance of the farthest training slide: beyond it nobody knows what a slide holds."""
    size = float(np.linalg.norm(look))
    return look * min(1.0, farthest / size) if size > 0 else look
