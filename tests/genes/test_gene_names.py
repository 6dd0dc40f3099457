"""One gene under several names: which spellings are one gene, and which never are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hespotex.genes.gene_names import (
    bare_names,
    find_names,
    join_names,
    make_names,
    split_assembly,
    without_version,
)


def join(*tables: list[str], anchor: tuple[str, ...] = ()) -> list[list[str]]:
    return [j.names.tolist() for j in join_names([np.array(t) for t in tables], anchor)]


@pytest.mark.parametrize(
    ("name", "assembly", "rest"),
    [
        ("GRCh38_ACTB", "GRCh38", "ACTB"),
        ("GRCh38______ACTB", "GRCh38", "ACTB"),
        ("GRCh38-ACTB", "GRCh38", "ACTB"),
        ("hg19.HLA.A", "hg19", "HLA.A"),
        ("GRCh38-2020-A_ACTB", "GRCh38", "ACTB"),
        ("GRCh38.p13_ACTB", "GRCh38", "ACTB"),
        ("mm10-1.2.0_premrna___Actb", "mm10", "Actb"),
        ("mm10_ENSMUSG00000051951.5", "mm10", "ENSMUSG00000051951.5"),
        ("Rnor_6.0_Actb", "Rnor_6.0", "Actb"),
        ("RN7SK", "", "RN7SK"),
        ("hg19", "", "hg19"),
        ("HLA-A", "", "HLA-A"),
    ],
)
def test_the_assembly_before_a_name_is_split_off(name: str, assembly: str, rest: str) -> None:
    assert split_assembly(name) == (assembly, rest)


def test_assemblies_are_cut_off_where_one_stands_before_nearly_all_names() -> None:
    assert bare_names(["GRCh38_ACTB", "GRCh38_TP53"]) == ["ACTB", "TP53"]
    both = ["GRCh38_ACTB", "mm10___Actb"]
    assert bare_names(both) == both


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("ENSG00000141510.18", "ENSG00000141510"),
        ("ENSMUSG00000051951", "ENSMUSG00000051951"),
        ("ENSG00000182378.15_PAR_Y", "ENSG00000182378_PAR_Y"),
        ("ENSGR0000182378.10", "ENSG00000182378_PAR_Y"),
        ("AC012345.1", "AC012345.1"),
        ("RP11-34P13.7", "RP11-34P13.7"),
    ],
)
def test_versions_are_cut_off_ids_alone(name: str, bare: str) -> None:
    assert without_version(name) == bare


def test_tables_that_name_genes_alike_keep_their_names() -> None:
    assert join(["ENSG00000000003.1", "X"], ["X", "ENSG00000000003.1"])[0] == [
        "ENSG00000000003.1",
        "X",
    ]


def test_where_versions_differ_all_are_cut_off() -> None:
    found = join(
        ["ENSG00000000003.1", "ENSG00000000005.2"], ["ENSG00000000003.4", "ENSG00000000005.2"]
    )
    assert found[0] == found[1] == ["ENSG00000000003", "ENSG00000000005"]


def test_a_gene_that_stands_twice_without_its_version_keeps_its_name() -> None:
    one, other = (
        ["ENSG00000000003.1", "ENSG00000000003.2", "ENSG00000000005.1"],
        ["ENSG00000000003", "ENSG00000000005"],
    )
    joined = join_names([np.array(one), np.array(other)])
    assert joined[0].names.tolist() == [*one[:2], "ENSG00000000005"]
    assert [j.kept_apart for j in joined] == [2, 1]


def test_the_copy_on_chromosome_y_is_a_gene_of_its_own() -> None:
    gencode = ["ENSG00000182378.15", "ENSG00000182378.15_PAR_Y"]
    assert join(gencode, ["ENSG00000182378"])[0] == ["ENSG00000182378", "ENSG00000182378_PAR_Y"]


def test_the_name_that_r_or_seurat_changed_gives_way_to_the_other() -> None:
    assert join(["HLA.A", "X7SK", "Y-RNA"], ["HLA-A", "7SK", "Y_RNA"])[0] == [
        "HLA-A",
        "7SK",
        "Y_RNA",
    ]


@pytest.mark.parametrize(
    ("one", "other"), [("ACTB", "Actb"), ("AP1-2", "AP1/2"), ("GeneA", "GENEA")]
)
def test_names_that_differ_in_case_or_that_none_was_made_of_stay_apart(
    one: str, other: str
) -> None:
    assert join([one, "X"], [other, "X"]) == [[one, "X"], [other, "X"]]


def test_the_anchor_goes_before_and_ambiguous_anchors_are_compared_as_written() -> None:
    panel = ("GRCh38_ACTB", "GRCh38_TP53")
    assert join(["TP53", "ACTB", "VIM"], anchor=panel) == [["GRCh38_TP53", "GRCh38_ACTB", "VIM"]]
    twice = ("ENSG00000000003.1", "ENSG00000000003.2")
    assert join(["ENSG00000000003.2"], anchor=twice) == [["ENSG00000000003.2"]]


def test_names_are_found_under_another_form_where_it_is_unique() -> None:
    known = ["ENSG00000000003.1", "HLA-A", "AP1-2", "AP1/2", "ACTB"]
    wanted = ["ENSG00000000003", "HLA.A", "AP1.2", "hg19_ACTB", "NOPE"]
    assert find_names(wanted, known) == {
        "ENSG00000000003": "ENSG00000000003.1", "HLA.A": "HLA-A", "hg19_ACTB": "ACTB",
    }  # fmt: skip
    assert find_names(["ACTB", "hg19_ACTB"], known) == {"ACTB": "ACTB"}


NAMES = st.lists(
    st.from_regex(
        r"(GRCh38_|mm10___)?(ENSG0000000000[0-9](\.[1-3])?|[XH][A1-]{1,3}[.-]?[0-9]?)",
        fullmatch=True,
    ),
    min_size=1,
    max_size=6,
    unique=True,
)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_joining_never_makes_two_genes_of_a_table_one(tables: list[list[str]]) -> None:
    for before, after in zip(tables, join(*tables), strict=True):
        assert len(set(after)) == len(before)
    assert join(*join(*tables)) == join(*tables)  # nothing is left to join


@pytest.mark.slow
@given(st.text(min_size=1, max_size=8))
def test_what_r_makes_of_a_name_is_a_name_of_r(name: str) -> None:
    made = make_names(name)
    assert make_names(made) == made
