"""The data of the cases: her2st and the olfactory bulb as encoded cohorts, or synthetic stand-ins."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Context
from benchmarks.synthetic import make_cohort
from hespotex.config import Machine, RunConfig
from hespotex.encoders import get_encoder
from hespotex.features.encode import orthonormal_projection
from hespotex.models.fit import training_section
from hespotex.models.types import Cohort, TrainingSection
from hespotex.progress import Silent
from hespotex.stages import encode, read_sections

C = ("C2", "C3", "C4")
# her2st C: spots of a section, and genes of the reference's panel.
LIKE_HER2ST = (187, 187, 187)
GENES_OF_REFERENCE = 1157
# Columns that the reference's features are projected to, so that it has its encoder's 512.
PUBLISHED_FEATURES = 512


def machine(context: Context, cache: Path | None = None) -> Machine:
    """This machine's CPU, with its cache in the benchmarks' own folder."""
    folder = cache or context.work.parent / "cache"
    os.environ["HESPOTEX_CACHE"] = str(folder)  # converted engines lie there, too
    return Machine(device="cpu", threads=context.threads, cache=folder)


def panel(context: Context, data: str) -> list[str] | None:
    """The fixed panel of a data set; None where there is none."""
    path = context.golden / f"{data}_genes.txt"
    return path.read_text(encoding="utf-8").split() if path.is_file() else None


def reference(context: Context) -> dict[str, Any] | None:
    """The reference's scores on her2st."""
    path = context.golden / "reference_her2st.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def feature_size() -> int:
    """Numbers that the default encoder gives for a patch."""
    from hespotex.encoders import list_encoders

    name = RunConfig().encoder.name
    return next(e.dim for e in list_encoders(lazyslide=False) if e.name == name and e.dim)


def three_sections(context: Context) -> tuple[Cohort, RunConfig, str]:
    """her2st C2, C3, C4 with the reference's panel, else synthetic sections of the same size; and which."""
    genes = panel(context, "her2st")
    if context.has("her2st") and genes:
        config = RunConfig(seed=0).with_genes(genes)
        sections = read_sections(context.data / "her2st" / "sections.csv", C, Silent())
        return encode(sections, config, machine(context), Silent()), config, "her2st C2, C3, C4"
    cohort = make_cohort(LIKE_HER2ST, GENES_OF_REFERENCE, dim=feature_size(), patients=["C"] * 3)
    names = cohort.items[0].section.genes
    config = RunConfig(seed=0).with_genes([] if names is None else names.tolist())
    return cohort, config, "synthetic sections of her2st's size"


def published_sections(cohort: Cohort, config: RunConfig) -> list[TrainingSection]:
    """What the published profile is trained on: one scale, projected to 512 features."""
    from hespotex.genes.panel import GenePanel

    panel_of = GenePanel(config.panel.genes or ())
    sections = [training_section(item, panel_of) for item in cohort.items]
    matrix = orthonormal_projection(sections[0].features.shape[2], PUBLISHED_FEATURES)
    return [
        TrainingSection(**{**vars(s), "features": (s.features[:, :1] @ matrix).astype(np.float32)})
        for s in sections
    ]


def patches(count: int, size_px: int, seed: int = 0) -> np.ndarray:
    """(count, size, size, 3) uint8 pictures of smooth colour and noise, in the colours of H&E."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    out = np.empty((count, size_px, size_px, 3), np.uint8)
    ink = np.array([[80, 120, 60], [40, 110, 50]])
    for i in range(count):
        amount = gaussian_filter(rng.normal(size=(2, size_px, size_px)), (0, 6, 6)) * 12
        picture = 235 - np.einsum("kij,kc->ijc", np.clip(amount + 0.4, 0, 1.5), ink)
        out[i] = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255)
    return out


def warm_encoder(context: Context, cache: Path | None = None) -> Any:
    """The default encoder with its engine converted and kept in the cache."""
    where = machine(context, cache)
    return get_encoder(RunConfig().encoder.name, device="cpu", threads=where.threads)
