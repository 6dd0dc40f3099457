"""Inputs of the network: standardised per section, projected, the same for a part as for the whole."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.default_sections import make_section
from hespotex.errors import ModelFileError
from hespotex.models import preprocessing
from hespotex.models.preprocessing import (
    InputProjection,
    feature_stats,
    fit_projection,
    standardise,
    with_nuclei,
)

FEATURES = [make_section(seed=s).section.features for s in (0, 1)]


def test_inputs_of_the_training_spots_are_uncorrelated_with_deviation_one():
    projection = fit_projection(FEATURES, 6, seed=0)
    z = np.concatenate([projection.apply(f) for f in FEATURES])
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    assert (np.diff(projection.scale) < 0).all()


def test_brightness_and_contrast_of_a_slide_do_not_matter():
    projection = fit_projection(FEATURES, 6, seed=0)
    scale = np.linspace(0.5, 3, FEATURES[0][0].size).reshape(FEATURES[0][0].shape)
    other = (FEATURES[0] * scale + 20).astype(np.float32)
    np.testing.assert_allclose(projection.apply(other), projection.apply(FEATURES[0]), atol=2e-3)


def test_a_part_with_the_whole_slides_stats_gives_the_wholes_rows(monkeypatch: pytest.MonkeyPatch):
    projection = fit_projection(FEATURES, 6, seed=0)
    whole, stats = projection.apply(FEATURES[0]), feature_stats(FEATURES[0])
    monkeypatch.setattr(preprocessing, "_ROWS", 10)
    part = projection.apply(FEATURES[0][20:50], stats)
    np.testing.assert_allclose(part, whole[20:50], atol=1e-5)


def test_a_constant_feature_is_zero_everywhere():
    features = FEATURES[0].copy()
    features[:, 1, 2] = 0.1
    flat = standardise(features, feature_stats(features))
    assert (flat[:, 5 + 2] == 0).all()
    np.testing.assert_allclose(np.delete(flat, 7, axis=1).std(axis=0), 1, atol=1e-4)


def test_features_of_another_size_are_refused():
    projection = fit_projection(FEATURES, 6, seed=0)
    with pytest.raises(ModelFileError, match=r"expects 10 features .* found 1 x 5: encode with"):
        projection.apply(FEATURES[0][:, :1])


def test_projection_survives_storage_and_many_spots(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preprocessing, "_FIT_SPOTS", 60)
    projection = fit_projection(FEATURES, 4, seed=3)
    again = InputProjection.from_tensors(projection.tensors())
    np.testing.assert_array_equal(again.apply(FEATURES[1]), projection.apply(FEATURES[1]))
    np.testing.assert_array_equal(
        fit_projection(FEATURES, 4, seed=3).components, projection.components
    )


def test_nuclei_become_one_standardised_column():
    inputs = np.zeros((4, 2), np.float32)
    column = with_nuclei(inputs, np.array([1.0, 2.0, 4.0, 8.0]))[:, 2]
    np.testing.assert_allclose(column, np.array([-3, -1, 1, 3]) / np.sqrt(5), rtol=1e-5)
    assert with_nuclei(inputs, None) is inputs


def test_few_spots_give_only_components_that_vary():
    rng = np.random.default_rng(0)
    sections = [rng.normal(size=(12, 2, 40)).astype(np.float32) for _ in range(2)]
    projection = fit_projection(sections, 64, seed=0)
    assert len(projection.scale) == 22  # 11 deviations from its own mean in each section
    other = projection.apply(rng.normal(size=(50, 2, 40)).astype(np.float32))
    assert np.abs(other).max() < 10


def test_a_section_of_one_spot_beside_a_large_one_is_drawn_whole():
    features = np.random.default_rng(0).normal(size=(8201, 1, 4)).astype(np.float32)
    projection = fit_projection([features[:8200], features[8200:]], 3, seed=0)
    assert projection.apply(features[:5]).shape == (5, 3)
