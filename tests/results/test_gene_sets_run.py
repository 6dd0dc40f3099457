"""Gene sets through the whole: folds, tables, model file, predictions of sections and of bare slides."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.made_claims import validation_of
from helpers.toy_cohort import toy_cohort
from helpers.toy_slide import toy_bundle, toy_predictor, toy_trust, write_slide
from hespotex.config import RunConfig
from hespotex.evaluation.by_scope import SETS as SETS_EVIDENCE
from hespotex.export.h5ad import read_prediction
from hespotex.genes.gene_sets import GeneSet, PanelSets
from hespotex.models.bundle import read_model, write_model
from hespotex.predicting import SlideOptions, SlideTask, predict_slide
from hespotex.report.model_card import render_model_card
from hespotex.report.report import write_report
from hespotex.results.run_outputs import write_fold, write_metrics
from hespotex.results.set_outputs import read_sets
from hespotex.sections.splits import make_folds
from hespotex.storage.run_folder import RunDir
from hespotex.validation.cross_validation import run_fold

SETS = (
    GeneSet("FOLLOWS", ("G00", "G01", "G02", "G03", "elsewhere")),
    GeneSet("DOES NOT / FOLLOW", ("G20", "G21", "G22")),
    GeneSet("TOO FEW", ("G01", "elsewhere", "nowhere")),
)
CONFIG = RunConfig.from_values(
    {
        "panel": {"kind": "all"},
        "model": {"epochs": 2, "ensemble": 1, "n_components": 8, "landmarks": 32},
        "trust": {"calibrate": False},
    }
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A cross-validation of the toy cohort with gene sets."""
    run = RunDir(tmp_path_factory.mktemp("runs") / "scored")
    cohort = toy_cohort()
    ids = [item.section.section_id for item in cohort.items]
    folds = make_folds(ids, [item.section.patient_id for item in cohort.items], "patient")
    run.begin({"verb": "cross-validate"})
    for number, fold in enumerate(folds):
        write_fold(run, number, run_fold(cohort, fold, CONFIG, gene_sets=SETS))
    write_metrics(run, folds, score_nan_as_zero=False)
    run.finish({"verb": "cross-validate"}, {"config": {}})
    return run


def test_sets_are_scored_and_graded_over_folds(scored: RunDir) -> None:
    table = pd.read_csv(scored.path / "gene_sets.csv")
    assert table.groupby("gene_set").size().to_dict() == {"FOLLOWS": 4, "DOES NOT / FOLLOW": 4}
    assert set(table.section_id) == {"A1", "A2", "B1", "B2"}
    own = table[table.gene_set == "FOLLOWS"]
    assert (own.n_panel_genes == 4).all()
    assert (own.n_listed == 5).all()
    assert own.q_value.iloc[0] == own.q_value.iloc[-1]
    of_sets = json.loads((scored.path / "metrics.json").read_text())["gene_sets"]
    assert of_sets["left_out"] == {"TOO FEW": 1}
    assert of_sets["n_tested"] == 2
    assert sum(of_sets["grades"].values()) == 2
    assert set(read_sets(scored)["gene_set"]) == {"FOLLOWS", "DOES NOT / FOLLOW"}


def test_predictions_hold_the_scores_with_their_names_beside_what_was_measured(
    scored: RunDir,
) -> None:
    table = anndata.read_h5ad(scored.predictions / "A1.h5ad")
    facts = table.uns["hespotex"]["gene_sets"]
    assert facts.index.tolist() == ["FOLLOWS", "DOES NOT / FOLLOW"]
    assert facts.n_panel_genes.tolist() == [4, 3]
    assert table.uns["hespotex"]["units"]["gene_sets"].startswith(
        "composition: log of the set's part"
    )
    scores = pd.read_csv(scored.path / "gene_sets.csv").set_index(["section_id", "gene_set"])
    for k, name in enumerate(facts.index):
        pair = table.obsm["gene_sets"][:, k], table.obsm["gene_sets_measured"][:, k]
        expected = np.corrcoef(*pair)[0, 1]
        assert scores.pcc_composition["A1", name] == pytest.approx(expected, abs=1e-5)
    read = read_prediction(scored.predictions / "A1.h5ad").extras.gene_sets
    assert read is not None
    assert read.names == ("FOLLOWS", "DOES NOT / FOLLOW")
    np.testing.assert_array_equal(read.values, table.obsm["gene_sets"])


