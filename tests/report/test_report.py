"""report.html: one page that opens anywhere, says what the run found and nothing it did not."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.toy_prediction import (
    GENES,
    toy_prediction,
    toy_section,
)
from helpers.toy_report import data_of, genes_csv, in_browser, metrics, page_of, write_scored_run
from hespotex.errors import RunError
from hespotex.plots.charts import calibration_svg, distribution_svg
from hespotex.report.report import write_report
from hespotex.report.report_maps import mapped_genes
from hespotex.results.read import gene_table
from hespotex.storage.atomic import write_json
from hespotex.storage.metrics import Coverage
from hespotex.storage.run_folder import RunDir


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the scored run as it is."""
    return page_of(write_scored_run(tmp_path_factory.mktemp("secret-folder") / "run"))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return write_scored_run(tmp_path / "secret-folder" / "run")


def tiles_of(page: str) -> list[tuple[str, str, str]]:
    """Value, name and note of every tile."""
    found = r'<div class="tile"><b>(.*?)</b><span>(.*?)</span><small>(.*?)</small>'
    return re.findall(found, page)


def test_says_scores_folds_losses_and_provenance(page: str) -> None:
    for said in (
        "HESpotEx report · research use only",
        "Cross-validation on 1 section of 1 patient, 30 spots",
        "0.235",  # the model's composition PCC in the table
        "ridge regression",
        "no section of a held-out patient was seen",
        "T1, T2",
        "spots in the spot file without counts",
        "not measured in this section",
        "the same value in every spot",
        "abc123",
        "12 s",
    ):
        assert said in page, said


def test_best_value_of_a_column_is_never_the_oracle(page: str) -> None:
    rows = re.findall(r'<tr class="p-(\w+)(?: oracle)?">(.*?)</tr>', page, re.S)
    best = {name for name, row in rows if 'class="best">0.' in row}
    assert best == {"model", "ridge"}  # equal log1p scores; depth's 0.9 does not count
    model = dict(rows)["model"]
    assert re.search(r'class="best">0\.235', model)


def test_needs_no_network_and_names_no_place(page: str) -> None:
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)""", page)
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", page)
    assert "secret-folder" not in page


def test_maps_hold_the_stored_values(page: str) -> None:
    data = data_of(page)
    (section,) = data["sections"]
    assert section["kinds"] == [
        "measured_composition",
        "predicted_composition",
        "measured_log1p",
        "predicted_log1p",
    ]
    values = np.frombuffer(base64.b64decode(section["values"]), np.uint8).reshape(6, 4, 30)
    ranked = [data["genes"]["names"][g] for g in section["genes"]]
    k = ranked.index("TUM-01")
    whole = toy_prediction(toy_section())
    for layer, unit in ((1, "composition"), (3, "log1p")):
        low, high = section["limits"][unit][k]
        predicted = getattr(whole, unit)[:, GENES.index("TUM-01")]
        decoded = low + values[k, layer] / 254 * (high - low)
        np.testing.assert_allclose(decoded, np.clip(predicted, low, high), atol=(high - low) / 200)
    assert section["limits"]["composition"][k][0] == -section["limits"]["composition"][k][1]
    assert section["claims"][k] == "not shown"
    assert (values[ranked.index("CD3E"), 0] == 255).all()
    xy = np.frombuffer(base64.b64decode(section["xy"]), "<u2").reshape(30, 2) / 65535
    side = section["side_um"] / 2.0
    np.testing.assert_allclose(np.diff(xy[:2, 0]) * side, 100.0, atol=0.05)
    assert section["diameter"] * section["side_um"] == pytest.approx(100.0)
    unlike = np.frombuffer(base64.b64decode(section["unlike"]), np.uint8)
    assert (unlike[0], unlike[-1]) == (0, 127)  # scores of 0 and 1 on a scale from 0 to 2
    assert data["unlike"] == {"limits": [0.0, 2.0], "limit": 1.0}


def test_genes_beyond_the_room_are_listed_without_maps(run: RunDir) -> None:
    page = page_of(run, map_bytes=30 * 4 * 2)
    data = data_of(page)
    assert len(data["genes"]["names"]) == 6
    assert len(data["mapped"]) == 2
    assert "2 of 6 genes have maps here" in page


def test_headline_intervals_grades_and_calibration_are_shown_where_they_are(run: RunDir) -> None:
    write_json(
        run.path / "metrics.json",
        metrics(
            headline="4 of 6 genes are predicted better than a smooth random map, FDR 5 %",
            note="Only one patient: neighbours were in training.",
            intervals={"model": {"pcc_composition_mean": [0.2, 0.27]}},
            intervals_over={"unit": "patient", "n": 4},
            calibration=[{"nominal": 0.9, "observed": 0.871, "where": "another patient"}],
        ),
    )
    table = genes_csv().assign(grade=list("AABBCD"), q_value=0.01)
    table.to_csv(run.path / "genes.csv", index=False)
    page = page_of(run)
    assert "4 of 6 genes are predicted better than a smooth random map" in page
    assert '<p class="warning">Only one patient' in page
    assert "[0.200, 0.270]" in page
    assert "another patient" in page
    assert ("4", "genes predicted", "2 A · 1 B · 1 C") in tiles_of(page)
    assert ("2", "genes not shown", "") in tiles_of(page)
    columns = {c["label"]: c["values"] for c in data_of(page)["genes"]["columns"]}
    assert columns["grade"][0] == "A"
    assert columns["q-value"][0] == 0.01


def test_first_numbers_stand_beside_what_depth_alone_reaches(run: RunDir) -> None:
    """A log1p PCC above ridge's looks good where measured depth alone reaches more."""
    beside = {name: note for _, name, note in tiles_of(page_of(run))}
    assert beside["log1p PCC"] == "measured depth alone 0.300 · ridge regression 0.300"
    assert beside["composition PCC"].startswith(
        "measured depth alone 0.900 · ridge regression 0.123"
    )


