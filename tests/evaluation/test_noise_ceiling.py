"""The noise ceiling: the correlation with the truth, found without knowing it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from hespotex.errors import HESpotExError
from hespotex.evaluation.noise_ceiling import noise_ceiling, share_of_ceiling
from hespotex.evaluation.scores import pcc_per_gene
from hespotex.genes.panel import log1p_cpm, pearson_residuals


def test_the_ceiling_is_the_correlation_of_the_measured_with_the_noise_free() -> None:
    rng = np.random.default_rng(0)
    truth = np.exp(0.4 * rng.normal(size=(1500, 30)))
    rate = truth / truth.sum(axis=1, keepdims=True) * 30 * 20
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    ceiling = noise_ceiling(counts)
    noise_free = sparse.csr_matrix(rate)
    expected = pcc_per_gene(pearson_residuals(noise_free), pearson_residuals(counts))
    np.testing.assert_allclose(ceiling.composition, expected, atol=0.03)
    # log1p bends at zero, so there it holds for deep counts only.
    deep = sparse.csr_matrix(rng.poisson(3 * rate).astype(np.float32))
    expected = pcc_per_gene(log1p_cpm(noise_free), log1p_cpm(deep))
    np.testing.assert_allclose(noise_ceiling(deep).log1p, expected, atol=0.03)


def test_pure_noise_has_a_low_ceiling_and_deep_counts_a_high_one() -> None:
    rng = np.random.default_rng(1)
    flat = sparse.csr_matrix(rng.poisson(2.0, (400, 20)).astype(np.float32))
    assert np.mean(noise_ceiling(flat).composition) < 0.2
    deep = sparse.csr_matrix(rng.poisson(4000 * rng.uniform(0.5, 2, (60, 20))).astype(np.float32))
    assert np.min(noise_ceiling(deep).log1p) > 0.97


def test_a_gene_without_counts_has_no_ceiling_and_a_gene_seen_once_has_zero() -> None:
    table = np.random.default_rng(0).poisson(3.0, (40, 4)).astype(np.float32)
    table[:, 1], table[:, 2] = 0, 0
    table[7, 2] = 1
    ceiling = noise_ceiling(sparse.csr_matrix(table))
    assert np.isnan(ceiling.log1p[1])
    assert np.isnan(ceiling.composition[1])
    assert ceiling.log1p[2] == 0


def test_fractions_are_an_error() -> None:
    with pytest.raises(HESpotExError, match=r"whole numbers .* found fractions; give raw counts"):
        noise_ceiling(sparse.csr_matrix([[0.5, 1.0]]))


def test_the_same_seed_gives_the_same_ceiling() -> None:
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (50, 6)).astype(np.float32))
    one, two = (noise_ceiling(counts, seed=1).log1p for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_the_share_of_a_ceiling_near_zero_means_nothing() -> None:
    share = share_of_ceiling(np.array([0.2, 0.2, 0.1]), np.array([0.5, 0.05, np.nan]))
    assert share[0] == pytest.approx(0.4)
    assert np.isnan(share[1:]).all()


@pytest.mark.slow
@pytest.mark.parametrize("section", ["C2", "C3", "C4"])
def test_the_reference_tables_ceilings_are_found_again(
    section: str, shared_data: Path, shared_golden: Path
) -> None:
    reference = json.loads((shared_golden / "reference_her2st.json").read_text())
    path = shared_data / "her2st" / "counts" / f"{section}.tsv.gz"
    table = pd.read_csv(path, sep="\t", index_col=0)[reference["genes"]]
    ceiling = noise_ceiling(sparse.csr_matrix(table.to_numpy(dtype=np.float32)), n_splits=8)
    abundant = [reference["genes"].index(g) for g in reference["abundant_genes"]]
    expected = reference["sections"][section]["ceiling"]
    assert ceiling.log1p.mean() == pytest.approx(expected["log1p"], abs=0.01)
    assert ceiling.composition.mean() == pytest.approx(expected["composition"], abs=0.01)
    abundant_mean = ceiling.composition[abundant].mean()
    assert abundant_mean == pytest.approx(expected["composition_abundant"], abs=0.01)
