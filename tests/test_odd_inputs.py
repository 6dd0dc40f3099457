"""Inputs that must not fool the commands: a right answer or one clear line, never a silent 0 or a crash."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.commands import metrics_of, refusal, run
from helpers.feature_cohort import toy_items, with_counts, write_cohort
from hespotex.models.bundle import read_model
from hespotex.models.types import EncodedSection
from hespotex.results.run_outputs import read_genes
from hespotex.storage.run_folder import RunDir

pytestmark = pytest.mark.usefixtures("blank_pictures")


def dense(item: EncodedSection) -> np.ndarray:
    assert item.section.counts is not None
    return np.asarray(item.section.counts.toarray())


@pytest.mark.slow
def test_one_section_cannot_be_cross_validated_and_trains_ungraded(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "c", toy_items(8)[:1])
    said = refusal(run("cross-validate", manifest, "--out", tmp_path / "r"))
    assert "two sections" in said
    assert "hespotex train" in said
    assert not (tmp_path / "r").exists()
    result = run("train", manifest, "--out", tmp_path / "m.hespotex")
    assert result.exit_code == 0, result.output
    warned = " ".join(result.stderr.split())
    assert "every gene stays `ungraded`" in warned
    assert "A1 is the only training section" in warned
    assert "spatial blocks of it with a gap" in warned
    card = " ".join((tmp_path / "m.model-card.md").read_text().split())
    assert "rest on spatial blocks of it with a gap" in card
    assert read_model(tmp_path / "m.hespotex").validation == {}
    result = run("predict", tmp_path / "m.hespotex", manifest, "--out", tmp_path / "p", quick=False)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "No gene is tested for this patient: the model was never validated." in said
    assert "Depth, unlike scores and tissue alone are written, no gene; --untested writes" in said
    assert anndata.read_h5ad(tmp_path / "p" / "predictions" / "A1.h5ad").n_vars == 0
    result = run("predict", tmp_path / "m.hespotex", manifest, "--out", tmp_path / "u", "--untested",
                 quick=False)  # fmt: skip
    assert result.exit_code == 0, result.output
    stored = anndata.read_h5ad(tmp_path / "u" / "predictions" / "A1.h5ad")
    assert stored.n_vars > 0
    assert set(stored.var["evidence"]) == {"untested"}
    assert set(stored.var["grade"]) == {"ungraded"}
    assert "spatial blocks" in str(stored.uns["hespotex"]["inner_note"])


@pytest.mark.slow
def test_numbers_that_rest_on_blocks_of_one_section_say_so_everywhere(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "c", [toy_items(7)[i] for i in (0, 2, 3)])
    result = run("cross-validate", manifest, "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    said = "held out B1, B2: A1 is the only training section"
    assert said in " ".join(result.stderr.split())
    metrics = metrics_of(tmp_path / "r")
    assert metrics["notes"][1].startswith(said)
    assert "blocks" in metrics["folds"][1]["inner_note"]
    assert "B1, B2 are all of patient B" in metrics["folds"][0]["inner_note"]
    assert json.loads((tmp_path / "r" / "run.json").read_text())["notes"] == metrics["notes"]
    assert said in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.slow
def test_two_sections_of_one_patient_are_told_apart_from_two_patients(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "c", toy_items(8)[:2])
    result = run("cross-validate", manifest, "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    assert "all sections are of patient A" in " ".join(result.stderr.split())
    metrics = metrics_of(tmp_path / "r")
    assert metrics["folds_by"] == "section"
    assert "say nothing about another patient" in metrics["note"]
    assert (
        "Sections of the same patients were, or may have been, in training" in metrics["headline"]
    )
    assert metrics["grades"]["A"] == 0  # A asks for two held-out patients
    assert "all sections are of patient A" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.slow
def test_a_patient_on_both_sides_is_said_loudly_by_section(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "c", toy_items(7)[:3])
    result = run("cross-validate", manifest, "--out", tmp_path / "r", "--folds", "section")
    assert result.exit_code == 0, result.output
    said = "sections are left out, not patients: for A1, A2 other sections of the same"
    assert said in " ".join(result.stderr.split())
    metrics = metrics_of(tmp_path / "r")
    assert metrics["notes"][0].startswith(said)
    assert [s["patient_in_training"] for s in metrics["sections"]] == [True, True, False]
    assert said in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize("verb", ["cross-validate", "train"])
def test_the_same_section_under_two_names_is_refused(verb: str, tmp_path: Path) -> None:
    first, second = toy_items(6)[:2]
    twin = replace(
        second,
        section=replace(first.section, section_id="Other", patient_id="Z"),
        features=first.features,
    )
    manifest = write_cohort(tmp_path / "c", [first, second, twin])
    said = refusal(run(verb, manifest, "--out", tmp_path / "m.hespotex"))
    assert "A1 again as Other" in said
    assert "keep one" in said
    assert not (tmp_path / "m.hespotex").exists()


@pytest.mark.slow
def test_sections_of_twelve_spots_are_scored_without_claims(tmp_path: Path) -> None:
    twelve = np.arange(12)
    items = [item.spots(twelve) for item in toy_items(6)]
    manifest = write_cohort(tmp_path / "c", items)
    result = run("cross-validate", manifest, "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    metrics = metrics_of(tmp_path / "r")
    assert all(s["n_spots"] == 12 for s in metrics["sections"])
    said = " ".join(result.stderr.split())
    assert "section A1: 12 spots, fewer than 72: a correlation over so few is mostly chance" in said
    tiny = "fewer than 72 spots in A1, A2, B1, B2: scores there are mostly chance"
    assert tiny in said
    assert tiny in metrics["notes"][-1]
    assert tiny in (tmp_path / "r" / "report.html").read_text()
    genes = read_genes(RunDir(tmp_path / "r"))
    assert genes["pcc_composition_lower"].isna().all()  # too few blocks for an interval
    assert metrics["grades"]["A"] == 0


@pytest.mark.slow
def test_a_gene_constant_in_the_held_out_section_has_no_score_there(tmp_path: Path) -> None:
    items = toy_items(7)
    counts = dense(items[3])
    counts[:, 0] = 0
    items[3] = with_counts(items[3], counts)
    manifest = write_cohort(tmp_path / "c", items)
    panel = tmp_path / "genes.txt"
    panel.write_text("\n".join(f"G{j:02d}" for j in range(10)))
    result = run("cross-validate", manifest, "--out", tmp_path / "r", "--genes", panel)
    assert result.exit_code == 0, result.output
    rows = read_genes(RunDir(tmp_path / "r")).set_index(["section_id", "gene"])
    scores = [c for c in rows if "pcc" in c or c in ("ssim", "null_z", "moran_measured")]
    assert rows.loc[("B2", "G00"), scores].isna().all()
    assert rows.loc[("B2", "G00"), "constant"]
    assert np.isfinite(rows.loc[("B1", "G00"), "pcc_log1p"])
    metrics = metrics_of(tmp_path / "r")
    (record,) = (s for s in metrics["sections"] if s["section_id"] == "B2")
    assert record["scores"]["model"]["n_constant_genes"] == 1
    own = rows.loc["B2", "pcc_log1p"]
    assert record["scores"]["model"]["pcc_log1p_mean"] == pytest.approx(own.mean())
    again = run("cross-validate", manifest, "--out", tmp_path / "zero", "--genes", panel,
                "--score-nan-as-zero")  # fmt: skip
    assert again.exit_code == 0, again.output
    assert "counts as 0 in every mean" in " ".join(again.stderr.split())
    assert "counts as 0 in every mean" in (tmp_path / "zero" / "report.html").read_text()
    (zero,) = (s for s in metrics_of(tmp_path / "zero")["sections"] if s["section_id"] == "B2")
    assert zero["scores"]["model"]["pcc_log1p_mean"] == pytest.approx(own.sum() / 10)


@pytest.mark.slow
def test_a_spot_without_counts_is_kept_counted_and_predicted(tmp_path: Path) -> None:
    items = toy_items(7)
    counts = dense(items[3])
    counts[5] = 0
    items[3] = with_counts(items[3], counts)
    manifest = write_cohort(tmp_path / "c", items)
    result = run("cross-validate", manifest, "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    (record,) = (s for s in metrics_of(tmp_path / "r")["sections"] if s["section_id"] == "B2")
    assert record["n_empty_spots"] == 1
    assert record["n_spots"] == 49
    stored = anndata.read_h5ad(tmp_path / "r" / "predictions" / "B2.h5ad")
    assert np.isfinite(stored.X).all()
    assert not np.asarray(stored.layers["measured"])[5].any()
    page = (tmp_path / "r" / "report.html").read_text()
    assert "spots without a count of any panel gene (kept)" in page


def without_first_genes(n: int, n_panel: int, missing: str, tmp_path: Path) -> tuple[Path, Path]:
    """Manifest and panel of n_panel genes, of which the table of section B2 lacks the first n."""
    items = toy_items(7)
    section = items[3].section
    assert section.counts is not None
    assert section.genes is not None
    short = replace(section, counts=section.counts[:, n:], genes=section.genes[n:])
    items[3] = replace(items[3], section=short)
    manifest = write_cohort(tmp_path / "c", items, missing_genes=[missing] * 4)
    panel = tmp_path / "genes.txt"
    panel.write_text("\n".join(f"G{j:02d}" for j in range(n_panel)))
    return manifest, panel


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["zero", "unmeasured"])
def test_a_panel_gene_missing_in_one_section(missing: str, tmp_path: Path) -> None:
    manifest, panel = without_first_genes(1, 10, missing, tmp_path)
    result = run("cross-validate", manifest, "--out", tmp_path / "r", "--genes", panel)
    assert result.exit_code == 0, result.output
    row = read_genes(RunDir(tmp_path / "r")).set_index(["section_id", "gene"]).loc[("B2", "G00")]
    assert np.isnan(row["pcc_log1p"])
    assert (row["constant"], row["measured"]) == (missing == "zero", missing == "zero")
    stored = anndata.read_h5ad(tmp_path / "r" / "predictions" / "B2.h5ad")
    measured = np.asarray(stored[:, "G00"].layers["measured"])
    assert np.isnan(measured).all() if missing == "unmeasured" else not measured.any()
    assert np.isfinite(stored.X).all()
    partly = "not every gene of the panel was measured in B2 (9 of 10)"
    assert (partly in " ".join(result.stderr.split())) == (missing == "unmeasured")


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "said"), [("zero", True), ("unmeasured", False)])
def test_a_section_that_lacks_many_panel_genes_is_named_wherever_it_is_scored(
    missing: str, said: bool, tmp_path: Path
) -> None:
    """A table filtered to a part of the genes reads as genes that nobody expresses there."""
    manifest, panel = without_first_genes(12, 20, missing, tmp_path)
    result = run("cross-validate", manifest, "--out", tmp_path / "r", "--genes", panel)
    assert result.exit_code == 0, result.output
    note = "absent from the tables of B2 (12 of 20) and count as 0 in every spot there"
    assert (note in " ".join(result.stderr.split())) == said
    assert (note in " ".join(metrics_of(tmp_path / "r")["notes"])) == said
    assert (note in (tmp_path / "r" / "report.html").read_text()) == said
    model = tmp_path / "m.hespotex"
    result = run("train", manifest, "--out", model, "--sections", "A1,A2", "--no-validate",
                 "--genes", panel)  # fmt: skip
    assert result.exit_code == 0, result.output
    result = run("evaluate", model, manifest, "--out", tmp_path / "e", "--sections", "B2",
                 quick=False)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (note in " ".join(result.stderr.split())) == said


@pytest.mark.slow
def test_a_training_section_of_one_spot_is_no_crash(tmp_path: Path) -> None:
    """Left alone by an inner fold it cannot be fitted on: that fold is left out."""
    items = toy_items(9)
    items[3] = items[3].spots(np.arange(1))
    manifest = write_cohort(tmp_path / "c", items)
    result = run("cross-validate", manifest, "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    rows = read_genes(RunDir(tmp_path / "r")).set_index("section_id")
    assert rows.loc["B2", ["pcc_log1p", "pcc_composition", "null_z"]].isna().all().all()
    assert np.isfinite(rows.loc["A1", "pcc_log1p"]).any()
    said = refusal(run("train", manifest, "--out", tmp_path / "m.hespotex", "--sections", "B2",
                       "--set", "panel.kind=all"))  # fmt: skip
    assert "at least two training spots, found 1" in said


def test_patient_ids_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    """One patient spelled in two ways would stand on both sides of a fold by patient."""
    manifest = write_cohort(tmp_path / "c", toy_items(6)[:3], patient_id=["pat1", "Pat1", "B"])
    said = refusal(run("cross-validate", manifest, "--out", tmp_path / "r"))
    assert "column patient_id" in said
    assert "found Pat1, and pat1 in row 2" in said
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_scores_that_are_nan_are_null_in_every_table(tmp_path: Path) -> None:
    """Features that never vary leave the model a constant map: no PCC at all, and the report says so."""
    items = [replace(i, features=np.ones_like(i.features)) for i in toy_items(6)]
    manifest = write_cohort(tmp_path / "c", items)
    result = run("cross-validate", manifest, "--out", tmp_path / "r", "--set", "model.neighbours=0")
    assert result.exit_code == 0, result.output
    metrics = metrics_of(tmp_path / "r")
    assert metrics["mean"]["train_mean"]["pcc_log1p_mean"] is None
    assert metrics["mean"]["model"]["pcc_composition_mean"] is None
    assert metrics["headline"].startswith("No gene is predicted better")
    assert metrics["grades"]["A"] + metrics["grades"]["B"] + metrics["grades"]["C"] == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "NaN" not in page.split('id="data"')[0]


@pytest.mark.slow
def test_labels_with_missing_values_are_kept_as_missing(tmp_path: Path) -> None:
    items = toy_items(6)
    names = items[0].section.barcodes
    table = pd.DataFrame({"spot": names[:20], "layer": ["outer", ""] * 10, "zone": ""})
    (tmp_path / "c").mkdir()
    table.to_csv(tmp_path / "c" / "labels.csv", index=False)
    manifest = write_cohort(tmp_path / "c", items, labels=["labels.csv", "", "", ""])
    result = run("cross-validate", manifest, "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    assert "section A1: 26 spots without a label (kept)" in " ".join(result.stderr.split())
    obs = anndata.read_h5ad(tmp_path / "r" / "predictions" / "A1.h5ad").obs
    assert len(obs) == 36
    assert obs["layer"].value_counts().to_dict() == {"outer": 10}
    assert obs["zone"].isna().all()


@pytest.mark.slow
def test_external_sections_of_a_training_patient_are_said(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "c", toy_items(7)[:3])
    model = tmp_path / "m.hespotex"
    result = run("train", manifest, "--out", model, "--sections", "A1", "--no-validate")
    assert result.exit_code == 0, result.output
    result = run("evaluate", model, manifest, "--out", tmp_path / "e", "--sections", "A2,B1",
                 quick=False)  # fmt: skip
    assert result.exit_code == 0, result.output
    said = "for A2 other sections of the same or an unknown patient were in the model's training"
    assert said in " ".join(result.stderr.split())
    metrics = metrics_of(tmp_path / "e")
    assert metrics["note"].startswith(said)
    assert "1 held-out section of 1 patient outside the training" in metrics["headline"]
    assert {s: v["n_sections"] for s, v in metrics["by_scope"].items()} == {
        "between_patients": 1,
        "within_patient": 1,
    }
    assert "rest on spatial blocks" in metrics["notes"][1]
    page = (tmp_path / "e" / "report.html").read_text()
    assert "for A2 other sections of the same" in page
    assert "nearest patches" in page.lower()


@pytest.mark.parametrize("patients", [["A", "", "B"], ["", "", ""]])
@pytest.mark.parametrize("folds", ["patient", "section", "kfold:2"])
def test_an_empty_patient_id_is_refused_whatever_the_folds(
    folds: str, patients: list[str], tmp_path: Path
) -> None:
    manifest = write_cohort(tmp_path / "c", toy_items(6)[:3], patient_id=patients)
    result = run("cross-validate", manifest, "--out", tmp_path / "r", "--folds", folds)
    said = refusal(result)
    assert f"{patients.count('')} problem" in said
    assert "row 3 (section A2)" in said
    assert "found an empty cell" in said
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_predicting_a_measured_training_section_says_that_it_is_no_test(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "c", toy_items(9)[:2])
    model = tmp_path / "m.hespotex"
    result = run("train", manifest, "--out", model, "--sections", "A1", "--no-validate")
    assert result.exit_code == 0, result.output
    result = run("predict", model, manifest, "--out", tmp_path / "p", quick=False)
    assert result.exit_code == 0, result.output
    said = "section A1: the model was fitted on this section (its training section A1)"
    assert said in " ".join(result.stderr.split())
    assert "section A2: the model was fitted" not in " ".join(result.stderr.split())
    notes = [
        anndata.read_h5ad(tmp_path / "p" / "predictions" / f"{name}.h5ad").uns["hespotex"]
        for name in ("A1", "A2")
    ]
    assert notes[0]["training_note"].startswith("the model was fitted on this section")
    assert "training_note" not in notes[1]
    page = run("report", tmp_path / "p", quick=False)
    assert page.exit_code == 0, page.output
    assert "Section A1: the model was fitted" in (tmp_path / "p" / "report.html").read_text()
