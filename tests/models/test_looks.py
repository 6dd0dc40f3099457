"""The look of a slide: directions of tissue are the derivative of the shape, and a scanner lies mostly outside of them."""

from __future__ import annotations

import numpy as np
import pytest

from hespotex.models.default.looks import directions_of, shape_of, tissue_moves
from hespotex.models.preprocessing import FeatureStats, feature_stats


def _weighed(features: np.ndarray, weight: np.ndarray) -> FeatureStats:
    weight = weight / weight.sum()
    mean = np.einsum("n,nsd->sd", weight, features)
    deviation = features - mean
    std = np.sqrt(np.einsum("n,nsd->sd", weight, deviation**2))
    return FeatureStats(mean, std, skew=np.einsum("n,nsd->sd", weight, deviation**3) / std**3)


def test_moves_are_the_derivative_of_the_shape_by_the_weight_of_its_spots():
    rng = np.random.default_rng(0)
    features = rng.gamma(2.0, size=(700, 2, 5)).astype(np.float32)
    inputs = (features.reshape(700, 10) @ rng.normal(size=(10, 3))).astype(np.float32)
    stats = feature_stats(features)
    moves = tissue_moves(features, stats, inputs)
    z = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    for k in range(3):
        more, less = (
            shape_of(_weighed(features.astype(np.float64), np.exp(t * z[:, k])), stats.std)
            for t in (1e-4, -1e-4)
        )
        np.testing.assert_allclose(moves[k], (more - less) / 2e-4, atol=2e-3)
    assert not moves[3:].any()


def test_a_constant_feature_and_a_constant_input_move_nothing():
    features = np.random.default_rng(0).normal(size=(60, 1, 4)).astype(np.float32)
    features[..., 2] = 3.0
    inputs = np.column_stack([np.ones(60), features[:, 0, 0]]).astype(np.float32)
    moves = tissue_moves(features, feature_stats(features), inputs)
    assert not moves[0].any()
    assert not moves[:, [2, 6]].any()
    assert np.isfinite(moves).all()
    assert moves[1].any()


@pytest.mark.parametrize("with_moves", [True, False])
def test_what_tissue_moves_is_read_in_full_and_what_it_does_not_only_in_part(with_moves: bool):
    rng = np.random.default_rng(1)
    size, tissue, scanner = 80, np.zeros(80), np.zeros(80)
    tissue[:8], scanner[30:50] = 1.0, 1.0
    moves = [np.outer(rng.normal(1, 0.1, 12), tissue) for _ in range(9)]
    amount, of_scanner = rng.normal(size=(2, 12, 1))
    shapes = amount * tissue + 2 * of_scanner * scanner + 0.01 * rng.normal(size=(12, size))
    shapes -= shapes.mean(axis=0)
    looks = shapes @ directions_of(shapes, moves if with_moves else []).T
    told, hidden = (np.square(looks - _without(looks, a)).sum() for a in (amount, of_scanner))
    assert told > 3 * hidden if with_moves else told < hidden


def _without(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    of = of - of.mean()
    return values - of @ (of.T @ values) / (of.T @ of)


def test_statistics_without_skewness_are_refused():
    stats = FeatureStats(np.zeros((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="expected skewness among the statistics of a slide"):
        shape_of(stats, np.ones((1, 2)))
    with pytest.raises(ValueError, match="expected skewness among the statistics of a slide"):
        tissue_moves(np.zeros((3, 1, 2), np.float32), stats, np.zeros((3, 1), np.float32))
