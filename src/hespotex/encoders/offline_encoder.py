"""The offline encoders as they run: timm and the network are loaded only where no converted network is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hespotex.encoders import offline
from hespotex.encoders.base import Engine, RunEncoder
from hespotex.encoders.engine import build_forward
from hespotex.storage.content_keys import content_key, file_key

if TYPE_CHECKING:
    import torch


class OfflineEncoder(RunEncoder):
    """EfficientNet-Lite0: statistics of all stages, or the pooled head.

    Args:
        name: `offline.NAME` or `offline.POOLED`.
        device, threads, engine: see `get_encoder`.

    Raises:
        EncoderError: the package with the weights is missing, or its weights do not fit.
    """

    def __init__(self, name: str, *, device: str, threads: int | None, engine: Engine) -> None:
        self.name = name
        self.dim = offline.DIMS[name]
        self.size_px, self.mean, self.std = offline.SIZE_PX, offline.MEAN, offline.STD
        self.licence = offline.info(name).licence
        self._key = content_key(
            file_key(offline.require_weights()), name, self.size_px, self.mean, self.std
        )
        self._forward, self.engine = build_forward(
            self._load,
            key=self._key,
            size_px=self.size_px,
            mean=self.mean,
            std=self.std,
            device=device,
            threads=threads,
            engine=engine,
        )

    def _load(self) -> torch.nn.Module:
        from hespotex.encoders.stages import StageStatistics

        network: torch.nn.Module = offline.build_model()
        return StageStatistics(network).eval() if self.name == offline.NAME else network