def test_coverage_is_said_with_the_section_where_it_fails(run: RunDir) -> None:
    row = {"nominal": 0.9, "observed": 0.933, "where": "other patient"}
    ends = {"lowest": 0.8456, "highest": 0.964, "n_sections": 4}
    write_json(run.path / "metrics.json", metrics(calibration=[row | ends]))
    page = page_of(run)
    assert "93.3%<small>(84.6% to 96.4%)</small>" in page
    assert "the lowest and the highest section" in page
    write_json(run.path / "metrics.json", metrics(calibration=[row | ends | {"n_sections": 1}]))
    assert "the lowest and the highest section" not in page_of(run)


def test_a_mapped_gene_says_what_its_own_interval_holds(run: RunDir) -> None:
    table = genes_csv().assign(coverage=np.linspace(0.18, 0.95, len(GENES)))
    table.to_csv(run.path / "genes.csv", index=False)
    data = data_of(page_of(run))
    (section,) = data["sections"]
    names = [data["genes"]["names"][k] for k in section["genes"]]
    held = dict(zip(names, section["scores"]["coverage"], strict=True))
    assert held[GENES[0]] == 0.18
    assert held[GENES[-1]] == 0.95


def test_pcc_per_spot_is_the_mean_over_folds_as_the_other_columns(run: RunDir) -> None:
    fold = {"train": ["T1"], "n_spots": 30, "n_genes": 6, "scores": metrics()["mean"]}
    folds = [{"fold": 0, "held_out": ["S1"]} | fold, {"fold": 1, "held_out": ["S2", "S3"]} | fold]
    sections = [
        {"section_id": name, "patient_id": "P", "n_spots": 30, "pcc_per_spot": {"model": value}}
        for name, value in (("S1", 0.2), ("S2", 0.5), ("S3", 0.7))
    ]
    write_json(run.path / "metrics.json", metrics(folds=folds, sections=sections))
    (row,) = re.findall(r'<tr class="p-model">(.*?)</tr>', page_of(run), re.S)
    assert re.findall(r"<td[^>]*>(.*?)</td>", row)[-1] == "0.400"


def test_what_the_grade_rests_on_stands_in_the_gene_table_once(run: RunDir) -> None:
    table = genes_csv().assign(pcc_partial=0.1, score=0.2, scope="between_patients")
    table.to_csv(run.path / "genes.csv", index=False)
    columns = {c["label"]: c["values"] for c in data_of(page_of(run))["genes"]["columns"]}
    assert set(columns["PCC given depth"]) == {0.2}
    assert set(columns["scope"]) == {"between patients"}


def test_every_column_of_the_gene_table_is_explained(run: RunDir) -> None:
    table = genes_csv()
    for name in ("pcc_partial", "q_value", "ceiling_share", "depth_only_pcc_log1p"):
        table[name] = 0.1
    table.assign(grade="D").to_csv(run.path / "genes.csv", index=False)
    write_json(run.path / "metrics.json", metrics(grade_rule=["D: everything else."]))
    page = page_of(run)
    labels = [c["label"] for c in data_of(page)["genes"]["columns"]]
    assert len(labels) == 9
    for label in labels:
        assert f"<b>{label}</b>:" in page or label == "grade", label
    assert "What the grades mean" in page


