"""Tables that never looked for genes which others hold: told from tables in which a gene was never seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.counted_sections import make_section
from helpers.made_sections import KNOWN, space_ranger, write_10x_h5
from hespotex.datasets import make_section_arrays
from hespotex.inspection.checks import check_together
from hespotex.inspection.unseen import unseen_findings
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import Section, read_section
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots

GENES = [f"GENE{g}" for g in range(60)]


def drawn(section_id: str, kept: int = 60, seed: int = 0) -> Section:
    """100 spots with 2 counts of every gene on average; only the first `kept` genes are in the table."""
    counts = np.random.default_rng(seed).poisson(2.0, (100, 60))[:, :kept]
    return make_section(counts, GENES[:kept], section_id)


def test_a_table_without_genes_that_others_hold_often_is_red_and_says_what_to_state() -> None:
    found = unseen_findings([drawn("A"), drawn("B", kept=36, seed=1), drawn("C", seed=2)])
    assert [(f.subject, f.colour) for f in found] == [("B", "red")]
    assert found[0].found.startswith(
        "no count of 24 of the 60 genes that are frequent in other sections (GENE"
    )
    assert found[0].remedy.startswith("state the manifest's column missing_genes: unmeasured where")


@pytest.mark.parametrize("meaning", ["zero", "unmeasured"])
def test_a_stated_choice_passes(meaning: str) -> None:
    stated = replace(
        drawn("B", kept=36, seed=1),
        missing_genes=meaning,  # type: ignore[arg-type]
        missing_genes_stated=True,
    )
    assert unseen_findings([drawn("A"), stated]) == []


@pytest.mark.parametrize("form", ["ENSG{:011d}", "DEPRECATED_GENE{}", "gene{}"])
def test_genes_under_other_names_are_no_probe_set(form: str) -> None:
    other = replace(
        drawn("B", seed=1), genes=np.array([*GENES[:36], *map(form.format, range(36, 60))])
    )
    found = {f.subject: f for f in unseen_findings([drawn("A"), other])}
    assert set(found) == {"A", "B"}
    assert found["B"].found.startswith(
        "no count of 24 genes that are frequent in other sections (G"
    )
    assert f", and 24 frequent genes that no other section has ({form[:4]}" in found["B"].found
    assert found["B"].remedy.startswith("name the genes of all sections in one way; only where")


def test_a_probe_set_with_a_few_probes_of_its_own_is_one() -> None:
    names = np.array([*GENES[:30], *(f"OWN{i}" for i in range(6))])
    probes = replace(drawn("B", kept=36, seed=1), genes=names)
    (found,) = (f for f in unseen_findings([drawn("A"), probes]) if f.subject == "B")
    assert "as of a probe set" in found.found


def test_genes_that_stand_in_the_table_without_a_count_are_as_telling() -> None:
    section = drawn("B", seed=1)
    counts = section.counts.toarray()  # type: ignore[union-attr]
    counts[:, :24] = 0
    found = unseen_findings([drawn("A"), make_section(counts, GENES, "B")])
    assert [f.subject for f in found] == ["B"]


def test_rare_genes_that_were_never_seen_pass() -> None:
    rng = np.random.default_rng(0)
    rare = [rng.poisson(np.r_[np.full(30, 3.0), np.full(30, 0.02)], (100, 60)) for _ in range(3)]
    sections = [
        make_section(table[:, seen], np.array(GENES)[seen].tolist(), name)
        for table, name in zip(rare, "ABC", strict=True)
        for seen in [table.sum(axis=0) > 0]
    ]
    assert len({len(s.genes) for s in sections if s.genes is not None}) > 1
    assert unseen_findings(sections) == []


def test_a_few_genes_of_blood_in_one_section_pass() -> None:
    bloody, dry = drawn("A"), drawn("B", kept=57, seed=1)
    assert unseen_findings([bloody, dry, drawn("C", kept=57, seed=2)]) == []


@pytest.mark.slow
def test_painted_patients_who_lack_some_genes_pass_alone_and_together() -> None:
    """The cohort of the demo: six of its genes are of single patients."""
    sections = []
    for patient, number in product(range(3), range(2)):
        painted = make_section_arrays(patient=patient, section=number, mpp=8.0)
        genes = painted.truth.genes.tolist()
        sections.append(make_section(painted.counts, genes, f"P{patient}S{number}"))
    assert unseen_findings(sections) == []
    assert [unseen_findings(pair) for pair in permutations(sections, 2)] == [[]] * 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["her2st", "mob"])
def test_any_two_real_sections_pass_and_a_filtered_one_does_not(
    name: str, shared_data: Path
) -> None:
    rows = read_manifest(shared_data / name / "sections.csv").rows
    sections = [read_section(row) for row in rows]
    for one in sections:
        for other in sections:
            assert one is other or unseen_findings([one, other]) == []
    last = sections[-1]
    assert last.genes is not None
    asked = np.arange(len(last.genes)) % 20 > 0  # one gene in twenty has no probe
    probes = replace(last, genes=last.genes[asked], counts=last.counts[:, asked])  # type: ignore[index]
    assert [f.subject for f in unseen_findings([*sections[:-1], probes])] == [last.section_id]


def test_probe_sets_that_the_file_names_are_unmeasured_without_a_question(tmp_path: Path) -> None:
    path = write_10x_h5(tmp_path / "filtered_feature_bc_matrix.h5", KNOWN)
    with h5py.File(path, "r+") as file:
        file["matrix/features/target_sets/Visium Human Transcriptome Probe Set"] = [0, 1, 2, 4]
    source = space_ranger(tmp_path / "outs", KNOWN)
    path.replace(tmp_path / "outs" / path.name)
    table = read_spots("space_ranger", source)
    assert table.genes is not None
    assert table.genes.tolist() == ["GENE0", "GENE1", "GENE2", "GENE4"]
    assert table.missing_genes == "unmeasured"
    assert table.dropped["genes that its probe set does not ask for"] == 3
    np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts[:, [0, 1, 2, 4]])  # type: ignore[union-attr]


def test_the_probe_set_beside_the_counts_says_so_too(tmp_path: Path) -> None:
    source = space_ranger(tmp_path / "outs", KNOWN)
    assert read_spots("space_ranger", source).missing_genes == "zero"
    (tmp_path / "outs" / "probe_set.csv").write_text(
        "#panel_name=Visium Human Transcriptome Probe Set v2.0\ngene_id,probe_seq,probe_id,included,region\n"
    )
    assert read_spots("space_ranger", source).missing_genes == "unmeasured"
    stated = replace(source, missing_genes="zero")
    assert isinstance(stated, SpotSource)
    assert read_spots("space_ranger", stated).missing_genes == "zero"


def test_what_is_red_is_not_said_again_in_yellow() -> None:
    found = check_together([drawn("A"), drawn("B", kept=20, seed=1)])
    assert [f.colour for f in found if f.topic == "genes"] == ["red"]
