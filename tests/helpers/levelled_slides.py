"""Slides whose tissue shares differ between patients, with the level of every gene known: no picture, no encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.geometry import Geometry
from hespotex.models.types import Cohort, EncodedSection, EncoderRecord
from hespotex.sections.section import Section

KINDS = 3


@dataclass(frozen=True)
class LevelledSlides:
    """A cohort and which of its genes the slides show.

    Attributes:
        cohort: one slide a patient, unless asked for more.
        shown: (G,) genes of a tissue; the others have levels of their own that nothing shows.
    """

    cohort: Cohort
    shown: npt.NDArray[np.bool_]


def levelled_slides(
    n_patients: int,
    *,
    seed: int = 0,
    slides: int = 1,
    n_spots: int = 49,
    n_genes: int = 60,
    dim: int = 16,
    scanner: float = 0.5,
    visible: bool = True,
) -> LevelledSlides:
    """Draw a cohort.

    Args:
        n_patients: each with a mixture of three tissues; three scanners are dealt to them at random.
        slides: of each patient.
        scanner: how far scanners and stains move the features of a whole slide.
        visible: False: features show mixtures of other patients than the counts.
    """
    rng = np.random.default_rng([seed, n_patients])
    shown = np.arange(n_genes) < n_genes // 2
    profile = np.zeros((KINDS, n_genes))
    for gene in np.flatnonzero(shown):
        profile[gene % KINDS, gene] = rng.normal(1.5, 0.3)
    abundance, reads = rng.normal(0, 0.7, n_genes), rng.normal(size=(KINDS, dim))
    of_stain, of_scanner = rng.normal(scale=scanner, size=(4, dim)), rng.normal(size=(3, 4))
    mixtures = rng.dirichlet(np.full(KINDS, 1.0), size=n_patients)
    seen = mixtures if visible else mixtures[rng.permutation(n_patients)]
    scanners = rng.permutation(n_patients) % 3
    side = int(np.sqrt(n_spots))
    xy = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    items = []
    for p in range(n_patients):
        hidden = np.where(shown, 0.05, 0.5) * rng.normal(size=n_genes)
        for s in range(slides):
            tissue = rng.dirichlet(4 * mixtures[p] + 0.05, size=len(xy))
            pictured = tissue if visible else rng.dirichlet(4 * seen[p] + 0.05, size=len(xy))
            stain = (of_scanner[scanners[p]] + 0.3 * rng.normal(size=4)) @ of_stain
            features = pictured @ reads + stain + 0.3 * rng.normal(size=(len(xy), dim))
            rate = np.exp(abundance + tissue @ profile + hidden)
            # A part of all counts each, or more of what slides show would be less of what they do not.
            for block in (shown, ~shown):
                rate[:, block] /= rate[:, block].sum(axis=1, keepdims=True)
            depth = np.exp(rng.normal(np.log(1500), 0.3, size=(len(xy), 1)))
            counts = rng.poisson(rate / rate.sum(axis=1, keepdims=True) * depth)
            section = Section(
                section_id=f"P{p}S{s}",
                patient_id=f"P{p}",
                slide=None,
                geometry=Geometry(0.5, 100.0, 55.0),
                barcodes=np.array([f"{x}x{y}" for x, y in xy.tolist()]),
                xy_px0=200.0 * xy.astype(np.float64),
                counts=sparse.csr_matrix(counts.astype(np.float32)),
                genes=np.array([f"G{g:03d}" for g in range(n_genes)]),
                array_xy=xy.astype(np.float64),
            )
            items.append(EncodedSection(section, features[:, None].astype(np.float32)))
    record = EncoderRecord("made", "made", dim, 224, (0.5,) * 3, (0.5,) * 3)
    return LevelledSlides(Cohort(tuple(items), record, (112.0,)), shown)
