"""What a model knows of its worth: grades travel, evaluation refuses training sections, runs compare."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from helpers.blank import blank_pictures
from helpers.heard import Heard
from hespotex import pipeline
from hespotex.cli.main import app
from hespotex.cli.terminal import print_scores
from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.errors import RunError, SpotTableError
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.evaluation.predictors import PREDICTORS
from hespotex.models.bundle import read_model
from hespotex.predicting import SlideOptions
from hespotex.results.run_comparison import compare_folders
from hespotex.results.run_outputs import read_genes
from hespotex.storage.metrics import Metrics
from hespotex.storage.run_folder import RunDir

CONFIG = RunConfig.from_values(
    {
        "patches": {"sides_um": [77.2]},
        "panel": {"n_top": 40},
        "model": {"epochs": 3, "ensemble": 2},
    }
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Two threads and a feature cache of this module's own."""
    return Machine(device="cpu", threads=2, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients with one section each."""
    return make_cohort(
        tmp_path_factory.mktemp("cohort"),
        n_patients=3,
        sections_per_patient=1,
        n_genes=60,
        side_um=1700.0,
    )


@pytest.fixture(scope="module")
def model(cohort: Path, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on two patients, with its validation."""
    out = tmp_path_factory.mktemp("model") / "lab.hespotex"
    with blank_pictures():
        return pipeline.train(
            cohort, out, config=CONFIG, sections=["P1S1", "P2S1"], machine=machine
        )


@pytest.fixture(scope="module")
def evaluated(
    model: Path, cohort: Path, machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """That model on the third patient."""
    out = tmp_path_factory.mktemp("runs") / "external"
    with blank_pictures():
        pipeline.evaluate(model, cohort, out, sections=["P3S1"], machine=machine)
    return out


def test_model_file_carries_the_scores_and_grades_of_its_own_validation(model: Path) -> None:
    bundle = read_model(model)
    validation = RunDir(model.with_suffix(".validation"))
    metrics = json.loads((validation.path / "metrics.json").read_text())
    assert bundle.validation["mean"] == metrics["mean"]
    genes = read_genes(validation).drop_duplicates("gene").set_index("gene")
    assert set(genes["scope"]) == {"between_patients"}
    claims = bundle_claims(bundle, "new")
    assert dict(zip(bundle.genes, claims.grade, strict=True)) == {
        gene: genes["grade"].get(gene, "ungraded") for gene in bundle.genes
    }
    assert claims.n_patients.max() == claims.tested_patients == 2
    assert bundle.trust["intervals.lower"].shape[1] == len(bundle.genes)
    card = model.with_suffix(".model-card.md").read_text()
    assert bundle.model_id in card


def test_prediction_holds_genes_graded_a_to_c_unless_asked_for_all(
    model: Path, cohort: Path, machine: Machine, tmp_path: Path
) -> None:
    bundle = read_model(model)
    grades = bundle_claims(bundle, "new").grade
    kept = [g for g, grade in zip(bundle.genes, grades, strict=True) if grade in "ABC"]
    assert 0 < len(kept) < len(bundle.genes)
    for all_genes, expected in ((False, kept), (True, list(bundle.genes))):
        out = tmp_path / str(all_genes)
        pipeline.predict(
            model,
            cohort,
            out,
            sections=["P3S1"],
            options=SlideOptions(all_genes=all_genes),
            machine=machine,
        )
        stored = anndata.read_h5ad(out / "predictions" / "P3S1.h5ad")
        assert list(stored.var_names) == expected
        assert (np.asarray(stored.layers["lower"]) <= np.asarray(stored.layers["upper"])).all()
        assert "ood_score" in stored.obs


def test_sections_at_their_own_spots_are_exported_as_slides_are(
    model: Path, cohort: Path, machine: Machine, tmp_path: Path
) -> None:
    gene = read_model(model).genes[3]
    options = SlideOptions(formats=("geojson", "parquet"), genes=(gene,), all_genes=True)
    result = pipeline.predict(
        model, cohort, tmp_path, sections=["P3S1"], options=options, machine=machine
    )
    stored = anndata.read_h5ad(tmp_path / "predictions" / "P3S1.h5ad")
    table = pd.read_parquet(tmp_path / "predictions" / "P3S1.parquet")
    np.testing.assert_array_equal(table[gene], stored[:, gene].layers["composition"].ravel())
    features = json.loads((tmp_path / "predictions" / "P3S1.geojson").read_text())["features"]
    assert len(features) == stored.n_obs
    assert (result.paths["pictures"] / "P3S1_overview.png").stat().st_size > 10_000


def test_evaluation_writes_the_files_of_a_cross_validation(
    evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert metrics["folds_by"] == "external"
    assert metrics["folds"][0]["held_out"] == ["P3S1"]
    assert set(metrics["mean"]) == {*PREDICTORS, "ceiling"}
    assert "FDR 5%, 1 held-out section of 1 patient outside the training." in metrics["headline"]
    assert [row["where"] for row in metrics["calibration"]] == ["other patient"] * 4
    for row in metrics["calibration"]:
        assert row["lowest"] == row["observed"] == row["highest"]
        assert row["n_sections"] == 1
    for row in metrics["region_calibration"]:
        assert row["where"] == "other patient"
        assert 0 < row["observed"] <= 1
    seen = [(row["spots"], row["nominal"]) for row in metrics["region_calibration"]]
    assert seen == [(size, level) for size in (1, 4, 9, 25) for level in (0.5, 0.8, 0.9, 0.95)]
    (section,) = metrics["sections"]
    spread = section["spread_spearman"]
    assert abs(spread["median"]) < 0.5
    assert spread["n_genes"] == read_genes(RunDir(evaluated))["spread_spearman"].notna().sum()
    page = (evaluated / "report.html").read_text()
    assert "Do the model's grades hold here?" in page
    by_grade = metrics["model_grades"]
    assert sum(row["n_genes"] for row in by_grade) == metrics["folds"][0]["n_genes"]
    assert {row["grade"] for row in by_grade} <= {"A", "B", "C", "D", "ungraded"}
    print_scores(Metrics(**metrics))
    best = next(row for row in by_grade if row["grade"] != "ungraded")
    assert (
        "that the model's own validation graded for patients outside the training: "
        f"{best['n_significant']} of {best['n_tested']} {best['grade']}"
    ) in " ".join(capsys.readouterr().out.split())
    assert (evaluated / "figures" / "P3S1_genes.png").is_file()
    assert {
        "model_grade_between_patients",
        "pcc_log1p_lower",
        "null_p",
        "grade",
        "q_value",
        "null_z",
        "ceiling_composition",
    } <= set(read_genes(RunDir(evaluated)).columns)


def test_evaluating_on_a_training_section_is_refused_under_any_name(
    model: Path, cohort: Path, machine: Machine, tmp_path: Path
) -> None:
    renamed = cohort.with_name("renamed.csv")
    renamed.write_text(cohort.read_text().replace("P1S1,P1,", "Other,P9,"))
    with pytest.raises(SpotTableError, match=r"section Other: .*found its training section P1S1"):
        pipeline.evaluate(model, renamed, tmp_path / "e", sections=["Other"], machine=machine)
    assert not (tmp_path / "e").exists()


def test_run_compared_with_itself_has_no_difference(evaluated: Path) -> None:
    comparison = compare_folders(evaluated, evaluated)
    assert all(d.difference == 0 for d in comparison.differences)
    result = CliRunner().invoke(app, ["compare", str(evaluated), str(evaluated)])
    assert result.exit_code == 0
    assert "pcc_composition" in result.output


def test_comparing_a_folder_without_scores_names_it(evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected a finished, scored run in .*found no metrics"):
        compare_folders(evaluated, tmp_path)


def test_single_section_trains_ungraded_and_says_so(
    cohort: Path, machine: Machine, tmp_path: Path
) -> None:
    heard = Heard()
    model = pipeline.train(
        cohort,
        tmp_path / "one.hespotex",
        config=CONFIG,
        sections=["P1S1"],
        machine=machine,
        progress=heard,
    )
    assert any("one section cannot be validated" in message for message in heard.warned)
    assert read_model(model).validation == {}
