"""The gene panel and what is computed from counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers.counted_sections import make_section
from hespotex.config import PanelConfig
from hespotex.errors import GenePanelError
from hespotex.genes.panel import (
    GenePanel,
    composition,
    empty_spots,
    log1p_cpm,
    pearson_residuals,
    pooled_composition,
)


def reference_residuals(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The definition, spot by spot and gene by gene."""
    result = np.zeros_like(counts)
    grand = counts.sum()
    for s, g in np.ndindex(*counts.shape):
        mu = counts[s].sum() * counts[:, g].sum() / grand if grand else 0.0
        if mu > 0:
            value = (counts[s, g] - mu) / np.sqrt(mu + mu**2 / 100)
            result[s, g] = np.clip(value, -np.sqrt(len(counts)), np.sqrt(len(counts)))
    return result


class TestPanelCounts:
    def test_counts_come_in_the_panels_order_whatever_the_sections(self) -> None:
        section = make_section([[1, 2, 3], [0, 0, 4]], ["z", "a", "m"])
        result = GenePanel(("a", "q", "z")).counts(section)
        assert result.counts.toarray().tolist() == [[2, 0, 1], [0, 0, 0]]
        assert result.depth.tolist() == [3, 0]
        assert result.measured.tolist() == [True, True, True]

    def test_a_lacking_gene_of_a_targeted_panel_is_unmeasured(self) -> None:
        section = make_section([[1, 2]], ["a", "b"], missing_genes="unmeasured")
        assert GenePanel(("b", "x")).counts(section).measured.tolist() == [True, False]

    def test_another_species_is_an_error(self) -> None:
        with pytest.raises(GenePanelError, match=r"section s: .*\(Actb\), found none among"):
            GenePanel(("Actb",)).counts(make_section([[1]], ["ACTB"]))

    @given(st.integers(0, 10_000))
    @settings(max_examples=25, deadline=None)
    def test_alignment_equals_pandas_reindex(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        names = np.array([f"g{i}" for i in range(30)])
        own = rng.permutation(names)[: rng.integers(1, 30)]
        counts = rng.poisson(0.7, (rng.integers(1, 6), len(own)))
        panel = tuple(str(g) for g in [own[0], *rng.permutation(names[names != own[0]])[:10]])
        expected = pd.DataFrame(counts, columns=own).reindex(columns=list(panel), fill_value=0)
        result = GenePanel(panel).counts(make_section(counts, own.tolist())).counts
        assert result.has_sorted_indices
        np.testing.assert_array_equal(result.toarray(), expected.to_numpy())


class TestUnits:
    def test_log1p_cpm_by_hand_and_an_empty_spot_is_zero(self) -> None:
        counts = sparse.csr_matrix([[1.0, 3.0], [0.0, 0.0]])
        np.testing.assert_allclose(
            log1p_cpm(counts), [[np.log1p(250_000), np.log1p(750_000)], [0, 0]], rtol=1e-6
        )
        assert empty_spots(counts).tolist() == [False, True]

    def test_residuals_are_the_definition(self) -> None:
        rng = np.random.default_rng(3)
        counts = rng.poisson(rng.gamma(0.5, 4, 9), (7, 9)).astype(float)
        counts[0, 1], counts[2] = 500, 0  # clipped; an empty spot
        counts[:, 4] = 0
        result = pearson_residuals(sparse.csr_matrix(counts))
        np.testing.assert_allclose(result, reference_residuals(counts), rtol=1e-5, atol=1e-6)
        assert result.max() == pytest.approx(np.sqrt(7))

    def test_residuals_of_a_section_without_any_count_are_zero(self) -> None:
        assert not pearson_residuals(sparse.csr_matrix((4, 3))).any()

    def test_columns_are_the_same_numbers_as_the_whole(self) -> None:
        rng = np.random.default_rng(4)
        counts = sparse.csr_matrix(rng.poisson(1.0, (20, 11)).astype(float))
        part = slice(3, 8)
        np.testing.assert_array_equal(log1p_cpm(counts, part), log1p_cpm(counts)[:, part])
        np.testing.assert_array_equal(
            pearson_residuals(counts, columns=part), pearson_residuals(counts)[:, part]
        )

    def test_pooled_composition_pools_counts_and_sums_to_one(self) -> None:
        tables = [sparse.csr_matrix([[1.0, 1.0]]), sparse.csr_matrix([[3.0, 5.0]])]
        np.testing.assert_allclose(pooled_composition(tables), [0.4, 0.6])

    def test_pooled_composition_of_an_unmeasured_gene_is_taken_where_it_was_measured(self) -> None:
        tables = [sparse.csr_matrix([[50.0, 50.0]]), sparse.csr_matrix([[0.0, 900.0]])]
        masks = [np.array([True, True]), np.array([False, True])]
        # The second section tells nothing of how common its only gene is beside others.
        np.testing.assert_allclose(pooled_composition(tables, masks), [0.5, 0.5])

    def test_pooled_composition_brings_panels_to_one_unit_before_it_pools(self) -> None:
        """Genes in the ratio 1 : 2 : 3 : 4, of which one platform measures the first and the last two, ten times as deep."""
        whole = sparse.csr_matrix([[100.0, 200.0, 300.0, 400.0]])
        targeted = sparse.csr_matrix([[1000.0, 0.0, 3000.0, 4000.0]])
        masks = [np.ones(4, bool), np.array([True, False, True, True])]
        np.testing.assert_allclose(
            pooled_composition([whole, targeted], masks), [0.1, 0.2, 0.3, 0.4], rtol=1e-6
        )
        halves = [np.array([True, True, True, False]), np.array([True, False, True, True])]
        counts = [sparse.csr_matrix([[10.0, 20.0, 30.0, 0.0]]), targeted]
        np.testing.assert_allclose(
            pooled_composition(counts, halves), [0.1, 0.2, 0.3, 0.4], rtol=1e-4
        )

    def test_pooled_composition_of_an_unseen_gene_has_a_logarithm(self) -> None:
        share = pooled_composition([sparse.csr_matrix([[10.0, 0.0]])])
        assert np.isfinite(np.log(share)).all()
        assert share[1] < 0.05

    def test_pooled_composition_without_counts_is_an_error(self) -> None:
        with pytest.raises(GenePanelError, match="found none"):
            pooled_composition([sparse.csr_matrix((2, 2))])

    @given(st.floats(0.1, 1000))
    @settings(max_examples=20)
    def test_composition_does_not_know_depth(self, depth: float) -> None:
        mean = np.array([[1.0, 2.0, 5.0]])
        pooled = np.array([0.2, 0.3, 0.5])
        expected = np.log([[0.125, 0.25, 0.625]]) - np.log(pooled)
        np.testing.assert_allclose(composition(depth * mean, pooled), expected, atol=1e-6)

    def test_composition_of_a_spot_without_any_mean_is_zero(self) -> None:
        assert composition(np.zeros((1, 2)), np.array([0.5, 0.5])).tolist() == [[0, 0]]


@pytest.mark.slow
def test_the_fixed_genes_of_her2st_have_the_reference_abundant_genes(
    shared_data: Path, shared_golden: Path
) -> None:
    reference = json.loads((shared_golden / "reference_her2st.json").read_text())
    sections = []
    for name in ("C2", "C3", "C4"):
        table = pd.read_csv(
            shared_data / "her2st" / "counts" / f"{name}.tsv.gz", sep="\t", index_col=0
        )
        sections.append(make_section(table.to_numpy(), table.columns.tolist(), name))
    panel = GenePanel.fit(sections, PanelConfig(kind="list", genes=tuple(reference["genes"])))
    abundant = {panel.genes[i] for i in panel.abundant(200)}
    assert abundant == set(reference["abundant_genes"])
