"""model-card.md: says what is known of a model, and that nothing is known where it was not tested."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.made_claims import validation_of
from hespotex.config import RunConfig
from hespotex.models.bundle import Bundle, TrainedOn
from hespotex.models.types import EncoderRecord, FittedModel
from hespotex.report.model_card import render_model_card, write_model_card


def bundle(n_patients: int = 2, **changes: Any) -> Bundle:
    made = Bundle(
        config=RunConfig(seed=7),
        genes=("ACTB", "HLA-A"),
        training_totals=(10.0, 5.0),
        encoder=EncoderRecord("efficientnet-lite0", "k", 1280, 224, (0.5,) * 3, (0.5,) * 3),
        sides_um=(77.2, 154.5),
        spot_pitch_um=200.0,
        spot_diameter_um=100.0,
        sections=tuple(
            TrainedOn(f"S|{k}", f"P{k}", "0123456789abcdef", 1100 + k, 0.69)
            for k in range(n_patients)
        ),
        model=FittedModel("default", {"w": np.zeros(2, np.float32)}),
    )
    return replace(made, **changes)


VALIDATION = {
    "folds_by": "patient",
    "mean": {
        "model": {"pcc_composition_mean": 0.205, "pcc_log1p_mean": 0.326, "rmse_log1p": 2.5},
        "ridge": {"pcc_composition_mean": 0.166, "pcc_log1p_mean": 0.273, "rmse_log1p": None},
        "depth_only": {"pcc_composition_mean": 0.058, "pcc_log1p_mean": 0.383, "rmse_log1p": None},
    },
    # OTHER is of a fold's panel alone: the model does not predict it.
    **validation_of({"ACTB": "D", "HLA-A": "A", "OTHER": "B"}),
}


def test_says_what_went_in_and_on_whom_it_was_trained() -> None:
    card = render_model_card(bundle())
    made = bundle()
    for said in (
        made.model_id,
        "2 sections of 2 patients, 2,201 spots",
        "77.2, 154.5 µm",
        "`efficientnet-lite0`",
        "seed 7",
        "| S\\|0 | P0 | 1,100 | 0.69 | `0123456789ab` |",
    ):
        assert said in card, said


def test_a_model_without_scores_makes_no_claim() -> None:
    card = render_model_card(bundle())
    assert "Nobody: the model carries no scores." in card
    assert "nothing is known of how good any gene is" in card
    assert "correlated" not in card


def test_scores_grades_and_folds_are_those_of_the_validation() -> None:
    card = render_model_card(bundle(validation=VALIDATION))
    assert "held out by patient" in card
    assert "| HESpotEx | 0.205 | – | 0.326 | 2.500 |" in card
    assert "Genes for a patient outside the training (tested on 2 patients): 1 A, 1 D;" in card
    assert "1 predicted, 1 not shown, 0 plainly not predicted, 0 untested" in card
    assert "correlated at 0.205" in card
    assert "(measured depth alone: 0.058)" in card
    assert "Ridge regression on the same features did as well" not in card


def test_coverage_names_the_sections_where_it_is_lowest_and_highest() -> None:
    row = {"nominal": 0.9, "observed": 0.933, "where": "other patient"}
    ends = {"lowest": 0.8456, "highest": 0.964, "n_sections": 4}
    validation = VALIDATION | {"calibration": [row | ends]}
    card = render_model_card(bundle(validation=validation))
    assert "90% 93.3% (other patient; sections 84.6% to 96.4%)" in card
    old = render_model_card(bundle(validation=VALIDATION | {"calibration": [row]}))
    assert "90% 93.3% (other patient)." in old


def test_says_when_ridge_does_as_well_and_when_only_sections_were_held_out() -> None:
    mean = {"model": {"pcc_composition_mean": 0.1}, "ridge": {"pcc_composition_mean": 0.12}}
    card = render_model_card(bundle(validation={"folds_by": "section", "mean": mean}))
    assert "Ridge regression on the same features did as well or better (0.120)" in card
    assert "whose patients were partly in training" in card


def test_one_patient_is_said() -> None:
    assert "what it does on another patient was never seen" in render_model_card(bundle(1))
    assert "1 section of 1 patient" in render_model_card(bundle(1))


@pytest.mark.parametrize("validation", [{}, VALIDATION])
def test_tables_are_whole_and_equal_models_give_equal_cards(
    validation: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("a.md", "b.md"):
        write_model_card(tmp_path / name, bundle(validation=validation))
    text = (tmp_path / "a.md").read_text()
    assert text == (tmp_path / "b.md").read_text()
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    for table in tables:
        widths = {line.replace("\\|", "").count("|") for line in table.strip().splitlines()}
        assert len(widths) == 1, table
    assert len(tables) == (2 if validation else 1)
