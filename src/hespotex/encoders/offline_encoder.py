"""The offline encoders as they run: timm and the network are loaded only where no converted network is kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hespotex.encoders import offline
from hespotex.encoders.base import CellReader, Engine, FeatureRows, Phase, RunEncoder, Tile
from hespotex.encoders.engine import build_forward, cell_moments
from hespotex.storage.content_keys import content_key, file_key

if TYPE_CHECKING:
    import torch

# Version of which layers lie in which phase: another one makes other converted networks.
_PARTED = 3


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

    def area_tiles(self) -> tuple[Tile, ...]:
        """Six phases."""
        return offline.TILES

    def by_area(self, tiles: Sequence[Tile] | None = None) -> CellReader:
        """Moments of every stage, or of the last map, cell by cell; in six phases, or in one."""
        tiles = self.area_tiles() if tiles is None else tuple(tiles)
        stages = self.name == offline.NAME
        if len(tiles) not in (1, len(offline.TILES)):
            raise ValueError(f"one phase or {len(offline.TILES)}, found {len(tiles)}")

        def load(number: int) -> torch.nn.Module:
            from hespotex.encoders import offline_layers

            if len(tiles) == 1:
                return offline_layers.whole(tiles[0], stages=stages)
            return offline_layers.phase(number, tiles[number], stages=stages)

        n_maps = offline.N_MAPS if len(tiles) > 1 else ()
        phases = []
        for number, tile in enumerate(tiles):
            key = content_key(self._key, "phase", number, len(tiles), _PARTED)
            before = n_maps[number - 1] if number else None
            cells = cell_moments(self._build, partial(load, number), key, tile, n_map=before)
            phases.append(Phase(tile, cells, n_maps[number] if number < len(n_maps) else 0))
        return CellReader(tuple(phases), stage_features if stages else _as_features)

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
