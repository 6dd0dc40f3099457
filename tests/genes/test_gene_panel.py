"""Which genes a model predicts by default and besides, and what is said of a gene that it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.counted_sections import make_section, poisson_section
from hespotex.config import PanelConfig, RunConfig
from hespotex.errors import GenePanelError
from hespotex.genes.absent_genes import OtherGenes, similar_names, why_absent
from hespotex.genes.panel import GenePanel

RARE = np.r_[1, np.zeros(99)]  # in 1 of 100 spots
OFTEN = np.r_[np.ones(10), np.zeros(90)]


def hundred_spots() -> Any:
    counts = np.stack([RARE, OFTEN, np.ones(100), np.zeros(100)], axis=1)
    return make_section(counts, ["RARE", "OFTEN", "EVEN", "NEVER"])


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
        panel = GenePanel.fit(sections, PanelConfig(kind="hvg", n_top=2))
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
        panel = GenePanel.fit([section], PanelConfig(kind="hvg", n_top=100, min_spot_fraction=0.0))
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
        panel = GenePanel.fit([section], PanelConfig(kind="hvg", n_top=5))
        assert len(panel.genes) == 5
        if n_spots >= 12:
            assert "g007" in panel.genes

    def test_constant_genes_are_never_highly_variable(self) -> None:
        counts = np.ones((20, 4))
        counts[::2, 1] = 7
        panel = GenePanel.fit([make_section(counts, list("abcd"))], PanelConfig(kind="hvg"))
        assert panel.genes == ("b",)

    def test_the_panel_does_not_depend_on_the_order_of_sections_or_of_their_genes(self) -> None:
        a, b = poisson_section(60, 200, 1, "a"), poisson_section(50, 200, 2, "b")
        assert b.counts is not None
        assert b.genes is not None
        order = np.random.default_rng(0).permutation(200)
        shuffled = make_section(b.counts.toarray()[:, order], b.genes[order].tolist(), "b")
        config = PanelConfig(kind="hvg", n_top=20)
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


class TestDefaultPanel:
    def test_every_gene_seen_in_a_tenth_of_the_training_spots_is_in_it_however_it_varies(
        self,
    ) -> None:
        panel = GenePanel.fit([hundred_spots()], PanelConfig())
        assert panel.genes == ("EVEN", "OFTEN")

    def test_the_others_are_kept_with_their_share_of_the_spots(self) -> None:
        others = GenePanel.fit([hundred_spots()], PanelConfig()).others
        assert others == OtherGenes(("NEVER", "RARE"), (0.0, 0.01))

    def test_a_number_of_variable_genes_asks_for_the_variable_ones(self) -> None:
        assert RunConfig.from_values({}, ["panel.n_top=50"]).panel.kind == "hvg"
        assert RunConfig.from_values({}, ["panel.n_top=50", "panel.kind=all"]).panel.kind == "all"
        assert RunConfig.from_values(RunConfig().model_dump(mode="json")).panel.kind == "all"

    def test_the_published_profile_keeps_its_variable_genes(self) -> None:
        panel = RunConfig.from_values({"profile": "published"}).panel
        assert (panel.kind, panel.min_spots, panel.min_spot_fraction) == ("hvg", 1000, 0.0)


class TestAddedGenes:
    def test_an_added_gene_is_in_the_panel_however_seldom_it_was_seen(self) -> None:
        panel = GenePanel.fit([hundred_spots()], PanelConfig(add=("RARE", "NEVER")))
        assert panel.genes == ("EVEN", "NEVER", "OFTEN", "RARE")
        assert panel.training_totals == (100.0, 0.0, 10.0, 1.0)
        assert panel.others == OtherGenes()

    def test_a_list_keeps_its_order_and_has_added_genes_behind_it(self) -> None:
        config = PanelConfig(kind="list", genes=("OFTEN", "EVEN"), add=("RARE", "EVEN"))
        panel = GenePanel.fit([hundred_spots()], config)
        assert panel.genes == ("OFTEN", "EVEN", "RARE")
        assert panel.training_totals == (10.0, 100.0, 1.0)

    def test_a_gene_that_no_table_has_is_not_added(self) -> None:
        panel = GenePanel.fit([hundred_spots()], PanelConfig(add=("RARE", "NOSUCH")))
        assert panel.genes == ("EVEN", "OFTEN", "RARE")

    def test_added_genes_are_each_named_once(self) -> None:
        config = RunConfig().with_added_genes(["A", "B", "A"]).with_added_genes(["B", "C"])
        assert config.panel.add == ("A", "B", "C")


class TestWhyAbsent:
    OTHERS = OtherGenes(("HLA-A", "NEVER", "RARE"), (0.2, 0.0, 0.031))

    @pytest.mark.parametrize(
        ("gene", "rule", "said"),
        [
            ("RARE", PanelConfig(),
             "RARE was seen in 3.1 % of the training spots, where 10 % are asked; train with --add-genes RARE"),
            ("NEVER", PanelConfig(),
             "NEVER was seen in 0 % of the training spots, where 10 % are asked; train with --add-genes NEVER"),
            ("HLA-A", PanelConfig(kind="hvg", n_top=500),
             "HLA-A was seen in 20 % of the training spots, but is not among the 500 most variable genes of a section; "
             "train with --add-genes HLA-A"),
            ("HLA-A", PanelConfig(kind="list", genes=("EVEN",)),
             "HLA-A was seen in 20 % of the training spots, but is not in the list of genes that the model was trained "
             "with; train with --add-genes HLA-A"),
            ("HLA-A", PanelConfig(min_spots=1000),
             "HLA-A was seen in 20 % of the training spots, in fewer than 1,000 of them; train with --add-genes HLA-A"),
            ("HLA.A", PanelConfig(),
             "HLA.A was never measured: no training section's table has it; check its name (similar: HLA-A)"),
            ("Even", PanelConfig(),
             "Even was never measured: no training section's table has it; check its name (similar: EVEN)"),
            ("XYZ", PanelConfig(),
             "XYZ was never measured: no training section's table has it; check its name"),
        ],
    )  # fmt: skip
    def test_the_reason_and_what_to_do(self, gene: str, rule: PanelConfig, said: str) -> None:
        assert why_absent(gene, ("EVEN", "OFTEN"), self.OTHERS, rule) == said

    def test_a_model_file_of_before_does_not_claim_that_a_gene_was_never_measured(self) -> None:
        said = why_absent("RARE", ("EVEN", "OFTEN"), OtherGenes(), PanelConfig())
        assert said == (
            "RARE is not in this model's panel of 2 genes; check its name, or train with --add-genes RARE where it was "
            "measured"
        )

    def test_similar_names_are_few_and_the_nearest(self) -> None:
        known = ["KRT18", "KRT19", "KRT8", "ACTB", *(f"GENE{k}" for k in range(50))]
        assert similar_names("KRT199", known)[0] == "KRT19"
        assert len(similar_names("GENE", known)) <= 3
