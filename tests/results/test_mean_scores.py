"""An interval lies around the mean of its own units, and the report says which number that is."""

from __future__ import annotations

import numpy as np
import pytest

from hespotex.report.report_tables import interval_text, score_rows, span_text
from hespotex.results.mean_scores import mean_intervals, mean_scores
from hespotex.storage.metrics import Metrics, ScoreSummary, SectionRecord, Units


def _section(section_id: str, patient_id: str, score: float) -> SectionRecord:
    values = ScoreSummary(**dict.fromkeys(ScoreSummary.model_fields, score))
    return SectionRecord(
        section_id=section_id, patient_id=patient_id, scores={"model": values}, ceiling=values
    )


SECTIONS = [
    _section("A1", "A", 0.3),
    _section("A2", "A", 0.3),
    _section("A3", "A", 0.3),
    _section("B1", "B", 0.5),
    _section("C1", "C", 0.4),
    _section("D1", "D", 0.6),
]


def _metrics(sections: list[SectionRecord]) -> Metrics:
    mean = mean_scores([sections])
    return Metrics(mean=mean, **mean_intervals(mean, sections))


def test_an_interval_over_patients_lies_around_the_mean_over_patients() -> None:
    found = _metrics(SECTIONS)
    assert found.intervals_over == Units(unit="patient", n=4)
    assert found.mean_of("model", "pcc_log1p_mean") == pytest.approx(0.4)
    assert found.interval_centres["model"]["pcc_log1p_mean"] == pytest.approx(0.45)
    half = 3.182446 * np.std([0.3, 0.5, 0.4, 0.6], ddof=1) / 2
    assert found.intervals["model"]["pcc_log1p_mean"] == pytest.approx([0.45 - half, 0.45 + half])
    assert found.ranges == {}


def test_the_report_writes_a_centre_before_its_interval_where_it_is_another_number() -> None:
    metrics = _metrics(SECTIONS)
    assert span_text(metrics, "model", "pcc_log1p_mean") == "0.450 [0.245, 0.655]"
    assert "mean over patients that differs" in interval_text(metrics)
    assert score_rows(metrics)[0]["cells"][2]["span"].startswith("0.450 [")


def test_one_section_a_patient_leaves_one_number() -> None:
    metrics = _metrics(SECTIONS[2:])
    assert span_text(metrics, "model", "pcc_log1p_mean").startswith("[")
    assert "differs" not in interval_text(metrics)


@pytest.mark.parametrize(("n", "span"), [(2, "(0.300 to 0.500)"), (3, "(0.300 to 0.500)")])
def test_of_two_or_three_units_the_range_is_shown_and_no_interval(n: int, span: str) -> None:
    metrics = _metrics(SECTIONS[2 : 2 + n])
    assert metrics.intervals == {}
    assert metrics.ranges["model"]["pcc_log1p_mean"] == [0.3, 0.5]
    assert span_text(metrics, "model", "pcc_log1p_mean") == span
    assert interval_text(metrics) == (
        f"In parentheses the lowest and the highest of {n} patients: so few give no interval."
    )


def test_a_single_unit_has_neither() -> None:
    metrics = _metrics(SECTIONS[:1])
    assert metrics.intervals == metrics.ranges == {}
    assert span_text(metrics, "model", "pcc_log1p_mean") == ""
    assert interval_text(metrics) == "No interval: there is a single section."


def test_an_interval_of_two_units_that_an_older_run_wrote_is_not_shown() -> None:
    metrics = _metrics(SECTIONS[2:4])
    old = Metrics(
        **{k: v for k, v in metrics.plain().items() if k not in ("ranges", "intervals")},
        intervals={"model": {"pcc_log1p_mean": [-0.961, 1.0]}},
    )
    assert span_text(old, "model", "pcc_log1p_mean") == ""
    assert interval_text(old) == "No interval: there are only 2 patients."
