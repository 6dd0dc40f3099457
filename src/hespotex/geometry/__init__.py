"""Scale and orientation of a section, decided from every source at once, and frames that sections share."""

from hespotex.geometry.affine import Affine
from hespotex.geometry.bends import Bend, Map, Smooth, pixels_of
from hespotex.geometry.decide import Geometry, ScaleNote, StatedScale, decide_geometry
from hespotex.geometry.frames import CommonFrame, SectionFrame, read_frames, write_frames
from hespotex.geometry.image_fit import (
    FittedSpots,
    SlideFacts,
    fit_to_image,
    outside_error,
    spots_outside,
)
from hespotex.geometry.lattice import Lattice, fit_lattice
from hespotex.geometry.one_section import check_one_section
from hespotex.geometry.orientation import (
    ORIENTATIONS,
    Hypothesis,
    OrientationEvidence,
    orient,
    orientation_evidence,
)

__all__ = [
    "ORIENTATIONS",
    "Affine",
    "Bend",
    "CommonFrame",
    "FittedSpots",
    "Geometry",
    "Hypothesis",
    "Lattice",
    "Map",
    "OrientationEvidence",
    "ScaleNote",
    "SectionFrame",
    "SlideFacts",
    "Smooth",
    "StatedScale",
    "check_one_section",
    "decide_geometry",
    "fit_lattice",
    "fit_to_image",
    "orient",
    "orientation_evidence",
    "outside_error",
    "pixels_of",
    "read_frames",
    "spots_outside",
    "write_frames",
]
