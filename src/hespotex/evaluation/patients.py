"""Whether a slide is of a patient of the training."""

from __future__ import annotations

from collections.abc import Sequence

from hespotex.evaluation.claims import UNKNOWN_PATIENTS, Patient
from hespotex.models.bundle import Bundle
from hespotex.progress import Reporter
from hespotex.sections.section import Section


def patient_of(bundle: Bundle, patient_id: str, *, same_patient: bool = False) -> Patient:
    """Whether a slide is of a patient of the training.

    Every lab has a patient P1, so an equal id alone does not make two patients one.

    Args:
        patient_id: as the user gave it; empty or `unknown` where nobody said whose the slide is.
        same_patient: equal ids mean the same patient.
    """
    if patient_id.strip().casefold() in UNKNOWN_PATIENTS:
        return "unknown"
    return "same" if same_patient and is_trained_patient(bundle, patient_id) else "new"


def is_trained_patient(bundle: Bundle, patient_id: str) -> bool:
    """Whether a patient of the training has this id, whatever its case."""
    trained = {s.patient_id.strip().casefold() for s in bundle.sections} - UNKNOWN_PATIENTS
    return patient_id.strip().casefold() in trained


def patients_of(
    bundle: Bundle, sections: Sequence[Section], same_patient: bool, reporter: Reporter
) -> dict[str, Patient]:
    """`patient_of` every section, by its id; ids that the training has, too, are reported."""
    say_same_id(bundle, [s.patient_id for s in sections], same_patient, reporter)
    return {
        s.section_id: patient_of(bundle, s.patient_id, same_patient=same_patient) for s in sections
    }


def say_same_id(
    bundle: Bundle, patient_ids: Sequence[str], same_patient: bool, reporter: Reporter
) -> None:
    """Report ids that the training has, too: an id alone does not make two patients one."""
    shared = [p for p in dict.fromkeys(patient_ids) if is_trained_patient(bundle, p)]
    if shared and not same_patient:
        reporter.say(
            f"patient {', '.join(shared)}: the training has a patient of this name; it is taken for another one, "
            "--same-patient says that it is the same"
        )
