"""The cohort of two diagnoses is what it states: foci on one, none in the null version, scanners dealt or confounded."""

from __future__ import annotations

import pytest

from hespotex.datasets import diagnosis_plan
from hespotex.datasets.diagnoses import WITH


def test_foci_lie_on_slides_of_one_diagnosis_and_nowhere_in_the_null_version() -> None:
    patients = diagnosis_plan(share=0.05).patients
    assert [p.foci for p in patients] == [0.05 if p.label == WITH else 0.0 for p in patients]
    assert sum(p.label == WITH for p in patients) == 20
    assert not any(p.foci for p in diagnosis_plan(share=0.0).patients)


def test_a_confounder_gives_each_diagnosis_a_scanner_of_its_own() -> None:
    def pairs(confounded: bool) -> set[tuple[str, str]]:
        return {(p.label, p.scanner) for p in diagnosis_plan(confounded=confounded).patients}

    assert len(pairs(confounded=True)) == 2
    assert len(pairs(confounded=False)) == 4


def test_a_share_outside_the_stated_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"from 0.02 to 0.10, found 0.5"):
        diagnosis_plan(share=0.5)
