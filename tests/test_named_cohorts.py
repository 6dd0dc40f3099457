"""Cohorts whose tables spell their genes in real ways, from the command line to the files, nothing accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from helpers.feature_cohort import toy_items, write_cohort
from helpers.named_genes import HUMAN, KINDS, MOUSE, ids
from hespotex import pipeline
from hespotex.cli.main import app
from hespotex.errors import GenePanelError
from hespotex.models.bundle import read_model
from hespotex.predicting import SlideOptions

QUICK = [
    "--set", "panel.n_top=20", "--set", "model.epochs=2", "--set", "model.ensemble=1", "--set", "model.hidden=16",
    "--set", "model.n_components=8", "--threads", "1",
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("blank_pictures")


def cohort(folder: Path, *names: Sequence[str]) -> Path:
    """Four sections of two patients with these genes."""
    items = [
        replace(item, section=replace(item.section, genes=np.array(genes)))
        for item, genes in zip(toy_items(), names, strict=True)
    ]
    return write_cohort(folder, items)


def run(*arguments: object) -> str:
    """What the command prints; it has to succeed."""
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "400"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_four_mouse_sections_by_symbols_run_without_anything_accepted(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, *[MOUSE] * 4)
    run("inspect", manifest)
    run("cross-validate", manifest, "--out", tmp_path / "cv", *QUICK)
    genes = pd.read_csv(tmp_path / "cv" / "genes.csv", keep_default_na=False)
    assert set(genes["gene"]) <= set(MOUSE)
    run("train", manifest, "--out", tmp_path / "lab.hespotex", "--no-validate", *QUICK)
    run("predict", tmp_path / "lab.hespotex", manifest, "--out", tmp_path / "p", "--threads", "1")
    assert len(list((tmp_path / "p" / "predictions").glob("*.h5ad"))) == 4


COHORTS = {
    "rat symbols": ([KINDS["rat symbols"]] * 4, KINDS["rat symbols"]),
    "two references": ([ids(version=5), ids(version=5), ids(version=6), ids()], ids()),
    "one section with the assembly": ([HUMAN, KINDS["GRCh38_"], HUMAN, HUMAN], HUMAN),
    "one section of R": ([KINDS["human symbols of R"], HUMAN, HUMAN, HUMAN], HUMAN),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", COHORTS)
def test_a_model_is_fitted_on_each_gene_once_with_the_counts_of_all_sections(
    kind: str, tmp_path: Path
) -> None:
    names, bare = COHORTS[kind]
    manifest = cohort(tmp_path, *names)
    run("inspect", manifest)
    run("train", manifest, "--out", tmp_path / "m.hespotex", "--no-validate", *QUICK)
    bundle = read_model(tmp_path / "m.hespotex")
    totals = sum(item.section.counts.sum(axis=0) for item in toy_items())  # type: ignore[union-attr, misc]
    expected = dict(zip(bare, np.asarray(totals).ravel(), strict=True))
    assert len(bundle.genes) >= 15
    found = dict(zip(bundle.genes, bundle.training_totals, strict=True))
    assert found == {gene: expected[gene] for gene in bundle.genes}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained", "new"),
    [
        ("human ids with version", "human ids"),
        ("human ids", "GRCh38_ids"),
        ("GRCh38_", "human symbols of R"),
        ("human symbols", "hg19_"),
    ],
)
def test_a_model_finds_its_genes_in_a_section_that_spells_them_in_another_way(
    trained: str, new: str, tmp_path: Path
) -> None:
    model, names = tmp_path / "lab.hespotex", [KINDS[trained]] * 2 + [KINDS[new]] * 2
    manifest = cohort(tmp_path, *names)
    run("train", manifest, "--out", model, "--sections", "A1,A2", "--no-validate", *QUICK)
    pipeline.predict(
        model, manifest, tmp_path / "p", sections=["B1"], options=SlideOptions(all_genes=True)
    )
    table = anndata.read_h5ad(tmp_path / "p" / "predictions" / "B1.h5ad")
    assert set(table.var_names) <= set(KINDS[trained])
    measured = dict(zip(KINDS[trained], toy_items()[2].section.counts.sum(axis=0).A1, strict=True))  # type: ignore[union-attr]
    found = np.asarray(table.layers["measured_counts"].sum(axis=0)).ravel()
    assert found.tolist() == [measured[gene] for gene in table.var_names]
    assert any("differ (kept)" in reason for reason in table.uns["hespotex"]["dropped"])


@pytest.mark.slow
def test_listed_genes_are_found_whatever_their_version(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, *[ids(version=5)] * 4)
    listed = tmp_path / "genes.txt"
    listed.write_text("\n".join([*ids()[:8], "ENSG00000099999"]) + "\n")
    said = run(
        "train", manifest, "--out", tmp_path / "m", "--no-validate", "--genes", listed, *QUICK
    )
    assert "1 of 9 listed genes are in no section's table, and count as 0" in said
    assert "ENSG00000099999" in said


def test_a_list_of_other_names_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, *[MOUSE] * 4)
    (tmp_path / "genes.txt").write_text("\n".join(ids()) + "\n")
    arguments = ["train", manifest, "--out", tmp_path / "m", "--genes", tmp_path / "genes.txt"]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(done.exception, GenePanelError)
    assert "found 30 of 30 unknown" in str(done.exception)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == []


def _name_table(folder: Path) -> Path:
    path = folder / "names.csv"
    path.write_text(
        "id,symbol\n" + "".join(f"{i},{n}\n" for i, n in zip(ids(), HUMAN, strict=True))
    )
    return path


@pytest.mark.slow
def test_symbols_and_ids_are_one_panel_with_a_table_of_both_and_refused_without(
    tmp_path: Path,
) -> None:
    manifest = cohort(tmp_path, HUMAN, ids(version=5), ids(), HUMAN)
    arguments = ["train", manifest, "--out", tmp_path / "m.hespotex", "--no-validate", *QUICK]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert "--gene-names takes one" in str(done.exception)
    said = run(*arguments, "--gene-names", _name_table(tmp_path))
    assert (
        f"{len(HUMAN)} of {len(HUMAN)} genes are named by names.csv: ENSG00000000003.5 is now ACTB"
        in said
    )
    bundle = read_model(tmp_path / "m.hespotex")
    totals = np.asarray(sum(item.section.counts.sum(axis=0) for item in toy_items())).ravel()  # type: ignore[union-attr, misc]
    expected = dict(zip(HUMAN, totals, strict=True))
    assert len(bundle.genes) >= 15
    assert dict(zip(bundle.genes, bundle.training_totals, strict=True)) == {
        gene: expected[gene] for gene in bundle.genes
    }


@pytest.mark.slow
def test_a_model_of_ids_is_scored_on_sections_by_symbols_with_a_table_of_both(
    tmp_path: Path,
) -> None:
    manifest, model = cohort(tmp_path, ids(), ids(), HUMAN, HUMAN), tmp_path / "m.hespotex"
    table = ["--gene-names", _name_table(tmp_path)]
    run("train", manifest, "--out", model, "--sections", "A1,A2", "--no-validate", *QUICK)
    assert set(read_model(model).genes) <= set(ids())
    run(
        "evaluate",
        model,
        manifest,
        "--out",
        tmp_path / "e",
        "--sections",
        "B1,B2",
        "--threads",
        "1",
        *table,
    )
    genes = pd.read_csv(tmp_path / "e" / "genes.csv")
    assert set(genes["gene"]) == set(read_model(model).genes)
    assert genes["pcc_composition"].notna().any()