def test_names_from_files_cannot_break_out_of_the_page(run: RunDir) -> None:
    evil = "</script><script>alert(1)</script>"
    table = genes_csv()
    table.loc[0, "gene"] = evil
    table.to_csv(run.path / "genes.csv", index=False)
    write_json(run.path / "metrics.json", metrics(note=evil))
    page = page_of(run)
    assert "<script>alert" not in page
    assert evil in data_of(page)["genes"]["names"]


def test_equal_runs_give_equal_pages(run: RunDir, tmp_path: Path) -> None:
    assert page_of(run) == page_of(run, out=tmp_path / "again.html")


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with pytest.raises(RunError, match=r"expected a finished run in .*run, found no run\.json"):
        write_report(run)
    run.begin({"verb": "cross-validate"})
    with pytest.raises(RunError, match=r"found an unfinished one; finish it by running"):
        write_report(run)


def _over_slides(run: RunDir, **statuses: str) -> RunDir:
    """A run over slides with a prediction of S1 alone."""
    rows = [
        {
            "section_id": name,
            "status": status,
            "n_spots": 0,
            "n_bad": 0,
            "verdict": "",
            "why": f"cut short: /lab/x-1/{name}.svs: copy it",
        }
        for name, status in statuses.items()
    ]
    whole = all(row["status"] in {"done", "skipped"} for row in rows)
    run.record({"verb": "predict slides"}, {"slides": rows}, finished=whole)
    return run


def test_a_folder_with_slides_that_failed_has_a_report_of_the_others_that_names_them(
    run: RunDir,
) -> None:
    (run.path / "metrics.json").unlink()
    (run.path / "genes.csv").unlink()
    page = page_of(_over_slides(run, S1="done", S2="failed", S3="unfinished"))
    assert (
        "Slide S2 could not be predicted: cut short: S2.svs: copy it. Nothing of it is shown here."
        in page
    )
    assert (
        "Slide S3 is not finished: cut short: S3.svs: copy it. Nothing of it is shown here." in page
    )
    assert [s["id"] for s in data_of(page)["sections"]] == ["S1"]
    assert "could not be predicted" not in page_of(_over_slides(run, S1="skipped"))


def test_a_folder_where_every_slide_failed_says_why_and_not_to_run_again(tmp_path: Path) -> None:
    run = _over_slides(RunDir(tmp_path / "run"), S2="failed", S4="failed", S5="unfinished")
    with pytest.raises(RunError) as caught:
        write_report(run)
    assert str(caught.value) == (
        f"expected a prediction in {run.path}, found none: slide S2 could not be predicted: cut short: /lab/x-1/S2.svs: copy it (and 1 more slide)"
    )


def test_a_gene_called_na_stays_a_gene_and_scores_without_value_stay_last(run: RunDir) -> None:
    table = genes_csv()
    table.loc[1, "gene"] = "NA"
    ranked = gene_table(table, pd.DataFrame())
    assert ranked.gene.tolist()[:2] == ["ACTB", "NA"]
    assert ranked.gene.tolist()[-1] == "CD3E"


def test_mapped_genes_are_the_best_and_an_even_choice_of_the_rest() -> None:
    names = [f"G{i}" for i in range(100)]
    chosen = mapped_genes(names, 10)
    assert len(chosen) == 10
    assert chosen[:5] == names[:5]
    assert chosen[-1] == "G99"
    assert mapped_genes(names, 200) == names


def test_charts_state_the_mean_and_place_coverage() -> None:
    svg = distribution_svg({"model": np.array([0.1, 0.3]), "ridge": np.array([])}, "scores")
    assert ">0.200<" in svg
    assert "no score" in svg
    points = calibration_svg([Coverage(nominal=0.5, observed=0.5)])
    x, y = (float(v) for v in re.search(r'points="([\d.]+),([\d.]+)"', points).groups())
    assert (x, y) == (62 + 0.5 * 246, 260 - 0.5 * 246)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed here")
def test_a_browser_draws_the_maps_without_an_error(run: RunDir, tmp_path: Path) -> None:
    path = write_report(run, tmp_path / "report.html")
    shown = in_browser(path, tmp_path)
    # The chosen gene and four examples: measured, predicted; and unlike the training slides.
    assert shown.count("<canvas") == 5 * 2 + 1
    assert "6 genes" in shown
    assert "TUM-01" in shown
