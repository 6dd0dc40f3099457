"""The expression stream of the default profile: counts -> Pearson residuals -> GATE latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hespotex.config import ModelConfig
from hespotex.models.default.low_rank import fit_low_rank, residuals
from hespotex.models.graph import knn_edges
from hespotex.models.layers.fit_gate import GateFit, fit_gate
from hespotex.models.types import TrainingSection

_LR = 1e-2


def fit_latents(
    sections: Sequence[TrainingSection], config: ModelConfig, *, seed: int, device: str = "cpu"
) -> GateFit:
    """One GATE on all training sections together; it reads components of Pearson residuals.

    Args:
        seed: of the components and the starting weights.

    Returns:
        latents (n_i, latent_size) of each section, from the final weights.
    """
    table = fit_low_rank(sections, residuals, config.gate_components, seed=seed, shrink=False)
    scale = max(float(np.max(np.std(np.concatenate(table.scores), axis=0))), 1e-6)
    inputs = [(scores / scale).astype(np.float32) for scores in table.scores]
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
        lr=_LR,
        seed=seed,
        device=device,
    )
