"""Contracts of the preflight on counts and gene names, of one section and of several together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.inspected_sections import (
    GENES,
    counts_of,
    make_section,
    paint,
    save,
    shape,
    spots_on,
    write_legacy,
    write_manifest,
)
from hespotex.inspection import check_sections, inspect_input
from hespotex.inspection.findings import Finding
from hespotex.inspection.genes import describe_genes
from hespotex.spots.base import MissingGenes


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(paint(shape()), tmp_path_factory.mktemp("slide") / "l.png")


def about(findings: list[Finding] | tuple[Finding, ...], topic: str, colour: str) -> list[Finding]:
    return [f for f in findings if f.topic == topic and f.colour == colour]


# ---------------------------------------------------------------------------------------- genes


@pytest.mark.parametrize(
    ("names", "kind", "species", "n_mitochondrial"),
    [
        (
            ["ACTB", "MT-CO1", "C1orf112", "HLA-A", "CD3E", "KRT8", "VIM", "EPCAM"],
            "symbols",
            "human",
            1,
        ),
        (["Actb", "mt-Co1", "Gm1234", "1700001A01Rik", "Cd3e"], "symbols", "mouse or rat", 1),
        (["ENSG00000198804", "ENSG00000075624"], "Ensembl ids", "human", 1),
        (
            ["ENSMUSG00000064351.3", "ENSMUSG00000000001.4"],
            "Ensembl ids with version",
            "mouse",
            1,
        ),
        (["ENSRNOG00000034234", "ENSRNOG00000000001"], "Ensembl ids", "rat", 0),
        (["ENSG00000198804", "ACTB"], "symbols and Ensembl ids", "human", 1),
        (["ENSG00000198804.2", "ENSG00000075624"], "Ensembl ids, some with version", "human", 1),
        (["ENSG00000182378.15_PAR_Y", "ENSG00000075624.1"], "Ensembl ids with version", "human", 0),
        (
            ["ENSG00000141510_TP53", "ENSG00000075624_ACTB"],
            "ids and symbols in one name",
            "human",
            0,
        ),
        (["Xkr4|ENSMUSG00000051951.5"], "ids and symbols in one name", "mouse", 0),
        (["GRCh38_ENSG00000198804"], "Ensembl ids", "human", 1),
        (["hg19_MT-CO1", "hg19_ACTB"], "symbols", "human", 1),
        (["MT.CO1", "HLA.A", "ACTB"], "symbols", "human", 1),
        (["LOC100911", "RGD1305184", "Actb", "Mt-co1"], "symbols", "mouse or rat", 1),
        (["actb1", "mt-co1", "sox10"], "symbols", None, 1),
        (["1", "2"], "symbols", None, 0),
    ],
)
def test_names_tell_kind_species_and_mitochondrion(
    names: list[str], kind: str, species: str | None, n_mitochondrial: int
) -> None:
    found = describe_genes(np.array(names))
    assert (found.kind, found.species, found.also) == (kind, species, None)
    assert found.mitochondrial.sum() == n_mitochondrial


def test_two_species_in_one_reference_are_told() -> None:
    found = describe_genes(np.array(["GRCh38_ACTB"] * 3 + ["mm10___Actb"] * 2))
    assert (found.species, found.also) == ("human", "mouse")


# --------------------------------------------------------------------------------------- counts


def test_empty_spots_and_little_depth_are_yellow_and_counted() -> None:
    xy = spots_on(shape())
    counts = np.ones((len(xy), len(GENES)), dtype=int)
    counts[:3] = 0
    found = check_sections([make_section(None, xy, counts=counts)])
    shown = [f.found for f in about(found, "depth", "yellow")]
    assert any("median 6," in text for text in shown)
    assert f"3 of {len(xy)} spots without a single count" in shown


def test_mitochondrial_share_is_the_median_over_spots() -> None:
    xy = spots_on(shape())
    counts = np.full((len(xy), len(GENES)), 100)
    counts[:, GENES.tolist().index("MT-CO1")] = 700
    found = check_sections([make_section(None, xy, counts=counts)])
    (share,) = about(found, "depth", "yellow")
    assert "median 58.3 % (1 genes)" in share.found  # 700 of 1,200


def test_symbols_with_ids_where_none_is_known_are_said_and_pass() -> None:
    genes = np.array([*GENES[:3], "ENSG00000000003", "ENSG00000000005", "ENSG00000000419"])
    found = check_sections([make_section(None, spots_on(shape()), genes=genes)])
    assert not about(found, "genes", "red")
    assert [f.found for f in about(found, "genes", "green")] == [
        "symbols and Ensembl ids as of human"
    ]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1-Mar", "ACTB", "2-Sep"], "2 gene names are dates, numbers or errors of a spreadsheet"),
        (
            ["2.31E+19", "Actb", "Xkr4"],
            "1 gene names are dates, numbers or errors of a spreadsheet",
        ),
        (
            ["ENSG00000141510_TP53"],
            "every gene name holds an id and a symbol (ENSG00000141510_TP53)",
        ),
    ],
)
def test_names_that_join_with_no_other_table_are_yellow(names: list[str], said: str) -> None:
    xy = spots_on(shape())
    counts = np.full((len(xy), len(names)), 90)
    found = check_sections([make_section(None, xy, genes=np.array(names), counts=counts)])
    assert said in about(found, "genes", "yellow")[0].found


# ----------------------------------------------------------------------------- sections together


def test_symbols_and_ids_in_two_sections_are_red() -> None:
    ids = np.array([f"ENSG{i:011d}" for i in range(len(GENES))])
    xy = spots_on(shape())
    found = check_sections(
        [make_section(None, xy), make_section(None, xy, name="B", seed=1, genes=ids)]
    )
    (red,) = about(found, "genes", "red")
    assert red.subject == "B"
    assert "named by Ensembl ids (ENSG00000000000), in A by symbols (ACTB)" in red.found
    assert "no mapping between them stands in the files" in red.remedy


def test_counts_of_transcripts_are_told_and_joined_with_no_genes() -> None:
    ids, xy = [f"ENSG{i:011d}.2" for i in range(len(GENES))], spots_on(shape())
    transcripts = np.array([name.replace("ENSG", "ENST") for name in ids])
    alone = make_section(None, xy, name="T", seed=1, genes=transcripts)
    (said,) = about(check_sections([alone]), "genes", "yellow")
    assert said.found == "the counts are of transcripts (ENST00000000000.2), not of genes"
    for genes, kind in ((np.array(ids), "Ensembl ids with version"), (GENES, "symbols")):
        found = check_sections([make_section(None, xy, genes=np.array(genes)), alone])
        (red,) = about(found, "genes", "red")
        assert "by ids of transcripts (ENST" in red.found
        assert f"by {kind} (" in red.found
        assert red.remedy.startswith("sum the counts of the transcripts of each gene")


def test_two_species_and_foreign_genes_are_red() -> None:
    xy = spots_on(shape())
    mouse = np.array([g.capitalize() for g in GENES])
    other = np.array([f"LOC{i}" for i in range(len(GENES))])
    sections = [make_section(None, xy)] + [
        make_section(None, xy, name=name, seed=seed, genes=genes)
        for seed, (name, genes) in enumerate({"M": mouse, "O": other}.items(), 1)
    ]
    found = check_sections(sections)
    mouse_red, foreign_red = about(found, "genes", "red")
    assert "keep the sections of one species" in mouse_red.remedy
    assert "none of its 6 genes (LOC0, ...) is one of the 6 of A (ACTB, ...)" in foreign_red.found


def test_the_same_counts_under_two_ids_are_red_wherever_the_spots_lie() -> None:
    xy = spots_on(shape())
    found = check_sections([make_section(None, xy), make_section(None, xy + 7, name="B")])
    (red,) = about(found, "content", "red")
    assert (red.subject, red.found) == ("B", "the same counts as section A")


@pytest.mark.slow
def test_one_image_under_two_sections_is_yellow_where_spots_overlap(slide: Path) -> None:
    xy = spots_on(shape())
    left, right = xy[xy[:, 0] < 300], xy[xy[:, 0] > 400]
    apart = check_sections(
        [make_section(slide, left), make_section(slide, right, name="B", seed=1)]
    )
    assert not about(apart, "content", "yellow")
    over = check_sections([make_section(slide, xy), make_section(slide, xy, name="B", seed=1)])
    assert "the same image as section A" in about(over, "content", "yellow")[0].found


# -------------------------------------------------------------------------------------- mapping


@pytest.mark.slow
def test_a_mapping_is_offered_from_what_the_files_hold(tmp_path: Path) -> None:
    import anndata
    import pandas as pd

    xy = spots_on(shape())
    image = save(paint(shape()), tmp_path / "slide.png")
    ids = [f"ENSG{i:011d}" for i in range(len(GENES))]
    rows = []
    both = pd.DataFrame({"gene_ids": ids}, index=GENES)
    for name, var in {"A": both, "B": pd.DataFrame(index=[f"{i}.7" for i in ids])}.items():
        table = anndata.AnnData(counts_of(len(xy), seed=len(rows)).astype("f4"), var=var)
        table.obs_names = [f"s{i}" for i in range(len(xy))]
        table.obsm["spatial"] = xy
        table.write_h5ad(tmp_path / f"{name}.h5ad")
        row = {"section_id": name, "patient_id": name, "slide": image.name, "format": "h5ad"}
        rows.append(
            {**row, "expression": f"{name}.h5ad", "spot_pitch_um": "100", "spot_diameter_um": "55"}
        )
    inspection = inspect_input(write_manifest(tmp_path, rows))
    assert about(inspection.findings, "genes", "red")[0].subject == "B"
    assert inspection.gene_names == dict(zip(ids, GENES, strict=True))
    assert any(f"symbols of 6 of {len(GENES)} Ensembl ids" in f.found for f in inspection.findings)


@pytest.mark.slow
def test_no_mapping_is_made_up(tmp_path: Path) -> None:
    xy = spots_on(shape())
    a, b = (write_legacy(tmp_path, name, xy, seed=i) for i, name in enumerate("AB"))
    path = tmp_path / "B_counts.tsv"
    header, rest = path.read_text().split("\n", 1)
    path.write_text("\t" + "\t".join(f"ENSG{i:011d}" for i in range(len(GENES))) + "\n" + rest)
    assert header.count("\t") == len(GENES)
    inspection = inspect_input(write_manifest(tmp_path, [a, b]))
    assert inspection.gene_names == {}
    assert (
        "no mapping between them stands in the files"
        in about(inspection.findings, "genes", "red")[0].remedy
    )


@pytest.mark.parametrize(("missing", "said"), [("zero", True), ("unmeasured", False)])
def test_a_filtered_table_whose_absent_genes_would_count_as_zero_is_yellow(
    missing: MissingGenes, said: bool
) -> None:
    xy = spots_on(shape())
    few = make_section(None, xy + 7, name="B", genes=GENES[:2], counts=counts_of(len(xy), 1)[:, :2])
    found = check_sections([make_section(None, xy), replace(few, missing_genes=missing)])
    words = "2 genes, where A has 6: those that it lacks count as 0 in every spot"
    assert any(words in str(f) and f.colour == "yellow" for f in found) == said
