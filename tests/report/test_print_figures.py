"""`hespotex report --figures`: maps for print that say grade and interval, as PDF or SVG."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.toy_report import write_scored_run
from hespotex.cli.main import app
from hespotex.storage.run_folder import RunDir


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return write_scored_run(tmp_path_factory.mktemp("printed") / "run")


def _said(path: Path) -> str:
    """Texts of an SVG, which stand in comments above their outlines, as one line."""
    return " ".join(re.findall(r"<!-- (.*?) -->", path.read_text()))


def test_a_figure_of_a_named_gene_says_grade_evidence_and_interval(run: RunDir) -> None:
    said = CliRunner().invoke(app, ["report", str(run.path), "--figures", "svg", "--genes", "HLA-A, ACTB"])  # fmt: skip
    assert said.exit_code == 0, said.output
    figures = sorted(run.figures.glob("*.svg"))
    assert [f.name for f in figures] == ["S1_ACTB.svg", "S1_HLA-A.svg"]
    words = _said(figures[1])
    assert "HLA-A: predicted composition, grade C" in words
    assert "PCC given depth" in words
    assert "90% interval of composition: ±" in words
    first = figures[1].read_bytes()
    CliRunner().invoke(app, ["report", str(run.path), "--figures", "svg", "--genes", "HLA-A"])
    assert figures[1].read_bytes() == first


def test_the_best_graded_genes_are_drawn_where_none_is_named(run: RunDir, tmp_path: Path) -> None:
    page = tmp_path / "elsewhere" / "page.html"
    said = CliRunner().invoke(app, ["report", str(run.path), "--figures", "pdf", "--out", str(page)])  # fmt: skip
    assert said.exit_code == 0, said.output
    figures = sorted(path.name for path in (page.parent / "figures").iterdir())
    assert len(figures) == 3
    assert "S1_ACTB.pdf" in figures
    assert (page.parent / "figures" / "S1_ACTB.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--figures", "pdf", "--genes", "ACTB,NOPE"], "expected genes that a section of run has, found: NOPE"),
        (["--genes", "ACTB"], "expected --genes beside --figures pdf or svg, found: no --figures"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_said_and_nothing_is_written(
    run: RunDir, options: list[str], message: str
) -> None:
    before = sorted(run.figures.glob("*.pdf"))
    said = CliRunner().invoke(app, ["report", str(run.path), *options])
    assert message.replace("found: ", "found ") in str(said.exception)
    assert sorted(run.figures.glob("*.pdf")) == before
