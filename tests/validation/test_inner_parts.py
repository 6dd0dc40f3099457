"""What is left out inside a training part, to calibrate on."""

from __future__ import annotations

import pytest

from helpers.toy_cohort import encoded_section, toy_cohort
from hespotex.config import RunConfig
from hespotex.models.types import Cohort
from hespotex.validation.cross_validation import inner_parts


def _cohort(patients: str) -> Cohort:
    plain = toy_cohort(n_side=5)
    items = [encoded_section(f"S{i}", p, i, n_side=5) for i, p in enumerate(patients)]
    return Cohort(tuple(items), plain.encoder, plain.sides_um)


def _left_out(patients: str, inner_folds: int | None) -> list[list[str]]:
    config = RunConfig.from_values({"trust": {"inner_folds": inner_folds}})
    parts = inner_parts(_cohort(patients), config)
    for part, rest in parts:
        held = {item.section.patient_id for item in part.items}
        if len(set(patients)) > 1:
            assert held.isdisjoint(item.section.patient_id for item in rest.items)
        assert len(part.items) + len(rest.items) == len(patients)
    return [[item.section.section_id for item in part.items] for part, _ in parts]


@pytest.mark.parametrize("patients", ["AB", "ABC", "ABCD", "ABCDE", "AAAAA"])
def test_up_to_five_units_are_left_out_one_by_one(patients: str) -> None:
    assert _left_out(patients, None) == [[f"S{i}"] for i in range(len(patients))]


def test_sections_of_a_patient_are_left_out_together() -> None:
    assert _left_out("ABABC", None) == [["S0", "S2"], ["S1", "S3"], ["S4"]]


@pytest.mark.parametrize("patients", ["ABCDEF", "AAAAAA"])
def test_more_than_five_units_are_left_out_in_three_groups(patients: str) -> None:
    parts = _left_out(patients, None)
    assert [len(part) for part in parts] == [2, 2, 2]
    assert sorted(name for part in parts for name in part) == [f"S{i}" for i in range(6)]


def test_a_configured_number_of_groups_holds_for_few_units_too() -> None:
    assert [len(part) for part in _left_out("ABCD", 2)] == [2, 2]
    assert len(_left_out("ABCDEF", 6)) == 6
