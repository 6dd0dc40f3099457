"""The rule of the grades, limit by limit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hespotex.errors import HESpotExError
from hespotex.evaluation.grades import (
    GeneEvidence,
    GradeRule,
    count_grades,
    count_patients,
    grade_genes,
    plainly_not_predicted,
)


def evidence(**changes: object) -> GeneEvidence:
    """One gene that earns an A in two sections of two patients, with changes."""
    values: dict[str, object] = {
        "score": np.array([[0.4], [0.5]]),
        "z": np.array([[4.0], [5.0]]),
        "q_value": np.array([0.001]),
        "depth_score": np.array([[0.05], [0.02]]),
        "ceiling": np.array([[0.6], [0.7]]),
        "coverage": np.array([0.89]),
        "nominal": 0.9,
        "patients": ("P", "Q"),
    }
    return GeneEvidence(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, "A"),
        ({"patients": ("P", "P")}, "B"),
        # Who was trained on, too, is no held-out patient.
        ({"patients": ("P", "")}, "B"),
        ({"patients": ("", "")}, "B"),
        ({"coverage": np.array([0.80])}, "B"),
        ({"coverage": np.array([np.nan])}, "B"),
        ({"z": np.array([[4.0], [1.0]])}, "B"),
        ({"score": np.array([[0.15], [0.2]])}, "B"),
        ({"ceiling": np.array([[0.95], [0.95]])}, "B"),
        ({"z": np.array([[1.5], [1.6]])}, "C"),
        ({"score": np.array([[0.12], [0.14]])}, "C"),
        # No score is a share of a ceiling of 0.
        ({"ceiling": np.array([[0.0], [0.0]])}, "C"),
        ({"depth_score": np.array([[0.6], [0.6]])}, "D"),
        ({"q_value": np.array([0.06])}, "D"),
        ({"score": np.array([[-0.3], [-0.2]])}, "D"),
        ({"score": np.array([[np.nan], [np.nan]]), "z": np.array([[np.nan]] * 2)}, "ungraded"),
        # In one patient alone it has a score: a second one was never seen.
        ({"score": np.array([[np.nan], [0.5]]), "z": np.array([[np.nan], [5.0]])}, "B"),
    ],
)
def test_every_limit_of_the_rule(changes: dict[str, object], grade: str) -> None:
    assert grade_genes(evidence(**changes)).tolist() == [grade]


def test_the_rule_is_written_out_with_its_own_limits() -> None:
    text = GradeRule(fdr=0.1, share_a=0.6).text()
    assert [sentence[0] for sentence in text] == list("ABCD")
    assert "FDR 10%" in text[2]
    assert "60% of its noise ceiling" in text[0]


def test_the_rule_names_the_score_and_every_limit_that_a_grade_can_fail_at() -> None:
    """Whoever recomputes grades from genes.csv has several PCC to choose from: pcc_partial is meant."""
    a, b, c, _ = GradeRule().text()
    assert all("mean PCC given depth" in sentence for sentence in (a, b, c))
    assert "noise ceiling, which is above 0" in b
    assert "above 0 and above what measured depth alone reaches (composition PCC)" in c


def test_a_stricter_rule_gives_a_lower_grade() -> None:
    assert grade_genes(evidence(), GradeRule(score_a=0.6)).tolist() == ["B"]


def test_grades_are_counted_best_first() -> None:
    grades = np.array(["A", "B", "C", "D", "ungraded"])
    assert count_grades(grades) == {"A": 1, "B": 1, "C": 1, "D": 1, "ungraded": 1}


def test_plainly_not_predicted_asks_every_section_that_can_tell() -> None:
    ceiling = np.array([[0.5, 0.5, 0.5, 0.2, 0.5], [0.8, 0.8, 0.1, 0.2, np.nan]])
    upper = np.array([[0.05, 0.05, 0.09, 0.01, np.nan], [0.1, 0.2, 0.9, 0.01, 0.0]])
    # below a fifth of the ceiling twice; once not; the second section cannot tell; nobody can tell; no bound
    assert plainly_not_predicted(upper, ceiling).tolist() == [True, False, True, False, False]


def test_patients_count_once_and_only_where_they_were_not_in_training() -> None:
    score = np.array([[0.1, np.nan], [0.2, 0.3], [0.3, 0.1], [0.4, 0.2]])
    assert count_patients(score, ("P", "P", "Q", "")).tolist() == [2, 2]
    assert count_patients(score, ("P", "Q", "", "")).tolist() == [2, 1]


def test_evidence_on_other_genes_is_an_error() -> None:
    with pytest.raises(HESpotExError, match="same sections and genes, found tables of shapes"):
        dataclasses.replace(evidence(), z=np.zeros((2, 3)))
    with pytest.raises(HESpotExError, match="a patient for each of 2 sections, found 1"):
        evidence(patients=("P",))
