"""Sections made of a table of counts, without a slide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.sections.section import Geometry, Section
from hespotex.spots.base import MissingGenes


def make_section(
    counts: npt.ArrayLike | None,
    genes: Sequence[str] = (),
    section_id: str = "s",
    missing_genes: MissingGenes = "zero",
) -> Section:
    table = None if counts is None else sparse.csr_matrix(np.asarray(counts, dtype=np.float32))
    n = 3 if table is None else table.shape[0]
    return Section(
        section_id=section_id,
        patient_id="p",
        slide=None,
        geometry=Geometry(1.0, 200.0, 100.0),
        barcodes=np.array([f"b{i}" for i in range(n)]),
        xy_px0=np.zeros((n, 2)),
        counts=table,
        genes=None if table is None else np.asarray(genes, dtype=np.str_),
        missing_genes=missing_genes,
    )


def poisson_section(n: int, n_genes: int, seed: int, section_id: str = "s") -> Section:
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.7, 3.0, n_genes)
    return make_section(
        rng.poisson(rate, (n, n_genes)), [f"g{i:04d}" for i in range(n_genes)], section_id
    )
