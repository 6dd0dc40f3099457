"""Gene sets: GMT files, and the score of a set as the share of its genes' counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from hespotex.errors import ConfigError
from hespotex.genes.gene_sets import GeneSet, PanelSets, pooled_shares, read_gmt, sets_key

GENES = ("A", "B", "C", "D", "E")


def test_gmt_is_read_with_descriptions_comments_and_repeats(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("# made by hand\nONE\thttp://x\tA\tB\tA\t\nTWO WORDS\t\tC\tD\r\n\n", "utf-8")
    assert read_gmt(path) == (GeneSet("ONE", ("A", "B")), GeneSet("TWO WORDS", ("C", "D")))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"at least one gene set .* found none"),
        ("# only a comment\n", r"at least one gene set .* found none"),
        ("TP53\nERBB2\n", r"with tabs between them, found 'TP53' in .*line 1; GMT has one set a"),
        ("ONE na A B\n", r"with tabs between them, found 'ONE na A B' in .*sets\.gmt, line 1"),
        ("ONE\tna\n", r"name, description and genes .* line 1"),
        ("ONE\tna\tA\nTWO\tna\tB\nONE\tna\tC\n", r"once, found 'ONE' again in .*line 3; rename"),
    ],
)
def test_a_file_that_is_no_gmt_is_refused_with_its_line(
    text: str, match: str, tmp_path: Path
) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=match):
        read_gmt(path)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"expected a readable file at .*no\.gmt, found: No such file"
    ):
        read_gmt(tmp_path / "no.gmt")
    (tmp_path / "x.gmt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(
        ConfigError, match=r"expected a GMT file .* in .*x\.gmt, found text in UTF-16"
    ):
        read_gmt(tmp_path / "x.gmt")


def test_sets_with_too_few_panel_genes_are_named_and_left_out() -> None:
    sets = PanelSets.of(
        [GeneSet("small", ("A", "B", "X", "Y")), GeneSet("kept", ("E", "C", "Z", "A"))], GENES
    )
    assert sets.names == ("kept",)
    assert sets.left_out == {"small": 2}
    assert sets.n_listed.tolist() == [4]
    assert sets.n_panel.tolist() == [3]
    np.testing.assert_array_equal(sets.members.toarray(), [[1, 0, 1, 0, 1]])


@pytest.mark.parametrize(
    ("panel", "listed"),
    [
        (("GRCh38_ACTB", "GRCh38_CD74", "GRCh38_HLA-A"), ("ACTB", "CD74", "HLA-A")),
        (
            ("ENSG00000075624.17", "ENSG00000019582.15", "ENSG00000206503.13"),
            ("ENSG00000075624", "ENSG00000019582", "ENSG00000206503"),
        ),
        (("ACTB", "CD74", "HLA.A"), ("ACTB", "CD74", "HLA-A")),
    ],
    ids=["assembly", "version", "R"],
)
def test_genes_of_a_set_are_found_however_the_panel_spells_them(
    panel: tuple[str, ...], listed: tuple[str, ...]
) -> None:
    sets = PanelSets.of([GeneSet("S", (*listed, "NOSUCH"))], panel)
    assert sets.members.toarray().tolist() == [[1, 1, 1]]
    assert sets.n_listed.tolist() == [4]


def test_the_score_is_the_log_share_of_the_set_against_training() -> None:
    sets = PanelSets.of([GeneSet("abc", ("A", "B", "C"))], GENES)
    pooled = np.array([0.1, 0.2, 0.1, 0.4, 0.2])
    p = np.array([[0.2, 0.3, 0.1, 0.2, 0.2], [0.1, 0.2, 0.1, 0.4, 0.2]])
    composition = np.log(p) - np.log(pooled)
    np.testing.assert_allclose(
        sets.scores(composition, pooled)[:, 0], [np.log(0.6 / 0.4), 0.0], atol=1e-6
    )
    # A constant added to a spot's composition changes no share.
    np.testing.assert_allclose(
        sets.scores(composition + 3.0, pooled), sets.scores(composition, pooled), atol=1e-6
    )


def test_an_unmeasured_gene_is_left_out_of_set_and_total() -> None:
    sets = PanelSets.of([GeneSet("abc", ("A", "B", "C"))], GENES)
    pooled = np.array([0.1, 0.2, 0.1, 0.4, 0.2])
    p = np.array([[0.2, 0.3, 0.1, 0.2, 0.2]])
    measured = np.array([True, True, False, True, True])
    seen = sets.measured(measured)
    score = seen.scores(np.log(p) - np.log(pooled), pooled, measured)
    assert score[0, 0] == pytest.approx(np.log((0.5 / 0.9) / (0.3 / 0.9)))
    assert seen.n_panel.tolist() == [2]


def test_spots_without_a_prediction_have_no_score_and_long_tables_go_by_blocks() -> None:
    rng = np.random.default_rng(0)
    sets = PanelSets.of([GeneSet("abc", ("A", "B", "C")), GeneSet("all", GENES)], GENES)
    composition = rng.normal(size=(2500, 5)).astype(np.float32)
    composition[1] = np.nan
    pooled = np.full(5, 0.2)
    scores = sets.scores(composition, pooled)
    assert np.isnan(scores[1]).all()
    np.testing.assert_array_equal(scores[2000:2010], sets.scores(composition[2000:2010], pooled))
    np.testing.assert_allclose(scores[2:, 1], 0.0, atol=1e-6)


def test_counts_of_a_set_are_the_sum_of_its_genes() -> None:
    sets = PanelSets.of([GeneSet("abc", ("A", "B", "C"))], GENES)
    counts = sparse.csr_matrix(np.arange(10, dtype=np.float32).reshape(2, 5))
    assert sets.counts(counts).tolist() == [[3.0], [18.0]]


def test_pooled_shares_sum_to_one_and_none_is_zero() -> None:
    shares = pooled_shares([0.0, 9.5])
    assert shares.tolist() == [0.05, 0.95]


def test_the_key_tells_sets_apart() -> None:
    assert sets_key(()) is None
    assert sets_key([GeneSet("a", ("A",))]) != sets_key([GeneSet("a", ("B",))])
