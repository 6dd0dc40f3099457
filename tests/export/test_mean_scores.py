"""An interval lies around the mean of its own units, and the report says which number that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hespotex.evaluation.scores import ScoreSummary
from hespotex.export.mean_scores import mean_intervals, mean_scores
from hespotex.export.report_tables import interval_text, score_rows, span_text


def _section(section_id: str, patient_id: str, score: float) -> dict[str, Any]:
    values = ScoreSummary(*[score] * 7).as_dict()
    return {
        "section_id": section_id,
        "patient_id": patient_id,
        "scores": {"model": values},
        "ceiling": values,
    }


SECTIONS = [
    _section("A1", "A", 0.3),
    _section("A2", "A", 0.3),
    _section("A3", "A", 0.3),
    _section("B1", "B", 0.5),
    _section("C1", "C", 0.4),
]


def test_an_interval_over_patients_lies_around_the_mean_over_patients() -> None:
    mean = mean_scores([SECTIONS])
    found = mean_intervals(mean, SECTIONS)
    assert found["intervals_over"] == {"unit": "patient", "n": 3}
    assert mean["model"]["pcc_log1p_mean"] == pytest.approx(0.36)
    assert found["interval_centres"]["model"]["pcc_log1p_mean"] == pytest.approx(0.4)
    half = 4.302653 * 0.1 / np.sqrt(3)
    assert found["intervals"]["model"]["pcc_log1p_mean"] == pytest.approx([0.4 - half, 0.4 + half])


def test_the_report_writes_a_centre_before_its_interval_where_it_is_another_number() -> None:
    mean = mean_scores([SECTIONS])
    metrics = {"mean": mean, **mean_intervals(mean, SECTIONS)}
    assert span_text(metrics, "model", "pcc_log1p_mean") == "0.400 [0.152, 0.648]"
    assert "mean over patients that differs" in interval_text(metrics)
    assert score_rows(metrics)[0]["cells"][2]["span"].startswith("0.400 [")


def test_one_section_a_patient_leaves_one_number() -> None:
    mean = mean_scores([SECTIONS[2:]])
    metrics = {"mean": mean, **mean_intervals(mean, SECTIONS[2:])}
    assert span_text(metrics, "model", "pcc_log1p_mean").startswith("[")
    assert "differs" not in interval_text(metrics)
