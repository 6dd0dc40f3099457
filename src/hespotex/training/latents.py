"""Owns the expression stream of the default profile: counts -> Pearson residuals -> GATE latents; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hespotex.config import ModelConfig
from hespotex.expression import pearson_residuals
from hespotex.graph import knn_edges
from hespotex.progress import Advance
from hespotex.training.gate import GateFit, fit_gate
from hespotex.training.types import TrainingSection

Float32 = npt.NDArray[np.float32]

_FIT_SPOTS = 8192
_GENE_BLOCK = 1024


def fit_latents(
    sections: Sequence[TrainingSection],
    config: ModelConfig,
    *,
    seed: int,
    device: str = "cpu",
    progress: Advance | None = None,
) -> GateFit:
    """One GATE on all training sections together; it reads components of depth-free values.

    Args:
        sections: training sections.
        config: sizes and steps of GATE.
        seed: of the components and the starting weights.
        device: torch device.
        progress: called with the number of finished steps.

    Returns:
        latents (n_i, latent_size) of each section, from the final weights.
    """
    inputs = residual_components(sections, config.gate_components, seed=seed)
    graphs = [
        knn_edges(s.xy_um, max(config.neighbours, 1), self_loops=True, undirected=True)
        for s in sections
    ]
    return fit_gate(
        inputs,
        graphs,
        latent_size=config.latent_size,
        hidden=config.gate_hidden,
        steps=config.gate_steps,
        lr=1e-2,
        seed=seed,
        device=device,
        progress=progress,
    )


def residual_components(
    sections: Sequence[TrainingSection], n_components: int, *, seed: int
) -> list[Float32]:
    """Principal components of the Pearson residuals of all sections, (n_i, K), one scale for all.

    The directions are fitted on at most 8,192 spots; no (n, G) array of all spots is ever made.
    Genes that a section did not measure are 0 there, their mean.
    """
    from sklearn.utils.extmath import randomized_svd

    rng = np.random.default_rng(seed)
    share = min(1.0, _FIT_SPOTS / sum(s.counts.shape[0] for s in sections))
    rows = [
        np.sort(rng.choice(n, max(2, round(share * n)), replace=False))
        if share < 1
        else np.arange(n)
        for n in (s.counts.shape[0] for s in sections)
    ]
    blocks = _gene_blocks(sections[0].counts.shape[1])
    x = np.concatenate(
        [
            np.concatenate([_residuals(s, columns)[kept] for columns in blocks], axis=1)
            for s, kept in zip(sections, rows, strict=True)
        ]
    )
    k = min(n_components, len(x) - 1, x.shape[1])
    _, values, directions = randomized_svd(x, k, n_iter=4, random_state=seed)
    scale = max(float(values[0]) / np.sqrt(len(x)), 1e-6)
    return [
        np.asarray(
            sum(_residuals(s, columns) @ directions[:, columns].T for columns in blocks) / scale,
            np.float32,
        )
        for s in sections
    ]


def _residuals(section: TrainingSection, columns: slice) -> Float32:
    return pearson_residuals(section.counts, columns=columns)


def _gene_blocks(genes: int) -> list[slice]:
    return [slice(at, min(at + _GENE_BLOCK, genes)) for at in range(0, genes, _GENE_BLOCK)]
