"""Sections of another lab than the toy cohort's: the same tissue and features, with more to say.

Genes 12 to 19, flat in the toy cohort, follow the first map; every spot has four times the counts; gene 0 is as common
as eight times there; genes N0 to N3 are measured besides, two of them on the second map.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from helpers.toy_cohort import N_FOLLOWING, N_GENES, encoded_section, toy_cohort
from hespotex.models.types import Cohort, EncodedSection

LEFT_OVER = slice(N_FOLLOWING, 20)
NEW = ("N0", "N1", "N2", "N3")
DEEPER, COMMONER = 4.0, 8.0


def own_section(
    section_id: str, patient_id: str, seed: int, *, n_side: int = 12, one_scale: bool = False
) -> EncodedSection:
    """One section."""
    item = encoded_section(section_id, patient_id, seed, n_side=n_side)
    rng, world = np.random.default_rng([11, seed]), np.random.default_rng(7)
    loading = world.normal(size=(2, N_GENES)) * (np.arange(N_GENES) < N_FOLLOWING)
    world.normal(size=(2, 2, 12))
    usual = world.normal(size=N_GENES)
    loading[0, LEFT_OVER] = 1.5
    usual[0] += np.log(COMMONER)
    loading = np.concatenate([loading, [[0, 0, 0, 0], [1.5, -1.5, 0, 0]]], axis=1)
    usual = np.concatenate([usual, np.zeros(len(NEW))])
    xy_um = item.section.xy_um
    phase = np.random.default_rng([7, seed]).uniform(0, 2 * np.pi, size=2)
    maps = np.sin(xy_um / (90.0 * n_side) * 2 * np.pi + phase)
    share = np.exp(usual + maps @ loading)
    depth = 400.0 * DEEPER * np.exp(0.5 * maps[:, :1] + 0.2 * rng.normal(size=(len(xy_um), 1)))
    counts = rng.poisson(depth * share / share.sum(axis=1, keepdims=True))
    section = replace(
        item.section,
        counts=sparse.csr_matrix(counts.astype(np.float32)),
        genes=np.array([*(f"G{j:02d}" for j in range(N_GENES)), *NEW]),
    )
    features = item.features[:, :1] if one_scale else item.features
    return replace(item, section=section, features=features)


def own_cohort(patients: str = "XY", *, n_side: int = 12) -> Cohort:
    """One section of each patient, encoded as the toy cohort is."""
    items = [own_section(f"O{k}", p, 20 + k, n_side=n_side) for k, p in enumerate(patients)]
    return replace(toy_cohort(n_side=4), items=tuple(items))
