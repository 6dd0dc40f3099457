"""Baselines are what their names say, by hand or by scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from hespotex.errors import HESpotExError
from hespotex.evaluation.baselines import (
    depth_only,
    fit_ridge,
    fit_train_mean,
    predicted_depth_only,
    standardise_features,
)
from hespotex.evaluation.scores import pcc_per_gene
from hespotex.genes.panel import log1p_cpm, pearson_residuals


def draw(n: int, n_genes: int, seed: int) -> tuple[npt.NDArray[np.float32], sparse.csr_matrix]:
    """Features (n, 2, 5) and counts, the first gene's share driven by the first feature."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2, 5)).astype(np.float32)
    rate = np.full((n, n_genes), 5.0)
    rate[:, 0] = 20 * np.exp(features[:, 0, 0])
    return features, sparse.csr_matrix(rng.poisson(rate).astype(np.float32))


def test_depth_only_is_the_log_of_the_measured_total() -> None:
    counts = sparse.csr_matrix([[1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(depth_only(counts), np.log1p([[3.0], [0.0]]))
    np.testing.assert_allclose(predicted_depth_only(np.array([3.0, 0.0])), depth_only(counts))


def test_the_train_mean_pools_spots_of_the_sections_that_measured_the_gene() -> None:
    a, b = sparse.csr_matrix([[1.0, 1.0]]), sparse.csr_matrix([[0.0, 4.0], [0.0, 9.0]])
    plain = fit_train_mean([a, b])
    np.testing.assert_allclose(plain[0], np.log1p(5e5) / 3, rtol=1e-6)
    masked = fit_train_mean([a, b], [np.array([True, True]), np.array([False, True])])
    np.testing.assert_allclose(masked[0], np.log1p(5e5), rtol=1e-6)


def test_features_are_standardised_within_the_section_and_constants_become_zero() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(3.0, 2.0, (20, 2, 4)).astype(np.float32)
    features[:, 0, 1] = 7.7
    result = standardise_features(features)
    assert result.shape == (20, 8)
    assert not result[:, 1].any()
    expected = StandardScaler().fit_transform(features.reshape(20, 8).astype(np.float64))
    np.testing.assert_allclose(np.delete(result, 1, 1), np.delete(expected, 1, 1), atol=1e-5)


@pytest.mark.parametrize("n", [6, 40])  # fewer and more spots than features
def test_ridge_equals_scikit_learn_step_by_step(n: int) -> None:
    sections = [draw(n, 700, 1), draw(n + 3, 700, 2)]
    held_out, _ = draw(11, 700, 3)
    model = fit_ridge([f for f, _ in sections], [c for _, c in sections], n_components=4, alpha=2.0)
    log1p, composition = model.predict(held_out)

    scale = StandardScaler().fit_transform
    x = np.concatenate([scale(f.reshape(len(f), -1).astype(float)) for f, _ in sections])
    centred = np.concatenate([log1p_cpm(c) - log1p_cpm(c).mean(axis=0) for _, c in sections])
    residual = np.concatenate([pearson_residuals(c) for _, c in sections])
    mean = np.concatenate([log1p_cpm(c) for _, c in sections]).mean(axis=0)
    pca = PCA(4, svd_solver="full").fit(x)
    z, z_new = pca.transform(x), pca.transform(scale(held_out.reshape(11, -1).astype(float)))
    np.testing.assert_allclose(
        log1p, Ridge(alpha=2.0).fit(z, centred).predict(z_new) + mean, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        composition, Ridge(alpha=2.0).fit(z, residual).predict(z_new), rtol=1e-3, atol=1e-3
    )


def test_ridge_finds_the_gene_that_the_image_drives() -> None:
    train, (features, counts) = [draw(200, 20, 1), draw(150, 20, 2)], draw(180, 20, 9)
    model = fit_ridge([f for f, _ in train], [c for _, c in train], alpha=10.0)
    pcc = pcc_per_gene(model.predict(features)[1], pearson_residuals(counts))
    assert pcc[0] > 0.7
    assert np.abs(pcc[1:]).mean() < pcc[0] / 2


def test_ridge_twice_is_the_same_to_the_bit() -> None:
    train = [draw(50, 20, 1), draw(40, 20, 2)]
    first, second = (fit_ridge([f for f, _ in train], [c for _, c in train]) for _ in range(2))
    features, _ = draw(30, 20, 3)
    np.testing.assert_array_equal(first.predict(features)[0], second.predict(features)[0])


def test_a_gene_is_fitted_on_the_sections_that_measured_it() -> None:
    (f1, c1), (f2, c2) = draw(60, 20, 1), draw(50, 20, 2)
    everywhere, second_lacks_first = np.ones(20, dtype=bool), np.arange(20) > 0
    model = fit_ridge([f1, f2], [c1, c2], [everywhere, second_lacks_first], alpha=1.0)
    changed = c2.tolil()
    changed[:, 0] = 0
    other = fit_ridge([f1, f2], [c1, c2], [everywhere, everywhere], alpha=1.0)
    assert not np.allclose(model.coefficients[:, :, 0], other.coefficients[:, :, 0])
    np.testing.assert_array_equal(model.coefficients[:, :, 1:], other.coefficients[:, :, 1:])


def test_a_gene_that_no_section_measured_is_predicted_by_zero() -> None:
    f, c = draw(30, 4, 1)
    model = fit_ridge([f], [c], [np.array([True, True, False, True])])
    log1p, composition = model.predict(f)
    assert not log1p[:, 2].any()
    assert not composition[:, 2].any()


def test_features_of_other_spots_are_an_error() -> None:
    f, c = draw(30, 4, 1)
    with pytest.raises(HESpotExError, match=r"features for \[30\] spots, found \[29\]"):
        fit_ridge([f[:-1]], [c])


def test_one_training_spot_is_an_error() -> None:
    f, c = draw(1, 4, 1)
    with pytest.raises(HESpotExError, match="at least two training spots for ridge, found 1"):
        fit_ridge([f], [c])


def test_features_that_never_vary_predict_the_train_mean() -> None:
    _, c = draw(20, 4, 1)
    flat = np.ones((20, 3), dtype=np.float32)
    log1p, composition = fit_ridge([flat], [c]).predict(flat)
    np.testing.assert_allclose(log1p, np.tile(fit_train_mean([c]), (20, 1)), rtol=1e-5)
    assert np.ptp(composition, axis=0).max() < 1e-5
