"""The report of a prediction: maps, grades and verdict, and no score that nobody took."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.made_claims import claims_of
from helpers.toy_prediction import (
    GENES,
    toy_counts,
    toy_extras,
    toy_prediction,
    toy_section,
)
from helpers.toy_report import data_of, in_browser, page_of, write_scored_run
from hespotex.export.h5ad import write_prediction
from hespotex.report.report import write_report
from hespotex.storage.run_folder import RunDir


def test_a_run_without_measured_values_has_maps_and_no_scores(tmp_path: Path) -> None:
    folder, section = RunDir(tmp_path / "run"), toy_section()
    write_prediction(
        folder.predictions / "S1.h5ad",
        section=section,
        genes=GENES,
        prediction=toy_prediction(section),
    )
    folder.finish({"verb": "predict"}, {})
    page = page_of(folder)
    assert "Prediction of 1 section" in page
    assert "no measured values" in page
    assert "Scores beside" not in page
    assert data_of(page)["sections"][0]["kinds"] == ["predicted_composition", "predicted_log1p"]
    assert data_of(page)["sections"][0]["picture"] is None


def predicted_with_measured(tmp_path: Path) -> RunDir:
    """A predict run of a measured training section: three of the model's six genes were written."""
    folder, section = RunDir(tmp_path / "run"), toy_section()
    write_prediction(
        folder.predictions / "S1.h5ad",
        section=section,
        genes=GENES,
        prediction=toy_prediction(section),
        counts=toy_counts(section),
        provenance={
            "n_panel_genes": 6,
            "ood_verdict": "like the training slides",
            "training_note": "the model was fitted on this section (its training section S1)",
        },
        extras=replace(toy_extras(section), claims=claims_of(["C", "D", "A", "D", "B", "D"])),
        columns=np.array([0, 2, 4]),
    )
    folder.finish({"verb": "predict"}, {})
    return folder


def test_a_prediction_of_a_measured_section_claims_no_score(tmp_path: Path) -> None:
    page = page_of(predicted_with_measured(tmp_path))
    assert "no measured values" not in page
    assert "beside what was measured; nothing was scored" in page
    assert "Section S1: the model was fitted on this section (its training section S1)." in page
    assert (
        "<td>like the training slides</td><td>3</td><td>30</td>" in page
    )  # three spots are flagged
    assert "genes of the model that are not predicted on this slide" in page
    assert "1 A · 1 B · 1 C" in page
    assert "A: as B, and supported" in page
    genes = data_of(page)["genes"]
    assert genes["names"] == [GENES[2], GENES[4], GENES[0]]  # best grade first
    columns = {c["label"]: c["values"] for c in genes["columns"]}
    assert columns["grade"] == ["A", "B", "C"]
    assert columns["evidence"] == ["predicted"] * 3
    assert columns["patients"] == [2.0] * 3


def test_measured_composition_is_of_the_whole_panel_though_few_genes_were_written(
    tmp_path: Path,
) -> None:
    def drawn(folder: RunDir, gene: str) -> np.ndarray:
        data = data_of(page_of(folder))
        (section,) = data["sections"]
        values = np.frombuffer(base64.b64decode(section["values"]), np.uint8)
        table = values.reshape(-1, len(section["kinds"]), section["n"])
        names = [data["genes"]["names"][g] for g in section["genes"]]
        return table[names.index(gene), section["kinds"].index("measured_composition")]

    few = predicted_with_measured(tmp_path)
    whole = write_scored_run(tmp_path / "whole")
    np.testing.assert_allclose(
        drawn(few, GENES[0]).astype(int), drawn(whole, GENES[0]).astype(int), atol=1
    )


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed here")
def test_genes_without_scores_are_called_neither_best_nor_worst(tmp_path: Path) -> None:
    path = write_report(predicted_with_measured(tmp_path), tmp_path / "report.html")
    shown = in_browser(path, tmp_path)
    assert "best of those" not in shown
    assert "worst of those" not in shown
    assert shown.count("<canvas") == 2 + 1
