"""What commands say, said once and in time: notes of many folds, a model's scores, a setting that cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.commands import metrics_of, refusal, run
from helpers.feature_cohort import toy_items, write_cohort

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.mark.slow
def test_training_says_the_limits_of_one_patient_once_and_prints_scores_and_grades(
    tmp_path: Path,
) -> None:
    manifest = write_cohort(tmp_path / "c", toy_items(7)[2:])  # two sections of patient B
    result = run("train", manifest, "--out", tmp_path / "m.hespotex")
    assert result.exit_code == 0, result.output
    few = "1 patient is in training: what carries over to another patient depends on their number above all"
    assert " ".join(result.stderr.split()).count(few) == 1
    warnings = " ".join(result.stderr.split()).replace(few, "").split("warning: ")[1:]
    assert sum("another patient" in w or "another one" in w for w in warnings) == 1
    assert sum("spatial blocks of it" in w for w in warnings) == 1  # both folds in one sentence
    assert "held out in turn B1; B2" in " ".join(warnings)
    assert "composition PCC (200 abundant)" in result.stdout
    assert "measured depth alone (oracle)" in result.stdout
    assert "genes by grade within the patients of the training: " in result.stdout
    assert few in (tmp_path / "m.model-card.md").read_text()
    notes = metrics_of(tmp_path / "m.validation")["notes"]
    assert len(notes) == len(set(notes))


@pytest.mark.slow
def test_a_setting_that_cannot_work_does_not_bar_its_correction(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "c", toy_items(7))
    model, wrong = tmp_path / "m.hespotex", ("--set", "panel.min_spots=100000")
    said = refusal(run("train", manifest, "--out", model, *wrong))
    assert "lower panel.min_spot_fraction or panel.min_spots" in said
    assert not (tmp_path / "m.validation").exists()
    result = run("train", manifest, "--out", model)
    assert result.exit_code == 0, result.output
    assert model.is_file()
