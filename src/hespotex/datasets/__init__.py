"""Painted H&E cohorts with known expression, and the demo."""

from hespotex.datasets.expression import GeneTruth
from hespotex.datasets.painted import SectionArrays, make_cohort, make_section_arrays
from hespotex.datasets.tissue import TISSUES

__all__ = ["TISSUES", "GeneTruth", "SectionArrays", "make_cohort", "make_section_arrays"]
