"""Each file of a run has one schema: what is written opens, older files open, damage is one line, unknown keys stay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.toy_report import metrics, write_scored_run
from hespotex.errors import RunError
from hespotex.evaluation.run_tables import GENE_SETS, GENES
from hespotex.report.report import write_report
from hespotex.results.run_comparison import compare_folders
from hespotex.storage.metrics import Evidence, Metrics, ScoreSummary, SectionRecord, Validation
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import RunRecord, SlideRow, write_slides


def test_scores_are_written_in_the_order_of_the_schema_with_null_where_none_exists(
    tmp_path: Path,
) -> None:
    section = SectionRecord(section_id="S1", scores={"model": ScoreSummary(rmse_log1p=2.5)})
    mean = {"model": ScoreSummary(pcc_log1p_mean=np.nan, rmse_log1p=np.float64(2.5))}
    written = Metrics(mean=mean, folds_by="patient", sections=[section])
    written.write(tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "folds_by": "patient",
        "sections": [{"section_id": "S1", "scores": {"model": {"rmse_log1p": 2.5}}}],
        "mean": {"model": {"pcc_log1p_mean": None, "rmse_log1p": 2.5}},
    }
    read = Metrics.read(tmp_path / "metrics.json")
    assert list(read.plain()) == ["folds_by", "sections", "mean"]
    assert read.sections == [section]
    assert np.isnan(read.mean_of("model", "pcc_log1p_mean"))
    assert np.isnan(read.mean_of("ridge", "rmse_log1p"))


def test_metrics_of_0_1_0_open_with_defaults() -> None:
    grade = {"grade": "A", "n_genes": 2, "n_tested": 2, "n_significant": 1, "pcc_composition": None}
    old = Metrics.model_validate(
        metrics(note="few spots", grades={"ACTB": "A"}, model_grades=[grade])
    )
    assert old.sentences == ["few spots"]
    assert old.grades == {"ACTB": "A"}
    assert old.model_grades[0].scope == ""
    assert (old.calibration, old.by_scope, old.grade_rule) == ([], {}, None)
    assert old.mean_of("model", "pcc_composition_mean") == 0.2346


def test_a_key_of_a_newer_version_stays_in_a_file_that_is_written_again(tmp_path: Path) -> None:
    newer = metrics(new_score=0.5, sections=[{"section_id": "S1", "new_fact": [1]}])
    (tmp_path / "a.json").write_text(json.dumps(newer))
    Metrics.read(tmp_path / "a.json").write(tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == newer


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "found: Expecting property name enclosed in double quotes"),
        ("[]", "found: a list; make the run again"),
        ('{"mean": 3}', "found: mean: Input should be a valid dictionary; make the run again"),
        ('{"folds": [{"train": "T1"}]}', r"found: folds\.0\.train: Input should be a valid list"),
    ],
)
def test_damaged_metrics_are_told_in_one_line_by_report_and_compare(
    tmp_path: Path, content: str, said: str
) -> None:
    run = write_scored_run(tmp_path / "run")
    run.metrics_json.write_text(content)
    for read in (lambda: write_report(run), lambda: compare_folders(run.path, run.path)):
        with pytest.raises(
            RunError, match=rf"expected the scores of a run in .*metrics\.json, {said}"
        ):
            read()


def test_the_record_of_a_run_has_its_fields_in_the_order_of_the_schema(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    identity = {"model_id": "m", "verb": "predict slides"}
    slide = SlideRow(section_id="S1", status="done", n_spots=3)
    run.record(identity, {"peak_memory_mib": np.nan, "slides": [slide]}, finished=True)
    written = json.loads(run.run_json.read_text())
    assert list(written) == ["status", "identity", "slides", "peak_memory_mib", "versions"]
    assert list(written["identity"]) == ["verb", "model_id"]
    assert written["peak_memory_mib"] is None
    assert written["slides"] == [{"section_id": "S1", "status": "done", "n_spots": 3}]
    assert RunRecord.read(run.run_json).slides == [slide]
    assert run.begin(identity) is True


def test_a_run_of_0_1_0_opens_and_its_own_keys_stay(tmp_path: Path) -> None:
    """It knew neither notes nor slides."""
    old = {"status": "finished", "identity": {"verb": "predict", "own": 1}, "wall": 2}
    (tmp_path / "run.json").write_text(json.dumps(old))
    record = RunRecord.read(tmp_path / "run.json")
    assert (record.slides, record.notes, record.config) == ([], [], {})
    assert record.identity.verb == "predict"
    assert record.plain() == old


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "found: a list"),
        ('{"status": "half"}', "found: status: Input should be 'running' or 'finished'"),
        ('{"slides": [{"section_id": "S1"}]}', r"found: slides\.0\.status: Field required"),
    ],
)
def test_a_damaged_record_of_a_run_is_told_by_the_run_and_by_the_report(
    tmp_path: Path, content: str, said: str
) -> None:
    run = RunDir(tmp_path)
    run.run_json.write_text(content)
    for read in (lambda: run.begin({}), lambda: write_report(run)):
        with pytest.raises(
            RunError, match=rf"the record of a run in .*run\.json, {said}; delete that folder or"
        ):
            read()


def test_the_table_of_slides_has_the_columns_of_the_schema(tmp_path: Path) -> None:
    rows = [SlideRow(section_id="NA", status="failed", why="a, b")]
    write_slides(tmp_path / "slides.csv", rows, "told apart")
    assert (tmp_path / "slides.csv").read_text() == (
        "section_id,status,n_spots,n_bad,verdict,why,level,use\n"
        'NA,failed,0,0,,"a, b",told apart,research use only\n'
    )


def test_tables_are_written_in_the_order_of_the_schema_and_names_stay_names(
    tmp_path: Path,
) -> None:
    rows = pd.DataFrame(
        {
            "own": [1.5, np.nan],
            "measured": [True, False],
            "pcc_log1p": [0.1 + 0.2, np.nan],
            "gene": ["NA", "TRUE"],
            "section_id": ["1", "1"],
            "fold": 0,
        }
    )
    GENES.write(tmp_path / "genes.csv", rows)
    assert (tmp_path / "genes.csv").read_text() == (
        "fold,section_id,gene,pcc_log1p,measured,own\n"
        "0,1,NA,0.30000000000000004,True,1.5\n0,1,TRUE,,False,\n"
    )
    read = GENES.read(tmp_path / "genes.csv")
    pd.testing.assert_frame_equal(read[rows.columns], rows, check_dtype=False)
    assert read["section_id"].tolist() == ["1", "1"]
    assert read["measured"].dtype == bool


def test_a_table_of_genes_of_0_1_0_opens_with_its_grades_as_words(tmp_path: Path) -> None:
    (tmp_path / "genes.csv").write_text("section_id,gene,model_grade,grade\nS1,A1,,D\n")
    assert GENES.read(tmp_path / "genes.csv").to_dict("records") == [
        {"section_id": "S1", "gene": "A1", "model_grade": "", "grade": "D"}
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "found: No columns to parse from file; make the run again"),
        ("fold,gene\n0,A\n", r"expected column section_id in .*genes\.csv, found fold, gene;"),
        ('section_id,gene\n"S1,A\n', "found: Error tokenizing data"),
    ],
)
def test_a_damaged_table_is_told_in_one_line_by_report_and_compare(
    tmp_path: Path, content: str, said: str
) -> None:
    run = write_scored_run(tmp_path / "run")
    run.genes_csv.write_text(content)
    for read in (lambda: write_report(run), lambda: compare_folders(run.path, run.path)):
        with pytest.raises(RunError, match=said):
            read()


def test_every_column_of_gene_sets_is_one_of_genes_or_says_which_set(tmp_path: Path) -> None:
    own = {"gene_set", "n_listed", "n_panel_genes"}
    assert set(GENE_SETS.columns) - set(GENES.columns) == own
    (tmp_path / "gene_sets.csv").write_text("section_id\nS1\n")
    with pytest.raises(RunError, match="expected column gene_set in"):
        GENE_SETS.read(tmp_path / "gene_sets.csv")


def test_evidence_is_written_and_read_and_what_is_no_evidence_is_told(tmp_path: Path) -> None:
    tables = {"between_patients": {"names": ["ACTB"], "score": [None]}}
    path = tmp_path / "evidence.json"
    Evidence(evidence_schema=1, gene_evidence=tables).write(path)
    assert json.loads(path.read_text()) == {"evidence_schema": 1, "gene_evidence": tables}
    assert Evidence.read(path).gene_evidence == tables
    path.write_text(json.dumps({"gene_evidence": {"between_patients": ["ACTB"]}}))
    with pytest.raises(
        RunError, match=r"expected the evidence of a run in .*, found: gene_evidenc"
    ):
        Evidence.read(path)
    with pytest.raises(
        RunError, match=r"expected the evidence of a run in .*absent, found nothing;"
    ):
        Evidence.read(tmp_path / "absent")


def test_what_a_model_knows_of_its_validation_is_metrics_evidence_and_the_search() -> None:
    """A file of 0.1.0 has grades by gene, and no evidence."""
    stored = metrics(grades={"ACTB": "A"}, search={"chosen": {"model.hidden": 8}})
    found = Validation.model_validate(stored)
    assert found.search.words == "model.hidden = 8"
    assert (found.evidence_schema, found.gene_evidence) == (0, {})
    assert found.mean_of("ridge", "pcc_composition_mean") == 0.1234
    assert found.plain() == stored
