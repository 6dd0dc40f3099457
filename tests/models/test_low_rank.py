"""Denoising finds what was planted, drops what is noise, and never depends on the blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from helpers.default_sections import make_section
from hespotex.genes.panel import log1p_cpm, pearson_residuals
from hespotex.models.default import low_rank
from hespotex.models.default.low_rank import centred_log1p, fit_low_rank, residuals


def _planted(strength: float, n: int = 120, genes: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    u, v = np.linalg.qr(rng.normal(size=(n, 2)))[0], np.linalg.qr(rng.normal(size=(genes, 2)))[0]
    signal = strength * np.sqrt(n) * u @ v.T
    return signal, signal + rng.normal(size=signal.shape)


def _section_of(table: np.ndarray):
    section = make_section(genes=table.shape[1]).section
    return replace(section, counts=sparse.csr_matrix(np.ones(table.shape, np.float32)))


def test_a_planted_signal_comes_out_closer_than_by_plain_truncation():
    signal, table = _planted(2.0)
    section = _section_of(table)

    def error(*, shrink: bool) -> float:
        fit = fit_low_rank([section], lambda _section: table.__getitem__, 10, seed=0, shrink=shrink)
        return float(np.square(fit.scores[0] @ fit.loadings - signal).sum())

    assert error(shrink=True) < 0.5 * error(shrink=False)
    assert error(shrink=True) < 0.2 * np.square(table - signal).sum()


def test_pure_noise_leaves_next_to_nothing():
    table = np.random.default_rng(1).normal(size=(200, 150))
    fit = fit_low_rank([_section_of(table)], lambda _section: table.__getitem__, 8, seed=0)
    assert np.square(fit.scores[0]).sum() < 0.03 * np.square(table).sum()


def test_blocks_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch):
    sections = [make_section("A").section, make_section("B", seed=4).section]
    whole = fit_low_rank(sections, residuals, 3, seed=0)
    monkeypatch.setattr(low_rank, "_BLOCK_ENTRIES", 200)
    blocked = fit_low_rank(sections, residuals, 3, seed=0)
    for a, b in zip(whole.scores, blocked.scores, strict=True):
        np.testing.assert_allclose(a @ whole.loadings, b @ blocked.loadings, atol=1e-4)


def test_more_spots_than_are_drawn_still_get_scores(monkeypatch: pytest.MonkeyPatch):
    sections = [make_section("A").section, make_section("B", seed=4).section]
    monkeypatch.setattr(low_rank, "_FIT_SPOTS", 60)
    fit = fit_low_rank(sections, residuals, 3, seed=0)
    assert [s.shape for s in fit.scores] == [(81, 3), (81, 3)]
    full = pearson_residuals(sections[0].counts)
    kept = np.corrcoef((fit.scores[0] @ fit.loadings).ravel(), full.ravel())[0, 1]
    assert kept > 0.6


def test_unmeasured_genes_are_zero_in_both_tables():
    section = make_section().section
    measured = section.measured.copy()
    measured[[2, 5]] = False
    masked = replace(section, measured=measured)
    for values in (residuals, centred_log1p):
        assert (values(masked)(slice(None))[:, [2, 5]] == 0).all()
    centred = centred_log1p(section)(slice(None))
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(
        centred + log1p_cpm(section.counts).mean(axis=0), log1p_cpm(section.counts), atol=1e-5
    )


def test_a_section_of_one_spot_beside_a_large_one_is_drawn_whole():
    large, small = make_section(side=91, genes=8).section, make_section(seed=4, genes=8).section
    one = replace(
        small, counts=small.counts[:1], features=small.features[:1], xy_um=small.xy_um[:1]
    )
    fit = fit_low_rank([large, one], residuals, 2, seed=0)
    assert [len(s) for s in fit.scores] == [91 * 91, 1]
