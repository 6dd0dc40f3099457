"""A painted cohort of two diagnoses that differ in a small structure, for `localize`."""

from __future__ import annotations

from typing import Final

from hespotex.datasets.paint import Scanner
from hespotex.datasets.patients import draw_patients
from hespotex.datasets.plan import PaintedPlan

WITH: Final = "with foci"
WITHOUT: Final = "without foci"
# The second scanner sees eosin a little redder and haematoxylin paler.
SCANNERS: Final = {
    "A": Scanner(),
    "B": Scanner(colour=((0.92, 0.06, 0.0), (0.0, 1.08, 0.04), (0.05, 0.0, 0.95))),
}


def diagnosis_plan(
    *,
    seed: int = 0,
    n_patients: int = 40,
    share: float = 0.05,
    confounded: bool = False,
    side_um: float = 2000.0,
) -> PaintedPlan:
    """Patients of two diagnoses, one slide each; foci of large dark nuclei lie on the slides of one.

    Args:
        seed: of everything.
        n_patients: half of either diagnosis.
        share: part of the area that foci take, 0.02 to 0.10; 0 is the null version, in which diagnoses are names alone.
        confounded: every diagnosis has a scanner of its own, else scanners are dealt inside each.
        side_um: of the slide.

    Raises:
        ValueError: a share that is neither 0 nor between 0.02 and 0.10.
    """
    if share and not 0.02 <= share <= 0.10:
        raise ValueError(f"expected a share of 0, or from 0.02 to 0.10, found {share}")
    patients = draw_patients(
        n_patients,
        seed=seed,
        labels=(WITH, WITHOUT),
        foci={WITH: share} if share else None,
        scanners=tuple(SCANNERS),
        confounded=confounded,
    )
    return PaintedPlan(
        seed=seed,
        patients=patients,
        sections_per_patient=1,
        n_genes=60,
        focus_genes=5,
        lattice="hexagonal",
        side_um=side_um,
        scanners=SCANNERS,
    )
