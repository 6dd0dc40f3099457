"""Painted H&E cohorts with known expression, and the demo."""

from hespotex.datasets.cohort import make_cohort, make_section_arrays, write_cohort
from hespotex.datasets.diagnoses import diagnosis_plan
from hespotex.datasets.expression import GeneTruth
from hespotex.datasets.paint import Scanner
from hespotex.datasets.painted import PaintedSection, SectionArrays
from hespotex.datasets.patients import PaintedPatient, draw_patients
from hespotex.datasets.plan import PaintedPlan
from hespotex.datasets.slices import Serial
from hespotex.datasets.tissue import KINDS, TISSUES
from hespotex.datasets.truth import PointTruth, SectionTruth

__all__ = [
    "KINDS",
    "TISSUES",
    "GeneTruth",
    "PaintedPatient",
    "PaintedPlan",
    "PaintedSection",
    "PointTruth",
    "Scanner",
    "SectionArrays",
    "SectionTruth",
    "Serial",
    "diagnosis_plan",
    "draw_patients",
    "make_cohort",
    "make_section_arrays",
    "write_cohort",
]
