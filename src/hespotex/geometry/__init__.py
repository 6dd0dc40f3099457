"""What scale and orientation a section has, decided from every source at once."""

from hespotex.geometry.decide import AGREEMENT, Geometry, StatedScale, decide_geometry
from hespotex.geometry.lattice import Lattice, fit_lattice

__all__ = ["AGREEMENT", "Geometry", "Lattice", "StatedScale", "decide_geometry", "fit_lattice"]
