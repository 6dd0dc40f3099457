"""A painted slide, an encoder of plain colour statistics, and a model fitted on the toy cohort: quick."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from helpers.made_claims import validation_of
from helpers.toy_cohort import N_GENES, SIDES_UM, toy_cohort
from hespotex.config import Machine, RunConfig
from hespotex.encoders.base import Encoder, FeatureRows, Patches
from hespotex.evaluation.intervals import ConformalIntervals
from hespotex.evaluation.out_of_distribution import fit_ood
from hespotex.evaluation.trust import Trust
from hespotex.features.appearance import Appearance
from hespotex.features.patches import PatchPlan
from hespotex.models.bundle import Bundle
from hespotex.models.fit import fit_bundle
from hespotex.predicting import Predictor

MPP = 2.0
SIZE_PX = 16


class ToyEncoder(Encoder):
    """Means and deviations of R, G and B in the upper and lower half: 12 numbers."""

    name, dim, size_px, mpp = "toy", 12, SIZE_PX, None
    mean, std = (0.5,) * 3, (0.5,) * 3
    licence, engine = "none", "numpy"

    def key(self) -> str:
        return "toy-key"

    def encode(self, patches: Patches) -> FeatureRows:
        halves = patches.reshape(len(patches), 2, -1, 3).astype(np.float32) / 255
        return np.concatenate([halves.mean(axis=2), halves.std(axis=2)], axis=2).reshape(-1, 12)


@cache
def toy_bundle(**model: object) -> Bundle:
    """A small model over 30 genes; pitch 100 um, spots of 55 um. One for all tests: not to be written into."""
    values = {
        "panel": {"kind": "all"},
        "model": {"epochs": 2, "ensemble": 2, "n_components": 8, "landmarks": 32, **model},
    }
    return fit_bundle(toy_cohort(), RunConfig.from_values(values))


def toy_trust(n_genes: int = N_GENES) -> Trust:
    """Intervals of -1 to +2 deviations, and an out-of-distribution check that flags anything painted."""
    items = toy_cohort().items
    rng = np.random.default_rng(3)
    intervals = ConformalIntervals(
        levels=(0.9,),
        lower=np.full((1, n_genes), -1.0, np.float32),
        upper=np.full((1, n_genes), 2.0, np.float32),
        usual_error=np.ones(n_genes, np.float32),
        n_sections=4,
    )
    ood = fit_ood(
        [item.features for item in items],
        [item.section.xy_um for item in items],
        [
            Appearance(rng.uniform(0.4, 0.6, size=(n, 6)), np.zeros((n, 0)))
            for n in (len(item.features) for item in items)
        ],
    )
    return Trust(intervals, ood)


def toy_predictor(bundle: Bundle, trust: Trust | None = None) -> Predictor:
    plan = PatchPlan(SIDES_UM, SIZE_PX)
    return Predictor(bundle, trust or Trust(), ToyEncoder(), plan, Machine(device="cpu", threads=1))


def graded(bundle: Bundle, grades: dict[str, str]) -> Bundle:
    """The same model with a grade for some genes."""
    return replace(bundle, validation=validation_of(grades))


def paint_tissue(
    width: int = 700,
    height: int = 600,
    *,
    centre: tuple[float, float] = (350, 300),
    radius: float = 240,
) -> npt.NDArray[np.uint8]:
    """A disc of speckled violet on bright glass, redder to the right."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:height, :width]
    tissue = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    speckle = rng.uniform(0.45, 1.0, size=(height, width, 1))
    colour = np.stack([120 + 90 * x / width, 60 + 50 * y / height, 150 + 0 * x], axis=2)
    image = np.full((height, width, 3), 243.0)
    image[tissue] = (colour * speckle)[tissue]
    return image.astype(np.uint8)


@cache
def _usual_png() -> bytes:
    buffer = BytesIO()
    Image.fromarray(paint_tissue()).save(buffer, format="png")
    return buffer.getvalue()


def write_slide(path: Path, image: npt.NDArray[np.uint8] | None = None) -> Path:
    """The image, or the usual disc of tissue, as a file of the kind that the name says."""
    if image is None and path.suffix == ".png":
        path.write_bytes(_usual_png())
    else:
        Image.fromarray(paint_tissue() if image is None else image).save(path)
    return path
