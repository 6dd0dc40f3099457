"""Encoded sections of fine bins, summed into squares as every verb does before it encodes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy import sparse

from hespotex.geometry import Geometry
from hespotex.models.types import Cohort, EncodedSection, EncoderRecord
from hespotex.sections.fine import fitted_squares
from hespotex.sections.section import Section

_SIDE, _GENES, _DIM = 40, 30, 6


def fine_cohort(*, scrambled: Collection[str] = ()) -> Cohort:
    """Two sections of A and one of B, 1,600 bins each; the counts of `scrambled` ones are permuted and thinned."""
    world = np.random.default_rng(0)
    effect = world.normal(0, 0.5, (3, _GENES))
    reading = world.normal(size=(3, _DIM))
    items = []
    for number, (name, patient) in enumerate((("A1", "A"), ("A2", "A"), ("B1", "B"))):
        rng = np.random.default_rng(number)
        row, column = np.divmod(np.arange(_SIDE**2), _SIDE)
        place = np.column_stack([column, row]).astype(float)
        counts = rng.poisson(5.0 * np.exp(_maps(place * 16.0, number) @ effect))
        if name in scrambled:
            counts = rng.permutation(counts.ravel()).reshape(counts.shape)
            counts *= rng.random(counts.shape) < 0.2
        bins = Section(
            section_id=name,
            patient_id=patient,
            slide=None,
            geometry=Geometry(0.5, 16.0, 16.0),
            barcodes=np.array([f"{x:.0f}x{y:.0f}" for x, y in place]),
            xy_px0=place * 32.0,
            counts=sparse.csr_matrix(counts.astype(np.float32)),
            genes=np.array([f"G{j:02d}" for j in range(_GENES)]),
            array_xy=place,
        )
        section = fitted_squares(bins)
        features = _maps(section.xy_um, number) @ reading
        features += 0.1 * rng.normal(size=features.shape)
        items.append(EncodedSection(section, features[:, None].astype(np.float32)))
    record = EncoderRecord("toy", "toy", _DIM, 224, (0.5,) * 3, (0.5,) * 3)
    return Cohort(tuple(items), record, (77.2,))


def _maps(xy_um: np.ndarray, number: int) -> np.ndarray:
    x, y = xy_um.T
    return np.column_stack(
        [np.sin(x / 90 + number), np.cos(y / 120 - number), np.sin((x + y) / 70)]
    )
