"""Raw encoder features to the inputs of the image networks.

Standardising uses the section's own image and nothing of its expression, so it is done anew for
every section that is predicted. What is fitted (on training sections) is the projection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import ModelFileError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_FIT_SPOTS = 8192  # spots that the projection is fitted on, at most; drawn evenly from the sections
_ROWS = 128
_STATS_ROWS = 64  # small enough for the cache of a core
_TINY = 1e-6
_SMALLEST_SHARE = 1e-3  # of the largest deviation, that a component must have
_LEAST_FACTOR = 1e-3


@dataclass(frozen=True)
class FeatureStats:
    """Mean and standard deviation of every raw feature over the spots of one section or slide.

    Attributes:
        mean: (S, D).
        std: (S, D), population standard deviation; 0 for a constant feature.
        nuclei: mean and standard deviation of the logarithm of the nuclei factor, if there is one.
    """

    mean: Float32
    std: Float32
    nuclei: tuple[float, float] | None = None


@dataclass(frozen=True)
class InputProjection:
    """Standardised features (n, S x D) -> inputs of the network (n, K), K uncorrelated numbers.

    Attributes:
        center: (P,) mean of the standardised training features, P = S x D.
        components: (P, K) orthonormal directions, largest variance first.
        scale: (K,) standard deviation of the training spots along each.
    """

    center: Float32
    components: Float32
    scale: Float32

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        return {
            "input.center": self.center,
            "input.components": self.components,
            "input.scale": self.scale,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> InputProjection:
        """The projection of a stored model."""
        return cls(*(np.asarray(tensors[f"input.{k}"]) for k in ("center", "components", "scale")))

    def apply(self, features: Float32, stats: FeatureStats | None = None) -> Float32:
        """Inputs of the network, (n, K), of standard deviation 1 over the training spots.

        Args:
            features: (n, S, D) raw features of ONE section or slide, or of a part of it.
            stats: of the whole section; None takes them from `features`.

        Raises:
            ModelFileError: scales or features are not those that the model was fitted with.
        """
        n, scales, dim = features.shape
        if scales * dim != len(self.center):
            raise ModelFileError(
                f"the model expects {len(self.center)} features a spot over all scales, found {scales} x {dim}: "
                "encode with the model's own encoder and patch sides"
            )
        stats = stats or feature_stats(features)
        blocks = [
            standardise(features[at : at + _ROWS], stats) @ self.components
            for at in range(0, n, _ROWS)
        ]
        projected: Float32 = np.concatenate([np.zeros((0, len(self.scale)), np.float32), *blocks])
        projected -= self.center @ self.components
        return np.asarray(projected / self.scale, np.float32)


def feature_stats(features: Float32) -> FeatureStats:
    """Mean and standard deviation over the spots, summed in float64."""
    mean = features.mean(axis=0, dtype=np.float64)
    square = np.zeros_like(mean)
    for at in range(0, len(features), _STATS_ROWS):
        square += np.square(features[at : at + _STATS_ROWS] - mean).sum(axis=0)
    return stats_of_moments(len(features), mean, square)


def stats_of_moments(n: int, mean: Float64, square: Float64) -> FeatureStats:
    """From the sum of squares of deviations from the mean over n spots."""
    return FeatureStats(mean.astype(np.float32), np.sqrt(square / max(n, 1)).astype(np.float32))


def standardise(features: Float32, stats: FeatureStats) -> Float32:
    """(n, S, D) raw -> (n, S x D) of mean 0 and standard deviation 1; a constant feature is 0."""
    with np.errstate(divide="ignore"):
        factor = np.where(stats.std > _TINY, 1 / stats.std, 0).astype(np.float32)
    values = features - stats.mean
    values *= factor
    return values.reshape(len(features), -1)


def with_nuclei(
    inputs: Float32,
    nuclei: npt.NDArray[np.float64] | None,
    stats: tuple[float, float] | None = None,
) -> Float32:
    """Inputs with the nuclei factor as one more column: its logarithm, standardised in the section.

    Args:
        inputs: (n, K).
        nuclei: (n,) factor, or None.
        stats: `nuclei_stats` of the whole section, where these are a part of it.
    """
    if nuclei is None:
        return inputs
    mean, std = stats or nuclei_stats(nuclei)
    value = (np.log(np.maximum(nuclei, _LEAST_FACTOR)) - mean) / max(std, _TINY)
    return np.concatenate([inputs, value[:, None].astype(np.float32)], axis=1)


def nuclei_stats(nuclei: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of the nuclei factor."""
    value = np.log(np.maximum(nuclei, _LEAST_FACTOR))
    return float(value.mean()), float(value.std())


def fit_projection(
    sections: Sequence[Float32],
    n_components: int,
    *,
    seed: int,
    stats: Sequence[FeatureStats] | None = None,
) -> InputProjection:
    """Principal components of the features, each section standardised by itself.

    Args:
        sections: (n_i, S, D) raw features.
        n_components: K; fewer where there are fewer spots or features, or where they vary in fewer ways.
        seed: of the drawing of spots and of the randomised decomposition.
        stats: `feature_stats` of each section, where they are known.
    """
    from sklearn.utils.extmath import randomized_svd

    rng = np.random.default_rng(seed)
    share = min(1.0, _FIT_SPOTS / sum(len(f) for f in sections))
    parts = []
    for features, own in zip(sections, stats or map(feature_stats, sections), strict=True):
        rows = np.arange(len(features))
        if share < 1:
            drawn = min(len(rows), max(2, round(share * len(rows))))
            rows = np.sort(rng.choice(rows, drawn, replace=False))
        parts.append(standardise(features[rows], own))
    x = np.concatenate(parts)
    center = x.mean(axis=0)
    x -= center
    k = min(n_components, len(x) - 1, x.shape[1])
    _, values, directions = randomized_svd(x, k, n_iter=7, random_state=seed)
    # Every section is centred by itself, so with few spots the last directions hold only rounding.
    kept = values >= _SMALLEST_SHARE * values[0]
    values, directions = values[kept], directions[kept]
    scale = np.maximum(values / np.sqrt(len(x)), _TINY)
    return InputProjection(
        center.astype(np.float32), directions.T.astype(np.float32), scale.astype(np.float32)
    )
