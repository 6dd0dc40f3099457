"""Depth, kernel and direct regression: equal to textbook solutions where those can be written down."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.default_sections import SMALL, make_section
from hespotex.genes.panel import log1p_cpm
from hespotex.models.default.depth import fit_depth
from hespotex.models.default.low_rank import fit_low_rank, residuals
from hespotex.models.default.regression import (
    fit_direct_log1p,
    fit_kernel_composition,
    read_direct,
    read_kernel,
    regression_tensors,
)

SECTIONS = [make_section("A").section, make_section("B", seed=5).section]
RNG = np.random.default_rng(0)
CONTEXTS = [RNG.normal(size=(81, 4)).astype(np.float32) for _ in SECTIONS]
SHARE = np.array([0.4, 0.3, 0.2, 0.1])


def test_a_linear_depth_is_found_exactly():
    beta = np.array([1.0, -2.0, 0.5, 0.0])
    xy = [s.xy_um for s in SECTIONS]
    y = [x @ beta for x in CONTEXTS]
    fit = fit_depth(CONTEXTS, y, xy, ("A", "B"), ("A", "B"), SHARE, 1e-6)
    np.testing.assert_allclose(fit.coefficients, beta, atol=1e-5)
    assert fit.residual_sd < 1e-5


@pytest.mark.parametrize("sections", [1, 2])
def test_the_error_of_depth_is_measured_on_what_was_left_out(sections: int):
    """A depth of pure noise is fitted a little in-sample, and never on left-out spots."""
    rng = np.random.default_rng(3)
    contexts = [rng.normal(size=(81, 40)) for _ in range(sections)]
    y = [rng.normal(size=81) for _ in range(sections)]
    fit = fit_depth(
        contexts,
        y,
        [s.xy_um for s in SECTIONS[:sections]],
        ("A", "B")[:sections],
        ("A", "B")[:sections],
        np.full(40, 1 / 40),
        1e-3,
    )
    inside = [v - x @ fit.coefficients for v, x in zip(y, contexts, strict=True)]
    assert fit.residual_sd > 1.1 * fit.target_sd
    assert np.std(np.concatenate(inside)) < 0.95 * fit.target_sd


def test_with_all_spots_as_landmarks_it_is_exact_kernel_ridge():
    config = SMALL.model_copy(update={"landmarks": 1000})
    table = fit_low_rank(SECTIONS, residuals, config.latent_size, seed=0)
    fit = fit_kernel_composition(SECTIONS, CONTEXTS, table, SHARE, config, seed=0)
    x = np.concatenate(CONTEXTS) * np.sqrt(SHARE)
    distance = np.sqrt(np.square(x[:, None] - x).sum(axis=2))
    kernel = np.exp(-distance / np.sqrt(np.square(x).sum(axis=1).mean()))
    totals = [np.asarray(s.counts.sum(axis=1)).ravel() for s in SECTIONS]
    weight = np.concatenate(
        [np.clip(t / np.expm1(np.log1p(t).mean()), 0.05, 4) ** 0.75 for t in totals]
    )
    target = np.concatenate(table.scores) / np.sqrt(weight)[:, None]
    dual = np.linalg.solve(kernel + config.kernel_penalty * np.diag(1 / weight), target)
    np.testing.assert_allclose(fit.latent(np.concatenate(CONTEXTS)), kernel @ dual, atol=1e-3)


def test_a_rare_genes_log_ratio_is_held_back():
    table = fit_low_rank(SECTIONS, residuals, SMALL.latent_size, seed=0)
    fit = fit_kernel_composition(SECTIONS, CONTEXTS, table, SHARE, SMALL, seed=0)
    factor = np.linalg.norm(fit.loadings, axis=0) / np.linalg.norm(table.loadings, axis=0)
    assert (factor <= 0.5 + 1e-6).all()


def test_direct_regression_is_ridge_on_the_leading_components():
    config = SMALL.model_copy(update={"direct_rank": 30})
    mean = np.arange(30.0)
    fit = fit_direct_log1p(SECTIONS, CONTEXTS, SHARE, mean, config, seed=0)
    x = np.concatenate(CONTEXTS) * np.sqrt(SHARE)
    y = np.concatenate([log1p_cpm(s.counts) - log1p_cpm(s.counts).mean(axis=0) for s in SECTIONS])
    beta = np.linalg.solve(x.T @ x + 3 * np.eye(4), x.T @ y)
    found = fit.latent(np.concatenate(CONTEXTS)) @ fit.loadings
    np.testing.assert_allclose(found, x @ beta, atol=1e-3)
    np.testing.assert_array_equal(fit.train_mean, mean)


def test_regressions_survive_storage():
    table = fit_low_rank(SECTIONS, residuals, SMALL.latent_size, seed=0)
    kernel = fit_kernel_composition(SECTIONS, CONTEXTS, table, SHARE, SMALL, seed=0)
    direct = fit_direct_log1p(SECTIONS, CONTEXTS, SHARE, np.zeros(30), SMALL, seed=0)
    tensors = regression_tensors(kernel, direct)
    for fitted, stored in ((kernel, read_kernel(tensors)), (direct, read_direct(tensors))):
        assert stored is not None
        np.testing.assert_array_equal(stored.latent(CONTEXTS[0]), fitted.latent(CONTEXTS[0]))
    assert read_kernel({}) is None
    assert read_direct({}) is None
