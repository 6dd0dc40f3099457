"""Owns the names of the painted H&E cohort with known expression; see `tissue`, `paint`, `expression`."""

from hespotex.synthetic.cohort import SectionArrays, make_cohort, make_section_arrays
from hespotex.synthetic.expression import GeneTruth
from hespotex.synthetic.tissue import TISSUES

__all__ = ["TISSUES", "GeneTruth", "SectionArrays", "make_cohort", "make_section_arrays"]
