"""The rule of claims: which evidence applies to a slide, what is written, and the sentence that is read first."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.made_claims import claims_of, evidence_table
from hespotex.evaluation.claims import (
    BETWEEN,
    EVIDENCE,
    WITHIN,
    Claims,
    Patient,
    decide,
    from_columns,
    untested,
)

GENES = ("ACTB", "CD3E", "ERBB2", "FASN", "KRT19")
ACROSS = evidence_table(
    {"ACTB": "A", "CD3E": "D", "ERBB2": "D", "FASN": "ungraded"},
    evidence={"ERBB2": "plainly not predicted"},
)
INSIDE = evidence_table({"ACTB": "B", "CD3E": "B", "FASN": "C"}, n_patients=0, n_sections=4)
UNLIKE = "unlike: tissue"


def decided(patient: Patient, tables: dict[object, object], **more: object) -> Claims:
    return decide(GENES, tables, patient, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("patient", ["new", "unknown"])
def test_a_grade_from_the_training_patients_themselves_is_none_for_another_one(
    patient: Patient,
) -> None:
    claims = decided(patient, {WITHIN: INSIDE})
    assert set(claims.grade) == {"ungraded"}
    assert set(claims.evidence) == {"untested"}
    assert set(claims.gene_scope) == {"none"} == {claims.scope}
    assert not claims.n_sections.any()
    assert np.isnan(claims.score).all()
    assert not claims.written().any()
    assert claims.written(untested=True).all()
    assert claims.counts() == dict.fromkeys(EVIDENCE, 0) | {"untested": 5}
    assert "tested on sections of its own training patients alone" in claims.sentence()


def test_every_gene_carries_what_its_grade_rests_on() -> None:
    claims = decided("new", {BETWEEN: ACROSS, WITHIN: INSIDE})
    assert claims.grade.tolist() == ["A", "D", "D", "ungraded", "ungraded"]
    assert claims.evidence.tolist() == [
        "predicted", "not shown", "plainly not predicted", "untested", "untested",
    ]  # fmt: skip
    assert claims.gene_scope.tolist() == [BETWEEN] * 3 + ["none"] * 2
    assert claims.n_patients.tolist() == [2, 2, 2, 0, 0]
    assert claims.n_sections.tolist() == [3, 3, 3, 0, 0]
    np.testing.assert_allclose(claims.score, [0.5, 0.49, 0.48, np.nan, np.nan])
    np.testing.assert_allclose(claims.q_value, [0.001, 0.002, 0.003, np.nan, np.nan])
    assert (claims.scope, claims.tested_patients, claims.tested_sections) == (BETWEEN, 2, 3)


def test_a_patient_of_the_training_has_the_closest_evidence_of_each_gene() -> None:
    claims = decided("same", {BETWEEN: ACROSS, WITHIN: INSIDE})
    assert claims.grade.tolist() == ["B", "B", "D", "C", "ungraded"]
    assert claims.gene_scope.tolist() == [WITHIN, WITHIN, BETWEEN, WITHIN, "none"]
    assert claims.n_patients.tolist() == [0, 0, 2, 0, 0]
    assert claims.scope == WITHIN
    across = decided("same", {BETWEEN: ACROSS})
    assert across.scope == BETWEEN
    assert across.grade.tolist() == [*ACROSS["grade"].tolist(), "ungraded"]


@pytest.mark.parametrize("patient", ["same", "new", "unknown"])
def test_an_unlike_slide_has_no_grade_whoever_it_is_of(patient: Patient) -> None:
    claims = decided(patient, {BETWEEN: ACROSS, WITHIN: INSIDE}, verdict=UNLIKE)
    assert claims.suspended
    assert set(claims.grade) == {"ungraded"}
    assert set(claims.evidence) == {"untested"}
    assert claims.scope == "none"
    assert not np.isfinite(claims.score).any()
    assert not claims.written().any()
    assert claims.reason == "the slide is unlike the training slides (tissue)"
    assert not decided(patient, {BETWEEN: ACROSS}, verdict="like the training slides").suspended


def test_what_is_written_are_a_to_c_then_the_untested_then_all_on_request() -> None:
    claims = claims_of(["A", "B", "C", "D", "ungraded"])
    assert claims.written().tolist() == [True, True, True, False, False]
    assert claims.written(untested=True).tolist() == [True, True, True, False, True]
    assert claims.written(all_genes=True).all()
    assert claims.written(untested=True, all_genes=True).all()


FIRST_SENTENCES = {
    "new": (
        "1 of 5 genes are predicted for a patient outside the training, tested on 2 held-out patients (3 sections). "
        "Not shown: 1; plainly not predicted: 1; untested: 2."
    ),
    "unknown": (
        "1 of 5 genes are predicted for a patient outside the training, tested on 2 held-out patients (3 sections). "
        "Not shown: 1; plainly not predicted: 1; untested: 2. The patient of this slide is not known and counts as "
        "outside the training."
    ),
    "same": (
        "3 of 5 genes are predicted for other sections of the training patients, tested on 4 sections of theirs: this "
        "says nothing about another patient. Not shown: 0; plainly not predicted: 1; untested: 1."
    ),
}


@pytest.mark.parametrize("patient", FIRST_SENTENCES)
def test_the_first_sentence_says_scope_and_number_of_patients(patient: Patient) -> None:
    claims = decided(patient, {BETWEEN: ACROSS, WITHIN: INSIDE})
    assert claims.sentence() == FIRST_SENTENCES[patient]


def test_the_first_sentence_where_there_is_no_evidence_says_why() -> None:
    assert decided("new", {}).sentence() == (
        "No gene is tested for this patient: the model was never validated."
    )
    assert decided("unknown", {}, untested_because="it was imported").sentence() == (
        "No gene is tested for this slide, whose patient is not known: it was imported."
    )
    assert decided("new", {BETWEEN: ACROSS}, verdict=UNLIKE).sentence() == (
        "This slide is unlike the training slides (tissue): the model's grades do not hold on it, and nothing is "
        "claimed of its 5 genes."
    )
    only_d = {BETWEEN: evidence_table(dict.fromkeys(GENES, "D"), n_patients=1, n_sections=1)}
    assert (
        decided("new", only_d)
        .sentence()
        .startswith(
            "None of 5 genes is predicted for a patient outside the training, tested on 1 held-out patient (1 section). "
            "Not shown: 5;"
        )
    )


def test_flagged_spots_are_excluded_from_what_is_claimed() -> None:
    flagged = np.array([True, False, False, False])
    claims = decided("new", {BETWEEN: ACROSS}, flagged=flagged)
    assert (claims.n_spots, claims.n_flagged) == (4, 1)
    assert claims.sentence().endswith(
        " 1 of 4 spots is flagged as unlike the training: nothing is claimed there."
    )


def test_fewer_genes_keep_the_counts_of_the_whole_panel() -> None:
    claims = decided("new", {BETWEEN: ACROSS})
    part = claims.subset([2, 0])
    assert part.grade.tolist() == ["D", "A"]
    assert part.counts() == claims.counts()
    assert part.sentence() == claims.sentence()
    nothing = claims.subset([])
    assert len(nothing) == 0
    assert nothing.sentence() == claims.sentence()


def test_columns_and_back_are_the_same_claims() -> None:
    claims = decided("new", {BETWEEN: ACROSS})
    again = from_columns(claims.columns(), scope=claims.scope, patient="new")
    for name, values in claims.columns().items():
        np.testing.assert_array_equal(again.columns()[name], values)


def test_nothing_is_claimed_of_untested_genes() -> None:
    claims = untested(3, "it is so")
    assert (
        claims.sentence()
        == "No gene is tested for this slide, whose patient is not known: it is so."
    )
    assert claims.counts()["untested"] == 3