@pytest.mark.slow
def test_the_report_shows_the_sets(scored: RunDir) -> None:
    page = write_report(scored).read_text()
    assert "<h2>Gene sets</h2>" in page
    assert "DOES NOT / FOLLOW" in page
    assert "left out: 1 gene set with fewer than 3 genes in the panel: TOO FEW (1)." in page


@pytest.mark.slow
def test_the_table_of_sets_explains_its_columns_and_shows_no_q_value_as_zero(
    scored: RunDir, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(scored.path, tmp_path / "run")))
    pd.read_csv(run.path / "gene_sets.csv").assign(q_value=1e-6).to_csv(
        run.path / "gene_sets.csv", index=False
    )
    page = write_report(run).read_text().split("<h2>Gene sets</h2>")[1].split("</section>")[0]
    assert "<td>&lt;0.001</td>" in page
    for heading in (
        "composition PCC",
        "measured depth alone",
        "PCC given depth",
        "of its ceiling",
        "q-value",
    ):
        assert f"<b>{heading}</b>:" in page


def test_sets_travel_in_the_model_file_and_old_files_have_none(tmp_path: Path) -> None:
    bundle = replace(
        toy_bundle(), gene_sets=SETS, validation=validation_of({"FOLLOWS": "B"}, kind=SETS_EVIDENCE)
    )
    write_model(tmp_path / "m.hespotex", bundle)
    read = read_model(tmp_path / "m.hespotex")
    assert read.gene_sets == SETS
    assert read.model_id == bundle.model_id


@pytest.mark.slow
def test_a_bare_slide_gets_the_scores_chunk_by_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hespotex.predicting.store.CHUNK_SPOTS", 16)
    bundle = replace(
        toy_bundle(), gene_sets=SETS, validation=validation_of({"FOLLOWS": "B"}, kind=SETS_EVIDENCE)
    )
    options = SlideOptions(mpp=2.0, formats=("geojson", "parquet", "spatialdata"), all_genes=True)
    task = SlideTask("slide", write_slide(tmp_path / "slide.png"), options)
    result = predict_slide(toy_predictor(bundle, toy_trust()), task, tmp_path / "out")
    table = anndata.read_h5ad(result.paths["prediction"])
    facts = table.uns["hespotex"]["gene_sets"]
    # The painted slide is unlike the toy cohort: no grade of the model holds on it.
    assert facts.grade.tolist() == ["ungraded", "ungraded"]
    assert set(facts.evidence) == {"untested"}
    sets = PanelSets.of(SETS, bundle.genes)
    expected = sets.scores(table.layers["composition"], bundle.pooled)
    np.testing.assert_allclose(table.obsm["gene_sets"], expected, atol=1e-5)
    frame = pd.read_parquet(result.paths["parquet"])
    np.testing.assert_allclose(frame["gene set FOLLOWS"], expected[:, 0], atol=1e-5)
    first = json.loads(result.paths["geojson"].read_text())["features"][0]
    known = first["properties"]["measurements"]
    assert known["gene set DOES NOT / FOLLOW"] == pytest.approx(expected[0, 1], abs=1e-4)
    assert (
        anndata.read_zarr(result.paths["spatialdata"] / "tables" / "hespotex_spots")
        .obsm["gene_sets"]
        .shape
        == expected.shape
    )


def test_the_model_card_names_the_sets_with_their_grades() -> None:
    bundle = replace(
        toy_bundle(), gene_sets=SETS, validation=validation_of({"FOLLOWS": "B"}, kind=SETS_EVIDENCE)
    )
    card = render_model_card(bundle)
    assert "Gene sets: FOLLOWS (B), DOES NOT / FOLLOW (ungraded)." in card
    assert "Gene sets" not in render_model_card(toy_bundle())
