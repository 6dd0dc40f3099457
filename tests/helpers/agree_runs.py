"""Runs of painted slices of one block, as `agree` is given them: pictures, and smooth waves as predictions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from helpers.toy_prediction import GENES
from hespotex.datasets import PaintedPlan, Serial, draw_patients
from hespotex.evaluation.claims import Claims
from hespotex.evaluation.trust import Extras
from hespotex.export.h5ad import Thumbnail, write_prediction
from hespotex.geometry import CommonFrame, Geometry, SectionFrame, write_frames
from hespotex.models.types import Prediction
from hespotex.sections.section import Section

SIDE_UM = 1800.0
MPP = 2.0


@functools.cache
def block() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], float]:
    """Two slices of a block, 10 um apart and stained anew; pixels per level-0 pixel."""
    plan = PaintedPlan(
        seed=19, patients=draw_patients(1), sections_per_patient=2, n_genes=20, lattice="square",
        side_um=SIDE_UM, mpp=MPP, serial=Serial((0.0, 10.0), restained=True),
    )  # fmt: skip
    first, second = (plan.section(0, k).arrays.image for k in (0, 1))
    small = (first.shape[1] // 10, first.shape[0] // 10)
    a, b = (cv2.resize(i, small, interpolation=cv2.INTER_AREA) for i in (first, second))
    return a, b, first.shape[0] / small[1]


def write(
    run: Path,
    name: str,
    picture: npt.NDArray[np.uint8] | None,
    *,
    mpp: float = MPP,
    pitch_um: float = 150.0,
    spots: int | None = None,
    genes: int | None = None,
    claims: Claims | None = None,
    names: Sequence[str] = GENES,
    model: str = "m",
    section: str | None = None,
    **obs: str,
) -> None:
    """A prediction on a lattice over the tissue: smooth waves of the place, others for every gene."""
    steps = np.arange(300.0, SIDE_UM - 300, pitch_um)
    xy_um = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)[:spots]
    barcodes = np.array([f"s{i}" for i in range(len(xy_um))])
    whole = Section(
        section_id=section or name, patient_id="P", slide=None, geometry=Geometry(mpp, pitch_um, pitch_um / 2),
        barcodes=barcodes, xy_px0=xy_um / MPP, counts=None, genes=None,
        obs=pd.DataFrame(obs, index=barcodes),
    )  # fmt: skip
    waves = np.random.default_rng(0).normal(size=(2, len(names))) / 300
    values = np.sin(xy_um @ waves).astype(np.float32)
    write_prediction(
        run / "predictions" / f"{name}.h5ad",
        section=whole,
        genes=names,
        prediction=Prediction(np.exp(values), values, np.full(len(xy_um), 9.0, np.float32)),
        thumbnail=None if picture is None else Thumbnail(picture, block()[2]),
        provenance={"spot_pitch_um": pitch_um, "model_id": model},
        extras=Extras() if claims is None else Extras(claims=claims),
        columns=None if genes is None else np.arange(genes),
    )


def same_place(run: Path) -> Path:
    write_frames(run / "f.json", CommonFrame({n: SectionFrame(MPP) for n in ("S1", "S2")}))
    return run / "f.json"
