"""A cohort of encoded sections with known structure: small, quick, no slide and no encoder.

Features are noisy linear readings of two smooth maps; the first genes follow the maps, the others
do not. Sections of patient A stand on a square lattice, those of patient B on a hexagonal one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.models.types import Cohort, EncodedSection, EncoderRecord
from hespotex.sections.section import Geometry, Section

N_GENES = 30
N_FOLLOWING = 12
SIDES_UM = (50.0, 100.0)


def lattice(rows: int, columns: int, *, hexagonal: bool) -> npt.NDArray[np.float64]:
    """(rows x columns, 2) positions at a pitch of 100 um."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    shift = 0.5 * (y % 2) if hexagonal else 0.0
    step = np.sqrt(3) / 2 if hexagonal else 1.0
    return np.stack([(x + shift) * 100.0, y * step * 100.0], axis=1)


def encoded_section(
    section_id: str, patient_id: str, seed: int, *, hexagonal: bool = False, n_side: int = 9
) -> EncodedSection:
    """One section of `n_side` squared spots, 2 scales of 12 features, 30 genes."""
    rng = np.random.default_rng([7, seed])
    world = np.random.default_rng(7)
    loading = world.normal(size=(2, N_GENES)) * (np.arange(N_GENES) < N_FOLLOWING)
    mixing = world.normal(size=(2, 2, 12))
    xy_um = lattice(n_side, n_side, hexagonal=hexagonal)
    phase = rng.uniform(0, 2 * np.pi, size=2)
    maps = np.sin(xy_um / (90.0 * n_side) * 2 * np.pi + phase)
    features = np.einsum("nk,skd->nsd", maps, mixing) + 0.3 * rng.normal(size=(len(xy_um), 2, 12))
    share = np.exp(world.normal(size=N_GENES) + maps @ loading)
    depth = 400.0 * np.exp(0.5 * maps[:, :1] + 0.2 * rng.normal(size=(len(xy_um), 1)))
    counts = rng.poisson(depth * share / share.sum(axis=1, keepdims=True))
    section = Section(
        section_id=section_id,
        patient_id=patient_id,
        slide=None,
        geometry=Geometry(mpp=0.5, spot_pitch_um=100.0, spot_diameter_um=55.0),
        barcodes=np.array([f"{i}" for i in range(len(xy_um))]),
        xy_px0=xy_um / 0.5,
        counts=sparse.csr_matrix(counts.astype(np.float32)),
        genes=np.array([f"G{j:02d}" for j in range(N_GENES)]),
    )
    return EncodedSection(section, features.astype(np.float32))


def toy_cohort(n_side: int = 9) -> Cohort:
    """Four sections of two patients."""
    items = (
        encoded_section("A1", "A", 0, n_side=n_side),
        encoded_section("A2", "A", 1, n_side=n_side),
        encoded_section("B1", "B", 2, hexagonal=True, n_side=n_side),
        encoded_section("B2", "B", 3, hexagonal=True, n_side=n_side),
    )
    record = EncoderRecord("toy", "toy-key", 12, 16, (0.5,) * 3, (0.5,) * 3)
    return Cohort(items, record, SIDES_UM)
