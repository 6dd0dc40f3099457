"""What scale and orientation a section has, decided from every source at once."""

from hespotex.geometry.decide import AGREEMENT, Geometry, StatedScale, decide_geometry
from hespotex.geometry.lattice import Lattice, fit_lattice
from hespotex.geometry.orientation import (
    ORIENTATIONS,
    Hypothesis,
    OrientationEvidence,
    orient,
    orientation_evidence,
)

__all__ = [
    "AGREEMENT",
    "ORIENTATIONS",
    "Geometry",
    "Hypothesis",
    "Lattice",
    "OrientationEvidence",
    "StatedScale",
    "decide_geometry",
    "fit_lattice",
    "orient",
    "orientation_evidence",
]
