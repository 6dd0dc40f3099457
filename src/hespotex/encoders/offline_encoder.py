"""The offline encoders as they run: timm and the network are loaded only where no converted network is kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hespotex.encoders import offline
from hespotex.encoders.base import CellReader, Engine, FeatureRows, RunEncoder, Tile, TwoPhases
from hespotex.encoders.engine import build_forward, cell_moments
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
        self._build = partial(
            build_forward,
            mean=self.mean,
            std=self.std,
            device=device,
            threads=threads,
            engine=engine,
        )
        self._forward, self.engine = self._build(self._load, key=self._key, size_px=self.size_px)

    def not_by_area(self) -> str:
        """Empty: both readings are averages over positions."""
        return ""

    def has_two_phases(self, halo: int) -> bool:
        """Always: where to part it was tried with the halo that is used."""
        return True

    def by_area(self, tile: Tile) -> CellReader:
        """Moments of every stage, or of the last map, cell by cell."""
        whole = self.name == offline.NAME

        def load() -> torch.nn.Module:
            from hespotex.encoders.area import Body, LastMap, Moments, stages_of

            network = offline.build_model()
            if not whole:
                return LastMap(Body(network), tile.halo).eval()
            return Moments(*stages_of(network), tile.halo).eval()

        moments = cell_moments(self._build, load, self._key, tile)
        return CellReader(moments, stage_features if whole else _as_features)

    def in_two(self, first: Tile, then: Tile) -> TwoPhases:
        """Moments of the early stages and their map; then moments of the late ones, or of the last map."""
        whole, n = self.name == offline.NAME, offline.N_EARLY

        def early() -> torch.nn.Module:
            from torch import nn

            from hespotex.encoders.area import Moments, stages_of

            stem, stages = stages_of(offline.build_model())
            if whole:
                return Moments(stem, stages[:n], first.halo, keep=True).eval()
            return Moments(nn.Sequential(stem, *stages[:n]), (), first.halo, keep=True).eval()

        def late() -> torch.nn.Module:
            from torch import nn

            from hespotex.encoders.area import LastMap, Moments, stages_of

            network = offline.build_model()
            apart, stages = nn.PixelShuffle(2), stages_of(network)[1][n:]
            if whole:
                return Moments(apart, stages, then.halo, unit=1).eval()
            body = nn.Sequential(apart, *stages, network.conv_head, network.bn2)
            return LastMap(body, then.halo, unit=1).eval()

        return TwoPhases(
            cell_moments(self._build, early, content_key(self._key, "early"), first),
            cell_moments(self._build, late, content_key(self._key, "late"), then, n_map=offline.N_MAP),
            offline.N_MAP,
            stage_features if whole else _as_features,
        )  # fmt: skip

    def _load(self) -> torch.nn.Module:
        from hespotex.encoders.stages import StageStatistics

        network: torch.nn.Module = offline.build_model()
        return StageStatistics(network).eval() if self.name == offline.NAME else network


def _as_features(pooled: npt.NDArray[np.float64]) -> FeatureRows:
    return pooled.astype(np.float32)


def stage_features(moments: npt.NDArray[np.float64]) -> FeatureRows:
    """(n, 1568) mean and mean square of every stage over a patch -> (n, 1568) mean and deviation."""
    features = np.empty(moments.shape, np.float32)
    at = 0
    for channels, stride in offline.STAGES:
        mean, square = (moments[:, at + k * channels : at + (k + 1) * channels] for k in (0, 1))
        n = (offline.SIZE_PX // stride) ** 2
        features[:, at : at + channels] = mean
        variance = np.maximum(square - np.square(mean), 0) * (n / (n - 1))
        features[:, at + channels : at + 2 * channels] = np.sqrt(variance)
        at += 2 * channels
    return features
