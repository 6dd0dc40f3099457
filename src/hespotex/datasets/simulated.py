"""Painted cohorts with simulated features: what an encoder might see of a patch, without a picture or an encoder.

Hundreds of cohorts are made in minutes, so that rates of false findings can be counted. Features are noisy linear readings
of what is painted under a patch and of how it is stained: they know tissues, nuclei, foci and scanners, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.datasets.draws import stream
from hespotex.datasets.expression import tissue_under_spots
from hespotex.datasets.paint import Stain
from hespotex.datasets.painted import PaintedSection
from hespotex.datasets.plan import FEATURES, PaintedPlan
from hespotex.geometry import Geometry
from hespotex.models.types import Cohort, EncodedSection, EncoderRecord
from hespotex.sections.section import Section

SIDES_UM = (112.0, 224.0)
# Nuclei a mm2 that count as much as a patch full of one tissue, and optical density that does.
_NUCLEI_PER_MM2 = 4000.0
_DENSITY = 0.25
_STAIN_NUMBERS = 9


def simulated_sections(
    plan: PaintedPlan,
    *,
    dim: int = 32,
    noise: float = 0.5,
    stain: float = 1.0,
    sides_um: tuple[float, ...] = SIDES_UM,
) -> Iterator[EncodedSection]:
    """The sections of a plan with simulated features, one after another.

    Args:
        plan: of the cohort; the same plan gives the same features.
        dim: features of each patch.
        noise: standard deviation of what a feature says beside tissue and stain; those together are about 1.
        stain: how strongly features follow the stain and the scanner; 0: not at all.
        sides_um: of the patches, ascending.
    """
    encoder = stream(plan.seed, FEATURES)
    kinds = len(plan.genes.profile)
    of_tissue = encoder.normal(size=(len(sides_um), 2 * kinds, dim))
    of_stain = encoder.normal(scale=stain, size=(_STAIN_NUMBERS, dim))
    for patient in range(len(plan.patients)):
        for number in range(plan.sections_per_patient):
            painted = plan.section(patient, number, picture=False)
            rng = stream(plan.seed, FEATURES, patient, number + 1)
            seen = np.stack(
                [_seen(painted, side) @ of_tissue[k] for k, side in enumerate(sides_um)], axis=1
            )
            seen += _stain_numbers(plan.stain(patient, number)) @ of_stain
            seen += noise * rng.normal(size=seen.shape)
            yield EncodedSection(as_section(painted), seen.astype(np.float32))


def simulated_cohort(
    plan: PaintedPlan,
    *,
    dim: int = 32,
    noise: float = 0.5,
    stain: float = 1.0,
    sides_um: tuple[float, ...] = SIDES_UM,
) -> Cohort:
    """All of `simulated_sections`, as a fit takes them."""
    sections = simulated_sections(plan, dim=dim, noise=noise, stain=stain, sides_um=sides_um)
    record = EncoderRecord("simulated", "simulated", dim, 224, (0.5,) * 3, (0.5,) * 3)
    return Cohort(tuple(sections), record, sides_um)


def as_section(painted: PaintedSection) -> Section:
    """The spots and counts of a painted section as everything else in the house takes them; no slide."""
    arrays = painted.arrays
    return Section(
        section_id=painted.section_id,
        patient_id=painted.patient_id,
        slide=None,
        geometry=Geometry(arrays.mpp, arrays.spot_pitch_um, arrays.spot_diameter_um),
        barcodes=np.array([f"{x}x{y}" for x, y in arrays.array_xy.tolist()]),
        xy_px0=arrays.xy_px0,
        counts=sparse.csr_matrix(arrays.counts.astype(np.float32)),
        genes=arrays.truth.genes,
        array_xy=arrays.array_xy.astype(np.float64),
    )


def _seen(painted: PaintedSection, side_um: float) -> npt.NDArray[np.float64]:
    """(n, 2 x kinds) what lies in a disc of the patch's width: shares of area, densities of nuclei."""
    area, nuclei = tissue_under_spots(
        painted.truth.scene, painted.arrays.xy_um, side_um, kinds=painted.arrays.area.shape[1]
    )
    per_mm2 = nuclei / (np.pi * (side_um / 2) ** 2 * 1e-6)
    return np.hstack([area, per_mm2 / _NUCLEI_PER_MM2])


def _stain_numbers(stain: Stain) -> npt.NDArray[np.float64]:
    """(9,) densities of both dyes and of the empty slide."""
    glass = -np.log(stain.background / 255)
    return np.concatenate([(stain.vectors * stain.thickness).ravel(), glass]) / _DENSITY
