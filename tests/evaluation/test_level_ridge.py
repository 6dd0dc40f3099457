"""Ridge of levels: that of scikit-learn, kept in a model file, and blind to whoever is held out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from helpers.levelled_slides import levelled_slides
from hespotex.evaluation.level_ridge import LevelRidge, fit_level_ridge, mean_feature
from hespotex.genes.panel import GenePanel
from hespotex.models.fit import training_section


@pytest.mark.parametrize("n_features", [3, 40])
def test_it_is_the_ridge_of_scikit_learn_on_standardised_columns(n_features: int):
    rng = np.random.default_rng(0)
    seen, values = rng.normal(2, 3, size=(12, n_features)), rng.normal(size=(12, 5))
    values -= values.mean(axis=0)
    new = rng.normal(size=(4, n_features))
    scaler = StandardScaler().fit(seen)
    alpha = np.square(scaler.transform(seen)).sum() / 11
    told = Ridge(alpha, fit_intercept=False).fit(scaler.transform(seen), values)
    expected = told.predict(scaler.transform(new))
    fit = LevelRidge.fit(seen, values)
    np.testing.assert_allclose(fit.predict(new), expected, atol=1e-9)
    kept = LevelRidge.from_tensors(fit.tensors())
    assert kept is not None
    np.testing.assert_allclose(kept.predict(new), expected, atol=1e-5)


def test_it_is_fitted_on_the_patients_of_the_given_sections():
    items = levelled_slides(8, slides=2).cohort.items
    panel = GenePanel(tuple(items[0].section.genes))
    sections = [training_section(item, panel) for item in items]
    arrays = fit_level_ridge(sections)
    assert arrays["level_ridge.known"].shape == (8, 16)
    assert arrays["level_ridge.weights"].shape == (8, 60)
    np.testing.assert_allclose(
        arrays["level_ridge.centre"],
        np.mean([mean_feature(s.features) for s in sections], axis=0),
        atol=1e-5,
    )
    assert fit_level_ridge(sections[:2]) == {}
    assert LevelRidge.from_tensors({}) is None
