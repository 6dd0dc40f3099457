"""Genes that a user adds to the panel, from the command line to the report's search."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from helpers.blank import blank_pictures
from helpers.feature_cohort import toy_items, write_cohort
from hespotex.cli.main import app
from hespotex.cli.options import named_genes
from hespotex.errors import ConfigError
from hespotex.models.bundle import read_model

QUICK = [
    "--set", "model.epochs=2", "--set", "model.ensemble=1", "--set", "model.hidden=16",
    "--set", "model.n_components=8", "--set", "panel.min_spot_fraction=0.5", "--threads", "1",
]  # fmt: skip
COMMA = "Gm,1"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sections; one gene of each is seen in few spots, and one gene's name has a comma."""
    items = []
    for item in toy_items():
        counts = item.section.counts.toarray()  # type: ignore[union-attr]
        counts[:, 3] = 0
        counts[:4, 3] = 1
        genes = np.array([COMMA if g == "G04" else g for g in item.section.genes])  # type: ignore[union-attr]
        section = replace(item.section, counts=type(item.section.counts)(counts), genes=genes)
        items.append(replace(item, section=section))
    return write_cohort(tmp_path_factory.mktemp("cohort"), items)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "400"})


@pytest.mark.slow
def test_an_added_gene_is_fitted_and_an_absent_one_is_named_before_the_work(
    manifest: Path, tmp_path: Path
) -> None:
    plain, added = tmp_path / "plain.hespotex", tmp_path / "added.hespotex"
    assert run("train", manifest, "--out", plain, "--no-validate", *QUICK).exit_code == 0
    done = run(
        "train", manifest, "--out", added, "--no-validate", "--add-genes", "G03,g05x", *QUICK
    )
    assert done.exit_code == 0, done.output
    assert "1 of 2 genes cannot be added, since no section's table has them: g05x" in done.output
    before, now = read_model(plain), read_model(added)
    assert set(now.genes) - set(before.genes) == {"G03"}
    assert before.others.names[0] == "G03"
    assert before.others.shares[0] == pytest.approx(4 / 81, abs=1e-5)
    assert now.config.panel.add == ("G03", "g05x")
    refused = run(
        "train", manifest, "--out", tmp_path / "no.hespotex", "--add-genes", "g03", *QUICK
    )
    assert str(refused.exception) == (
        "expected genes of the sections' tables to add, found in none: g03; check the names (similar: G03)"
    )
    assert not (tmp_path / "no.hespotex").exists()


@pytest.mark.slow
def test_predict_names_a_gene_with_a_comma_and_tells_why_another_is_absent(
    manifest: Path, tmp_path: Path
) -> None:
    model = tmp_path / "m.hespotex"
    assert run("train", manifest, "--out", model, "--no-validate", *QUICK).exit_code == 0
    done = run("predict", model, manifest, "--out", tmp_path / "p", "--untested", "--export", "parquet",
               "--show-genes", f'"{COMMA}",G03,G00', "--threads", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (
        "G03 was seen in 4.9 % of the training spots, where 50 % are asked; train with --add-genes G03"
        in done.output
    )
    frame = pd.read_parquet(tmp_path / "p" / "predictions" / "A1.parquet")
    assert {COMMA, "G00"} <= set(frame)
    assert "G03" not in frame


@pytest.mark.slow
def test_the_search_of_a_report_answers_for_genes_that_no_fold_predicts(
    manifest: Path, tmp_path: Path
) -> None:
    with blank_pictures():
        done = run("cross-validate", manifest, "--out", tmp_path / "cv", *QUICK)
    assert done.exit_code == 0, done.output
    absent = pd.read_csv(tmp_path / "cv" / "absent_genes.csv").set_index("gene")
    assert absent.loc["G03", "seen"] == pytest.approx(4 / 81, abs=1e-5)
    page = (tmp_path / "cv" / "report.html").read_text()
    found = re.search(r'"absent":(\{.*?\}),"', page)
    assert found is not None
    data = json.loads(found[1])
    sentence = data["sentences"][data["why"][data["names"].index("G03")]]
    assert sentence == (
        "was seen in 4.9 % of the training spots, where 50 % are asked. A model trained with --add-genes predicts it."
    )


def test_genes_are_named_in_a_file_or_in_the_option(tmp_path: Path) -> None:
    listed = tmp_path / "genes.txt"
    listed.write_text("A,1\nB\n")
    assert named_genes(str(listed)) == ("A,1", "B")
    assert named_genes("L" * 300) == ("L" * 300,)
    assert named_genes('"A,1",B') == ("A,1", "B")
    with pytest.raises(
        ConfigError, match=r"expected genes as GENE,GENE or in a file .* found ' , '"
    ):
        named_genes(" , ")


@pytest.mark.slow
def test_a_gene_of_300_letters_is_shown_in_every_format(tmp_path: Path) -> None:
    long = "L" * 300
    items = [
        replace(
            item,
            section=replace(
                item.section,
                genes=np.array([long if g == "G00" else g for g in item.section.genes]),  # type: ignore[union-attr]
            ),
        )
        for item in toy_items()
    ]
    manifest, model = write_cohort(tmp_path / "c", items), tmp_path / "m.hespotex"
    assert run("train", manifest, "--out", model, "--no-validate", *QUICK).exit_code == 0
    done = run("predict", model, manifest, "--out", tmp_path / "p", "--untested", "--show-genes", long,
               "--export", "png,parquet,geojson", "--threads", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert long in pd.read_parquet(tmp_path / "p" / "predictions" / "A1.parquet")
    assert len(list((tmp_path / "p" / "predictions" / "A1.pictures").glob("*.png"))) == 1
