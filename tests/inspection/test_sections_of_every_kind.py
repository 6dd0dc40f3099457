"""Checks that compare sections let two sections of every real kind pass, and stop what is mixed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from helpers.inspected_sections import make_section, shape, spots_on
from helpers.made_sections import BUILDERS, KNOWN, Build, xenium
from helpers.named_genes import HUMAN, KINDS, MOUSE, N, counts, ids, species_of
from hespotex.inspection.checks import check_together
from hespotex.inspection.findings import Finding
from hespotex.inspection.naming import GivenPanel, join_sections
from hespotex.sections.duplicates import check_distinct
from hespotex.sections.section import ManifestRow, Section, read_section
from hespotex.spots.base import SpotSource

XY = spots_on(shape())[:100]


def section(name: str, genes: Sequence[str], seed: int) -> Section:
    table = counts(len(XY), seed, len(genes))
    return make_section(None, XY, name=name, genes=np.array(genes), counts=table)


def together(*tables: Sequence[str], panel: Sequence[str] = ()) -> list[Finding]:
    """What a run says of sections with these genes, in this order, named A, B, C."""
    sections = [
        section(name, genes, seed)
        for seed, (name, genes) in enumerate(zip("ABC", tables, strict=False))
    ]
    given = GivenPanel(tuple(panel))
    joined, said = join_sections(sections, given)
    check_distinct(joined)
    return [*said, *check_together(joined, given)]


def alarms(found: Sequence[Finding]) -> list[str]:
    return [f"{f.colour}: {f}" for f in found if f.colour != "green"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_sections_of_one_kind_pass_without_a_word(kind: str) -> None:
    assert together(KINDS[kind], KINDS[kind]) == []
    assert alarms(together(KINDS[kind], KINDS[kind][::-1])) == []
    assert together(KINDS[kind], panel=KINDS[kind][:20]) == []


SYMBOLS = {
    "human": [
        "human symbols", "GRCh38_", "GRCh38_____", "GRCh38-", "GRCh38-2020-A_", "hg19_", "human symbols of R",
        "human symbols of Seurat",
    ],
    "mouse": ["mouse symbols", "mm10___", "mm10-1.2.0_premrna___", "mouse symbols of R"],
    "rat": ["rat symbols", "mRatBN7.2_"],
}  # fmt: skip
IDS = {
    "human": ["human ids", "human ids with version", "human ids, half with version", "GRCh38_ids"],
    "mouse": ["mouse ids", "mouse ids with version", "mm10___ids with version"],
    "rat": ["rat ids", "rat ids with version"],
}
JOINABLE = [pair for group in (*SYMBOLS.values(), *IDS.values()) for pair in combinations(group, 2)]


@pytest.mark.parametrize(("one", "other"), JOINABLE)
def test_one_species_spelt_in_two_ways_is_joined_gene_by_gene(one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        sections = [section("A", KINDS[first], 0), section("B", KINDS[second], 1)]
        joined, said = join_sections(sections)
        names = [[] if s.genes is None else s.genes.tolist() for s in joined]
        assert names[0] == names[1] != []
        assert said
        assert alarms([*said, *check_together(joined)]) == []


@pytest.mark.parametrize(("one", "other"), JOINABLE)
def test_a_new_section_takes_the_names_of_the_model(one: str, other: str) -> None:
    panel = GivenPanel(tuple(KINDS[one]))
    joined, _ = join_sections([section("A", KINDS[other], 0)], panel)
    assert joined[0].genes is not None
    assert joined[0].genes.tolist() == KINDS[one]
    assert alarms(check_together(joined, panel)) == []


PURE = ["human symbols", "mouse symbols", "rat symbols", "human ids", "mouse ids", "rat ids"]
MIXED = [
    (a, b)
    for a, b in combinations(
        [*PURE, "GRCh38_", "mm10___", "mRatBN7.2_", "human ids with version", "mouse ids with version"], 2
    )
    if species_of(a) != species_of(b)
    and {species_of(a), species_of(b)} != {"mouse", "rat"}
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), MIXED)
def test_two_species_are_refused_in_any_order(one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        found = together(KINDS[first], KINDS[second])
        assert [f.subject for f in found if f.colour == "red"] == ["B"]
        assert any(
            f.colour == "red" and "keep the sections of one species" in f.remedy for f in found
        )
        assert any(f.colour == "red" for f in together(KINDS[first], panel=KINDS[second]))


def test_two_species_are_refused_behind_a_section_that_tells_none() -> None:
    silent = [f"probe{k}" for k in range(N)]
    found = together([*silent, *HUMAN, *MOUSE], HUMAN, MOUSE)
    assert any("mouse or rat, where B has symbols as of human" in f.found for f in found)


def test_mouse_and_rat_ids_are_two_species_although_their_symbols_look_alike() -> None:
    (red,) = [f for f in together(KINDS["mouse ids"], KINDS["rat ids"]) if f.colour == "red"]
    assert red.found == "Ensembl ids as of rat, where A has Ensembl ids as of mouse"


@pytest.mark.parametrize(
    ("one", "other", "remedy"),
    [
        ("human symbols", "human ids", "no mapping between them stands in the files"),
        ("human symbols", "human ids with version", "no mapping between them stands in the files"),
        ("human symbols", "human ids with symbols", "keep the id or the symbol alone"),
        ("human ids", "human ids with symbols", "keep the id or the symbol alone"),
    ],
)
def test_symbols_and_ids_are_refused_with_what_to_do(one: str, other: str, remedy: str) -> None:
    (red,) = [f for f in together(KINDS[one], KINDS[other]) if f.colour == "red"]
    assert red.subject == "B"
    assert remedy in red.remedy


def test_no_gene_in_common_is_refused() -> None:
    (red,) = [f for f in together(HUMAN, [f"XYZ{k}" for k in range(N)]) if f.colour == "red"]
    assert red.found.startswith(
        f"none of its {N} genes (XYZ0, ...) is one of the {N} of A (ACTB, ...)"
    )


def test_two_small_panels_that_share_a_few_genes_pass() -> None:
    panels = [section("A", HUMAN[:16], 0), section("B", HUMAN[12:], 1)]
    found = check_together([replace(s, missing_genes="unmeasured") for s in panels])
    assert alarms(found) == []
    assert any("only 4 of 16 genes are also in A" in f.found for f in found)


def test_pieces_that_interlock_on_one_slide_are_no_section_twice(tmp_path: Path) -> None:
    slide = tmp_path / "slide.png"
    slide.write_bytes(b"one image")
    first = make_section(slide, XY, name="A", seed=0)
    between = make_section(
        slide, XY + 20.0, name="B", seed=1
    )  # in the gaps, half a pitch away in x and y
    apart = check_together([first, between])
    assert not any("the same image" in f.found for f in apart)
    near = check_together([first, make_section(slide, XY + 3.0, name="B", seed=1)])
    assert any("the same image as section A" in f.found for f in near)


def test_ids_of_the_kind_of_case_08_become_one_gene_each() -> None:
    first = ids(version=5)
    second = [n.rsplit(".", 1)[0] + ".9" if k % 3 == 0 else n for k, n in enumerate(first)]
    joined, said = join_sections(
        [section(n, g, k) for k, (n, g) in enumerate(zip("AB", (first, second), strict=True))]
    )
    assert joined[0].genes is not None
    assert joined[0].genes.tolist() == ids()
    assert joined[1].genes is not None
    assert joined[1].genes.tolist() == ids()
    assert [f.found for f in said] == [
        f"{N} genes are joined with the others' although versions of their Ensembl ids differ: "
        f"{table[0]} is now {ids()[0]}"
        for table in (first, second)
    ]
    assert joined[1].dropped == {
        "genes joined although versions of their Ensembl ids differ (kept)": N
    }


# -------------------------------------------------------------------------------- technologies


def _cytassist(folder: Path, known: object) -> SpotSource:
    """As Visium, with a spot diameter of about 70 um in its scale factors."""
    from helpers.made_sections import space_ranger, write_scale

    source = space_ranger(folder, known)  # type: ignore[arg-type]
    write_scale(folder / "spatial" / "scalefactors_json.json", spot_diameter_fullres=140.0)
    return source


TECHNOLOGIES: dict[str, Build] = {**BUILDERS, "cytassist": _cytassist, "xenium": xenium}


@pytest.fixture(scope="module")
def sections_by_technology(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Section]]:
    """Two sections of each technology, of other counts, through its reader."""
    folder = tmp_path_factory.mktemp("technologies")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spatialdata and its libraries warn of each other
        return {
            name: [_read(folder / f"{name}{copy}", name, seed=2 * number + copy) for copy in (0, 1)]
            for number, name in enumerate(TECHNOLOGIES)
        }


def _read(folder: Path, name: str, seed: int) -> Section:
    known = replace(KNOWN, genes=HUMAN, counts=counts(len(KNOWN.barcodes), seed))
    source = TECHNOLOGIES[name](folder, known)
    diameter = 100.0 if name == "visium_hd" else 55.0
    stated = {"mpp": 0.5, "spot_pitch_um": 100.0, "spot_diameter_um": diameter}
    given = {k: v for k, v in asdict(source).items() if v is not None}
    kind = "space_ranger" if name == "cytassist" else name
    return read_section(ManifestRow(folder.name, f"P{seed}", None, format=kind, **stated | given))


@pytest.mark.parametrize(("one", "other"), list(product(TECHNOLOGIES, TECHNOLOGIES)))
def test_sections_of_any_two_technologies_pass(
    one: str, other: str, sections_by_technology: dict[str, list[Section]]
) -> None:
    pair = sections_by_technology[one][0], sections_by_technology[other][1]
    joined, said = join_sections(pair)
    check_distinct(joined)
    assert [*said, *check_together(joined)] == []
