"""What the reference's way costs on this machine: training of one fold, and its encoder on a patch.

Training is our rebuilt published profile (same modules, losses and optimisers). In the quick mode a
sample of GATE steps and epochs is timed and carried to 500 steps a section and 30 epochs along a
straight line: every step and every epoch does the same work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.data import patches
from benchmarks.measure import added, scaled, time_of
from hespotex.config import PublishedConfig
from hespotex.models.types import TrainingSection

_FEW, _MORE = 4, 24  # GATE steps a section
_EPOCHS = 4
_ENCODER = "vit_base_patch32_224"
_BATCH = 32


def published_fit(
    sections: Sequence[TrainingSection], *, full: bool
) -> tuple[dict[str, float], str]:
    """Seconds of one published fit, and how they were found."""
    from hespotex.models.published.published import fit_published

    whole = PublishedConfig()
    if full:
        _, spent = time_of(lambda: fit_published(sections, whole, seed=0))
        return spent, "measured whole"

    def fit(steps: int, epochs: int) -> dict[str, float]:
        config = whole.model_copy(update={"gate_steps": steps, "epochs": epochs})
        return time_of(lambda: fit_published(sections, config, seed=0))[1]

    fit(1, 1)  # the first call pays for imports and allocations
    start, steps, epochs = fit(_FEW, 1), fit(_MORE, 1), fit(_FEW, 1 + _EPOCHS)
    per_step = scaled(added(steps, scaled(start, -1)), 1 / (_MORE - _FEW))
    per_epoch = scaled(added(epochs, scaled(start, -1)), 1 / _EPOCHS)
    spent = added(
        start, scaled(per_step, whole.gate_steps - _FEW), scaled(per_epoch, whole.epochs - 1)
    )
    how = (
        f"extrapolated along a line from {_MORE} GATE steps a section and {1 + _EPOCHS} epochs "
        f"to {whole.gate_steps} and {whole.epochs}"
    )
    return spent, how


def reference_encoder(count: int) -> dict[str, Any]:
    """Seconds a patch of the reference's encoder (ViT-B/32, random weights: time does not depend on them)."""
    import timm
    import torch

    net = timm.create_model(_ENCODER, pretrained=False, num_classes=0).eval()
    x = torch.from_numpy(patches(_BATCH, 224).transpose(0, 3, 1, 2).copy()).float()
    batches = max(2, count // _BATCH)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(batches):
                net(x)

    time_of(lambda: net(x[:2]))
    _, spent = time_of(run)
    return {
        "network": f"timm {_ENCODER}, float32, plain torch, batches of {_BATCH}",
        "patches": batches * _BATCH,
        "per_patch": scaled(spent, 1 / (batches * _BATCH)),
    }


def spots_of(sections: Sequence[TrainingSection]) -> int:
    """Spots of all sections."""
    return int(np.sum([len(s.features) for s in sections]))
