"""The gene panel and what is computed from counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hespotex.config import PanelConfig
from hespotex.errors import GenePanelError
from hespotex.expression import (
    GenePanel,
    composition,
    empty_spots,
    log1p_cpm,
    pearson_residuals,
    pooled_composition,
)
from hespotex.section import Geometry, Section
from hespotex.spots.base import MissingGenes


def make_section(
    counts: npt.ArrayLike | None,
    genes: Sequence[str] = (),
    section_id: str = "s",
    missing_genes: MissingGenes = "zero",
) -> Section:
    table = None if counts is None else sparse.csr_matrix(np.asarray(counts, dtype=np.float32))
    n = 3 if table is None else table.shape[0]
    return Section(
        section_id=section_id,
        patient_id="p",
        slide=None,
        geometry=Geometry(1.0, 200.0, 100.0),
        barcodes=np.array([f"b{i}" for i in range(n)]),
        xy_px0=np.zeros((n, 2)),
        counts=table,
        genes=None if table is None else np.asarray(genes, dtype=np.str_),
        missing_genes=missing_genes,
    )


def poisson_section(n: int, n_genes: int, seed: int, section_id: str = "s") -> Section:
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.7, 3.0, n_genes)
    return make_section(
        rng.poisson(rate, (n, n_genes)), [f"g{i:04d}" for i in range(n_genes)], section_id
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


class TestPanelRules:
    def test_a_gene_must_be_seen_in_the_asked_share_of_training_spots(self) -> None:
        counts = np.zeros((10, 3))
        counts[:1, 0], counts[:2, 1], counts[:, 2] = 1, 1, 5
        panel = GenePanel.fit(
            [make_section(counts, ["a", "b", "c"])], PanelConfig(kind="all", min_spot_fraction=0.2)
        )
        assert panel.genes == ("b", "c")
        assert panel.training_totals == (2.0, 50.0)

    def test_min_spots_counts_spots_over_all_sections(self) -> None:
        sections = [
            make_section([[1, 1], [0, 1]], ["a", "b"], "1"),
            make_section([[0, 1], [1, 1]], ["a", "b"], "2"),
        ]
        config = PanelConfig(kind="all", min_spot_fraction=0.0, min_spots=3)
        assert GenePanel.fit(sections, config).genes == ("b",)

    def test_an_absent_gene_dilutes_the_share_where_missing_means_zero_only(self) -> None:
        config = PanelConfig(kind="all", min_spot_fraction=0.6)
        for missing, expected in (("zero", ("b",)), ("unmeasured", ("a", "b"))):
            sections = [
                make_section([[1, 1], [1, 1]], ["a", "b"], "1"),
                make_section([[1], [1]], ["b"], "2", missing),  # type: ignore[arg-type]
            ]
            assert GenePanel.fit(sections, config).genes == expected

    def test_hvg_is_the_union_of_each_sections_own(self) -> None:
        rng = np.random.default_rng(0)
        genes = [f"g{i:03d}" for i in range(300)]
        sections = []
        for number, wild in enumerate(([5, 17], [17, 200])):
            counts = rng.poisson(rng.uniform(2, 20, 300), (80, 300))
            counts[:, wild] = rng.permutation(np.repeat([0, 24], 40))[:, None]
            sections.append(make_section(counts, genes, str(number)))
        panel = GenePanel.fit(sections, PanelConfig(n_top=2))
        assert panel.genes == ("g005", "g017", "g200")

    def test_hvg_of_one_section_equals_scanpys_seurat_v3(self) -> None:
        import anndata
        import scanpy

        section = poisson_section(150, 800, seed=1)
        assert section.counts is not None
        table = anndata.AnnData(section.counts.astype(np.float64))
        expected = scanpy.pp.highly_variable_genes(
            table, flavor="seurat_v3", n_top_genes=100, inplace=False
        )["highly_variable"].to_numpy()
        panel = GenePanel.fit([section], PanelConfig(n_top=100, min_spot_fraction=0.0))
        assert section.genes is not None
        assert set(panel.genes) == set(section.genes[expected])

    @pytest.mark.parametrize("n_spots", [2, 3, 5, 12, 30])
    @pytest.mark.parametrize("n_genes", [20, 110, 600])
    def test_sections_too_small_for_a_local_trend_still_give_a_panel(
        self, n_spots: int, n_genes: int
    ) -> None:
        rng = np.random.default_rng(n_spots)
        counts = rng.poisson(10.0, (n_spots, n_genes))
        counts[:, 7] = np.arange(n_spots) % 2 * 20  # the one gene that stands out
        section = make_section(counts, [f"g{i:03d}" for i in range(n_genes)])
        panel = GenePanel.fit([section], PanelConfig(n_top=5))
        assert len(panel.genes) == 5
        if n_spots >= 12:
            assert "g007" in panel.genes

    def test_constant_genes_are_never_highly_variable(self) -> None:
        counts = np.ones((20, 4))
        counts[::2, 1] = 7
        panel = GenePanel.fit([make_section(counts, list("abcd"))], PanelConfig())
        assert panel.genes == ("b",)

    def test_the_panel_does_not_depend_on_the_order_of_sections_or_of_their_genes(self) -> None:
        a, b = poisson_section(60, 200, 1, "a"), poisson_section(50, 200, 2, "b")
        assert b.counts is not None
        assert b.genes is not None
        order = np.random.default_rng(0).permutation(200)
        shuffled = make_section(b.counts.toarray()[:, order], b.genes[order].tolist(), "b")
        config = PanelConfig(n_top=20)
        assert GenePanel.fit([a, b], config) == GenePanel.fit([shuffled, a], config)

    def test_a_list_keeps_its_order(self) -> None:
        section = make_section([[1, 2, 3]], ["a", "b", "c"])
        panel = GenePanel.fit([section], PanelConfig(kind="list", genes=("c", "a")))
        assert panel.genes == ("c", "a")
        assert panel.training_totals == (3.0, 1.0)

    def test_a_list_of_other_names_is_refused_and_names_them(self) -> None:
        section = make_section([[1, 2]], ["a", "b"])
        with pytest.raises(GenePanelError, match=r"2 of 3 unknown: x, y; remove them"):
            GenePanel.fit([section], PanelConfig(kind="list", genes=("x", "b", "y")))

    def test_a_listed_gene_never_seen_in_whole_transcriptomes_counts_as_zero(self) -> None:
        section = make_section([[1, 2]], ["a", "b"])
        panel = GenePanel.fit([section], PanelConfig(kind="list", genes=("b", "x", "a")))
        assert panel.genes == ("b", "x", "a")
        assert panel.training_totals == (2.0, 0.0, 1.0)
        assert panel.counts(section).measured.all()

    def test_a_listed_gene_that_targeted_panels_lack_is_refused(self) -> None:
        section = replace(make_section([[1, 2]], ["a", "b"]), missing_genes="unmeasured")
        with pytest.raises(GenePanelError, match=r"1 of 3 unknown: x"):
            GenePanel.fit([section], PanelConfig(kind="list", genes=("b", "x", "a")))

    def test_doubled_listed_genes_are_named(self) -> None:
        with pytest.raises(GenePanelError, match=r"found doubled: b; remove the repeats"):
            GenePanel.fit(
                [make_section([[1, 2]], ["a", "b"])], PanelConfig(kind="list", genes=("b", "b"))
            )

    def test_no_gene_passing_says_which_keys_to_lower(self) -> None:
        section = make_section(np.eye(4), list("abcd"))
        with pytest.raises(GenePanelError, match=r"found none among 4 genes; lower panel.min_spot"):
            GenePanel.fit([section], PanelConfig(min_spot_fraction=0.5))

    def test_a_section_without_counts_is_named(self) -> None:
        with pytest.raises(GenePanelError, match=r"section bare: expected measured expression"):
            GenePanel.fit([make_section(None, section_id="bare")], PanelConfig())

    def test_no_section_at_all(self) -> None:
        with pytest.raises(GenePanelError, match="at least one training section"):
            GenePanel.fit([], PanelConfig())

    def test_abundant_genes_by_training_total_ties_in_panel_order(self) -> None:
        panel = GenePanel(("a", "b", "c", "d"), (1.0, 5.0, 1.0, 5.0))
        assert panel.abundant(3).tolist() == [1, 3, 0]
        with pytest.raises(GenePanelError, match="training totals"):
            GenePanel(("a",)).abundant()


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
        share = pooled_composition(tables, masks)
        np.testing.assert_allclose(share[0] / share[1], 0.5 / 0.95)

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
