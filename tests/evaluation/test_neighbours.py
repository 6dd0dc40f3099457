"""Baselines that average other spots."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.neighbors import KNeighborsRegressor

from hespotex.evaluation.baselines import standardise_features
from hespotex.evaluation.neighbours import NearestPatches, fit_nearest, measured_neighbours
from hespotex.genes.panel import log1p_cpm, pearson_residuals


def test_nearest_patches_equal_scikit_learns_regressor() -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(n, 2, 3)).astype(np.float32) for n in (25, 30, 12)]
    counts = [sparse.csr_matrix(rng.poisson(2.0, (n, 7)).astype(np.float32)) for n in (25, 30)]
    log1p, composition = fit_nearest(features[:2], counts).predict(features[2], k=4)
    x = np.concatenate([standardise_features(f) for f in features[:2]])
    for values, function in ((log1p, log1p_cpm), (composition, pearson_residuals)):
        target = np.concatenate([function(c) for c in counts])
        model = KNeighborsRegressor(4).fit(
            x, target
        )  # as many components as features: same distances
        np.testing.assert_allclose(
            values, model.predict(standardise_features(features[2])), atol=1e-5
        )


def test_more_neighbours_than_spots_is_their_mean() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 3)).astype(np.float32)
    counts = sparse.csr_matrix(rng.poisson(2.0, (5, 4)).astype(np.float32))
    log1p, _ = fit_nearest([features], [counts]).predict(features, k=20)
    np.testing.assert_allclose(log1p, np.tile(log1p_cpm(counts).mean(axis=0), (5, 1)), rtol=1e-5)


def test_what_the_model_file_keeps_predicts_the_same() -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(n, 3)).astype(np.float32) for n in (25, 30)]
    counts = [sparse.csr_matrix(rng.poisson(2.0, (n, 7)).astype(np.float32)) for n in (25, 30)]
    nearest = fit_nearest(features, counts)
    again = NearestPatches.from_tensors(nearest.tensors())
    for a, b in zip(nearest.predict(features[0]), again.predict(features[0]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_more_spots_are_kept_than_asked_for_and_of_every_section() -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(n, 3)).astype(np.float32) for n in (40, 60)]
    counts = [sparse.csr_matrix(rng.poisson(2.0, (n, 7)).astype(np.float32)) for n in (40, 60)]
    nearest = fit_nearest(features, counts, 20)
    assert nearest.counts.shape == (20, 7)
    assert np.bincount(nearest.section).tolist() == [8, 12]
    np.testing.assert_array_equal(nearest.gene_totals[1], counts[1].toarray().sum(axis=0))
    assert np.isfinite(nearest.predict(features[1])[1]).all()


def test_measured_neighbours_leave_the_spot_itself_out() -> None:
    xy = np.array([[0.0, 0.0], [100.0, 0.0], [200.0, 0.0], [900.0, 900.0]])
    counts = sparse.csr_matrix([[1.0, 3.0], [2.0, 0.0], [5.0, 5.0], [4.0, 1.0]])
    log1p, composition = measured_neighbours(counts, xy)
    values, residuals = log1p_cpm(counts), pearson_residuals(counts)
    np.testing.assert_allclose(log1p[0], values[1], rtol=1e-6)
    np.testing.assert_allclose(log1p[1], (values[0] + values[2]) / 2, rtol=1e-6)
    np.testing.assert_allclose(
        log1p[3], values.mean(axis=0), rtol=1e-6
    )  # alone: the section's mean
    np.testing.assert_allclose(composition[2], residuals[1], rtol=1e-5, atol=1e-6)
