"""The report and the card say how far a value may be off: a number a gene and size, coverage by whose section, no map."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_model_card import VALIDATION, bundle

from helpers.toy_prediction import (
    GENES,
    toy_extras,
    toy_half_widths,
    toy_prediction,
    toy_section,
    toy_stored,
)
from helpers.toy_report import data_of, metrics, page_of, write_scored_run
from hespotex.evaluation.region_intervals import RegionIntervals
from hespotex.evaluation.trust import Trust
from hespotex.export.h5ad import write_prediction
from hespotex.report.model_card import render_model_card
from hespotex.report.report_intervals import half_width_text, region_rows, spread_lines
from hespotex.results.interval_records import region_calibration
from hespotex.storage.atomic import write_json
from hespotex.storage.metrics import Metrics, SectionRecord
from hespotex.storage.run_folder import RunDir


def section(name: str, *, inside: bool, **more: Any) -> SectionRecord:
    """A record of a held-out section as run_outputs writes it."""
    return SectionRecord(section_id=name, patient_in_training=inside, **more)


SECTIONS = [
    section("A", inside=False, region_coverage={"1": {"0.5": 0.52, "0.9": 0.88}, "25": {"0.5": 0.4, "0.9": 0.7}}),
    section("B", inside=False, region_coverage={"1": {"0.5": 0.48, "0.9": 0.92}}),
    section("C", inside=True, region_coverage={"1": {"0.5": 0.5, "0.9": 0.9}}),
    section("D", inside=True),  # of a run before there were such intervals
]  # fmt: skip
CALIBRATION = region_calibration(SECTIONS)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return write_scored_run(tmp_path / "run")


def test_coverage_is_told_by_whose_section_and_size_of_region_with_the_worst_section() -> None:
    rows = region_rows(Metrics(region_calibration=CALIBRATION))
    assert [(r["where"], r["region"]) for r in rows] == [
        ("same patient in training", "a spot"),
        ("other patient", "a spot"),
        ("other patient", "25 spots"),
    ]
    assert rows[1]["cells"][1] == {"value": "90.0%", "span": "88.0% to 92.0%"}
    assert rows[2]["cells"][1] == {"value": "70.0%", "span": ""}


def test_the_page_says_every_genes_half_width_and_the_coverage_seen(run: RunDir) -> None:
    write_json(
        run.path / "metrics.json", metrics(region_calibration=[row.plain() for row in CALIBRATION])
    )
    page = page_of(run)
    assert "in the median gene ±0.45 for a spot, ±0.35 for 4 spots, ±0.25 for 9 spots." in page
    assert "carries no intervals" not in page
    assert "<td>other patient</td><td>25 spots</td><td>40.0%</td><td>70.0%</td>" in page
    (drawn,) = data_of(page)["sections"]
    names = [data_of(page)["genes"]["names"][k] for k in drawn["genes"]]
    said = dict(zip(names, drawn["half_widths"], strict=True))
    assert said[GENES[0]] == "90% interval of composition: ±0.40 for a spot, ±0.30 for 4 spots, ±0.20 for 9 spots"  # fmt: skip


def test_no_picture_of_the_page_is_of_an_intervals_width(run: RunDir) -> None:
    (drawn,) = data_of(page_of(run))["sections"]
    assert drawn["kinds"] == [
        "measured_composition",
        "predicted_composition",
        "measured_log1p",
        "predicted_log1p",
    ]


def write_again(run: RunDir, **more: Any) -> None:
    """The prediction of the run, with other values."""
    made = toy_section()
    values = {
        "section": made,
        "prediction": toy_prediction(made),
        "extras": toy_extras(made),
        **more,
    }
    write_prediction(run.predictions / "S1.h5ad", genes=GENES, **values)


def test_a_prediction_of_a_model_without_intervals_says_that_it_has_none(run: RunDir) -> None:
    write_again(run, extras=replace(toy_extras(toy_section()), half_width=None))
    page = page_of(run)
    assert "The model carries no intervals of composition" in page
    assert set(data_of(page)["sections"][0]["half_widths"]) == {""}


@pytest.mark.parametrize("note", ["the training sections A, B are all of patient P: so", ""])
def test_a_prediction_says_for_whom_its_intervals_say_nothing(run: RunDir, note: str) -> None:
    (run.path / "metrics.json").unlink()
    (run.path / "genes.csv").unlink()
    write_again(run, provenance={"inner_note": note})
    assert ("The training sections A, B are all of patient P: so." in page_of(run)) == bool(note)


def test_a_gene_without_an_interval_has_no_text(tmp_path: Path) -> None:
    stored = toy_stored(tmp_path)
    widths = toy_half_widths()
    widths[:, 2] = np.nan
    without = replace(stored, extras=replace(stored.extras, half_width=widths))
    assert half_width_text(without, 2) == ""
    assert half_width_text(without, 1).endswith("±0.42 for a spot, ±0.32 for 4 spots, ±0.22 for 9 spots")  # fmt: skip


def test_it_is_said_where_the_spread_follows_the_error_and_where_not(run: RunDir) -> None:
    found = {"median": -0.004, "n_genes": 1157, "n_above": 31, "n_below": 28}
    record = metrics(
        sections=[{"section_id": "S1", "spread_spearman": found}, {"section_id": "S2"}]
    )
    assert spread_lines(Metrics(**record)) == [
        "Section S1: median −0.004; above 0 in 31, below 0 in 28 of 1,157 genes (FDR 5 % on either side, spots taken as "
        "independent)."
    ]
    write_json(run.path / "metrics.json", record)
    assert "median −0.004; above 0 in 31" in page_of(run)


def test_the_card_has_the_half_widths_of_the_model_and_what_they_reach() -> None:
    made = RegionIntervals(
        (1, 4, 9, 25),
        (0.5, 0.8, 0.9, 0.95),
        np.array([[0.4, 0.6], [0.3, 0.3], [0.2, 0.2], [np.nan] * 2], np.float32),
        np.ones((4, 4), np.float32),
        np.array([3, 3, 3, 0]),
    )
    validation = VALIDATION | {"region_calibration": [row.plain() for row in CALIBRATION]}
    card = render_model_card(
        bundle(validation=json.loads(json.dumps(validation)), trust=Trust(regions=made).tensors())
    )
    assert "±0.82 for a spot, ±0.49 for 4 spots, ±0.33 for 9 spots; one number" in card
    assert "| held out | region | stated 50% | stated 90% |\n|---|---|---:|---:|\n" in card
    assert (
        "\n| other patient | a spot | 50.0% (48.0% to 52.0%) | 90.0% (88.0% to 92.0%) |\n" in card
    )
    assert "carries no intervals" not in card
    assert "The model carries no intervals of composition" in render_model_card(bundle())
