"""A small section with a mark painted under one spot, and a prediction for it."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from helpers.made_claims import claims_of
from hespotex.export.h5ad import (
    Extras,
    StoredPrediction,
    Thumbnail,
    read_prediction,
    write_prediction,
)
from hespotex.genes.panel import PanelCounts
from hespotex.geometry import Geometry
from hespotex.models.types import Prediction
from hespotex.sections.section import Section

GENES = ("ACTB", "ENSG00000141736.9", "HLA-A", "CD3E", "TUM-01", "FLAT-02")
GRADES = ("A", "B", "C", "D", "D", "A")
MARKED = 7
DOWNSAMPLE = 4.0
MPP = 2.0


def toy_section(n_columns: int = 6, n_rows: int = 5) -> Section:
    """A lattice of 200 um pitch that is wider than high, 2 um a pixel."""
    rng = np.random.default_rng(5)
    row, column = np.divmod(np.arange(n_columns * n_rows), n_columns)
    n = len(row)
    return Section(
        section_id="S1",
        patient_id="P-7",
        slide=None,
        geometry=Geometry(mpp=MPP, spot_pitch_um=200.0, spot_diameter_um=100.0),
        barcodes=np.array([f"{x}x{y}" for x, y in zip(column, row, strict=True)]),
        xy_px0=np.stack([100.0 + 100 * column, 150.0 + 100 * row], axis=1),
        counts=sparse.csr_matrix(rng.poisson(3.0, size=(n, len(GENES))).astype(np.float32)),
        genes=np.array(GENES),
        array_xy=np.stack([column, row], axis=1).astype(float),
        obs=pd.DataFrame(
            {"region": ["tumour", None] * (n // 2), "x_batch/run": np.arange(n)},
            index=[f"{x}x{y}" for x, y in zip(column, row, strict=True)],
        ),
        dropped={"spots in the spot file without counts": 1},
    )


def toy_counts(section: Section) -> PanelCounts:
    measured = np.ones(len(GENES), dtype=bool)
    measured[3] = False
    assert section.counts is not None
    return PanelCounts(section.counts, measured)


def toy_prediction(section: Section) -> Prediction:
    rng = np.random.default_rng(6)
    shape = (section.n_spots, len(GENES))
    return Prediction(
        log1p=rng.normal(6, 1, size=shape).astype(np.float32),
        composition=rng.normal(size=shape).astype(np.float32),
        depth=rng.uniform(100, 900, size=shape[0]).astype(np.float32),
    )


def toy_thumbnail(section: Section) -> Thumbnail:
    """White, with a dark disc under spot MARKED, in pixels of 4 level-0 pixels."""
    image = np.full((180, 200, 3), 255, dtype=np.uint8)
    y, x = np.mgrid[:180, :200]
    centre = section.xy_px0[MARKED] / DOWNSAMPLE
    image[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 36] = (60, 20, 90)
    return Thumbnail(image, DOWNSAMPLE)


def toy_extras(section: Section) -> Extras:
    prediction = toy_prediction(section)
    n = section.n_spots
    return Extras(
        lower=prediction.log1p - 1,
        upper=prediction.log1p + 2,
        half_width=toy_half_widths(),
        ood_score=np.linspace(0, 1, n, dtype=np.float32),
        ood=np.linspace(0, 1, n) > 0.9,
        grades=list(GRADES),
        claims=claims_of(GRADES),
    )


def toy_half_widths() -> npt.NDArray[np.float32]:
    """(sizes, genes): 0.4, 0.3, 0.2 for regions of 1, 4, 9 spots, and 0.02 more with every gene; none of 25."""
    widths = np.array([[0.4], [0.3], [0.2], [np.nan]]) + 0.02 * np.arange(len(GENES))
    return widths.astype(np.float32)


def toy_stored(folder: Path, *, measured: bool = False, **more: Any) -> StoredPrediction:
    """The section with its prediction, thumbnail and extras, written to a folder and read again.

    Args:
        folder: for S1.h5ad.
        measured: with the section's counts.
        more: of `write_prediction`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "S1.h5ad").write_bytes(_toy_file(measured, pickle.dumps(more)))
    return read_prediction(folder / "S1.h5ad")


@cache
def _toy_file(measured: bool, more: bytes) -> bytes:
    """Written once: it is the same every time, as a test of `write_prediction` proves."""
    section = toy_section()
    counts = toy_counts(section) if measured else None
    with TemporaryDirectory() as folder:
        write_prediction(
            Path(folder) / "S1.h5ad",
            section=section,
            genes=GENES,
            prediction=toy_prediction(section),
            thumbnail=toy_thumbnail(section),
            extras=toy_extras(section),
            counts=counts,
            **pickle.loads(more),
        )
        return (Path(folder) / "S1.h5ad").read_bytes()
