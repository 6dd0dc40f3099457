"""Made training sections whose expression depends on their features in a known way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hespotex.config import ModelConfig
from hespotex.models.types import TrainingSection

SMALL = ModelConfig(
    n_components=6, hidden=16, latent_size=4, epochs=12, ensemble=2, landmarks=64, direct_rank=4
)


@dataclass(frozen=True)
class Made:
    """A section and the truth behind it: (n, G) log ratios and (n,) log depth."""

    section: TrainingSection
    log_ratio: np.ndarray
    log_depth: np.ndarray


def make_section(
    name: str = "S1", *, seed: int = 0, side: int = 9, genes: int = 30, nuclei: bool = False
) -> Made:
    """A square lattice; two smooth maps drive composition, a third one depth; 2 scales x 5 features."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    xy = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    phase = rng.uniform(0, 6, size=3)
    wave = np.array([[0.7, 0.2], [-0.2, 0.8], [0.5, 0.5]])
    maps = np.sin(xy @ wave.T + phase)
    mixing = np.random.default_rng(1).normal(size=(3, 10))
    features = maps @ mixing + 0.1 * rng.normal(size=(len(xy), 10))
    loadings = np.random.default_rng(2).normal(size=(2, genes))
    log_ratio = 0.7 * maps[:, :2] @ loadings
    share = np.exp(log_ratio + np.random.default_rng(3).normal(size=genes))
    share /= share.sum(axis=1, keepdims=True)
    log_depth = 6 + 0.7 * maps[:, 2]
    counts = rng.poisson(np.exp(log_depth)[:, None] * share)
    section = TrainingSection(
        section_id=name,
        patient_id=name,
        features=(7 * features + 3).reshape(len(xy), 2, 5).astype(np.float32),
        xy_um=200 * xy,
        counts=sparse.csr_matrix(counts.astype(np.float32)),
        measured=np.ones(genes, dtype=bool),
        nuclei=rng.uniform(1, 2, len(xy)) if nuclei else None,
    )
    return Made(section, log_ratio, log_depth)
