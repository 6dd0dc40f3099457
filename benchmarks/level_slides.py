"""24 patients whose slides differ in tissue, on three scanners: as numbers without a picture, and as a plan of painted slides."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from scipy import sparse

from hespotex.datasets import PaintedPatient, PaintedPlan, Scanner
from hespotex.models.types import TrainingSection

PATIENTS, SPOTS, GENES, KINDS, FEATURES = 24, 60, 120, 4, 32
# How far a slide's own stain goes, beside what its scanner does to all slides.
_OWN: Final = 0.3
# One shows the stain as it is; one sees the density of a dye in part as that of another; one has a tone curve and coarser pixels.
SCANNERS: Final = {
    "a": Scanner(),
    "b": Scanner(((0.9, 0.08, 0.0), (0.05, 1.0, 0.05), (0.0, 0.0, 1.12))),
    "c": Scanner(contrast=0.8, mpp=2.0),
}


def made_slides(
    seed: int, shift: float, bend: float, *, shown: bool
) -> tuple[list[TrainingSection], np.ndarray, np.ndarray]:
    """Slides of numbers, the scanner of each, and which genes follow tissue: the first half.

    Args:
        shift: deviation of what a scanner adds to a feature on all spots of a slide.
        bend: deviation of the logarithm of the factor by which it stretches a feature; it adds 0.3 times as much of its square.
        shown: whether slides show the tissue that the counts follow; else that of another patient.
    """
    rng, optics = np.random.default_rng([seed, 31]), np.random.default_rng([seed, 32])
    visible = np.arange(GENES) < GENES // 2
    profile = np.zeros((KINDS, GENES))
    for gene in np.flatnonzero(visible):
        profile[gene % (KINDS - 1), gene] = rng.normal(1.2, 0.4)
    abundance, reads = rng.normal(size=GENES), rng.normal(size=(2, KINDS, FEATURES))
    # A stain is six numbers: features of both scales move together.
    of_stain, of_scanner = rng.normal(scale=shift, size=(6, FEATURES)), rng.normal(size=(3, 6))
    factor, square = optics.normal(size=(2, 3, 2, FEATURES))
    scanner = rng.permutation(PATIENTS) % 3
    mixture = np.exp(rng.normal(0, 0.8, size=(PATIENTS, KINDS)))
    mixture /= mixture.sum(axis=1, keepdims=True)
    seen = mixture if shown else mixture[rng.permutation(PATIENTS)]
    sections = []
    for p in range(PATIENTS):
        tissue = rng.dirichlet(3 * mixture[p] + 0.05, size=SPOTS)
        pictured = tissue if shown else rng.dirichlet(3 * seen[p] + 0.05, size=SPOTS)
        features = np.einsum("nk,skd->nsd", pictured, reads)
        features += 0.5 * rng.normal(size=features.shape)
        stretched, bent = (
            bend * (of[scanner[p]] + _OWN * optics.normal(size=of.shape[1:]))
            for of in (factor, square)
        )
        features = np.exp(stretched) * features + 0.3 * bent * features**2
        features += (of_scanner[scanner[p]] + _OWN * rng.normal(size=6)) @ of_stain
        hidden = np.where(visible, 0.1, 0.5) * rng.normal(size=GENES)
        rate = np.exp(abundance + tissue @ profile + hidden)
        # A part of all counts each, or more of what slides show would be less of what they do not.
        for block in (visible, ~visible):
            rate[:, block] /= rate[:, block].sum(axis=1, keepdims=True)
        depth = np.exp(rng.normal(np.log(2000), 0.4, size=(SPOTS, 1)))
        counts = rng.poisson(rate / rate.sum(axis=1, keepdims=True) * depth).astype(np.float32)
        sections.append(
            TrainingSection(
                f"S{p}",
                f"P{p}",
                features.astype(np.float32),
                rng.random((SPOTS, 2)),
                sparse.csr_matrix(counts),
                np.ones(GENES, bool),
            )
        )
    return sections, scanner, visible


def painted_plan(seed: int) -> PaintedPlan:
    """Slides that differ in tumour, immune and stroma, on three scanners, with a level of every gene that nothing shows.

    Genes that slides show have a fixed part of all counts, so that the others follow nothing that slides show.
    """
    rng = np.random.default_rng([seed, 33])
    scanner = rng.permutation(PATIENTS) % 3
    names = ("tumour", "immune", "stroma")
    patients = tuple(
        PaintedPatient(
            f"P{p + 1}",
            scanner="abc"[scanner[p]],
            tissue=dict(zip(names, rng.normal(0, 0.8, 3).tolist(), strict=True)),
        )
        for p in range(PATIENTS)
    )
    plan: dict[str, Any] = {"n_genes": 200, "lattice": "square", "side_um": 1600, "apart": True}
    # The first seeds were looked at while the look of a slide was chosen.
    return PaintedPlan(
        seed=100 + seed, patients=patients, sections_per_patient=1, scanners=SCANNERS, **plan
    )
