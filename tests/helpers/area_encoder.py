"""An encoder of mean colours that reads patches or cells: what it must say of a painted slide is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import CELL_PX, CellReader, Encoder, FeatureRows, Patches, Tile


class AreaColour(Encoder):
    """Mean R, G and B of patches of two cells a side, as often as features are asked for.

    Attributes:
        tiles: how many tiles it was shown.
    """

    name, size_px, mpp = "colour", 2 * CELL_PX, None
    mean, std = (0.5,) * 3, (0.5,) * 3
    licence, engine = "none", "numpy"

    def __init__(self, dim: int = 3) -> None:
        self.dim = dim
        self.tiles = 0

    def key(self) -> str:
        return "colour"

    def encode(self, patches: Patches) -> FeatureRows:
        return self._features(patches.mean(axis=(1, 2)))

    def not_by_area(self) -> str:
        return ""

    def by_area(self, tile: Tile) -> CellReader:
        n, kept = tile.cells + 2 * tile.halo, slice(tile.halo, tile.halo + tile.cells)

        def moments(tiles: Patches) -> npt.NDArray[np.float32]:
            self.tiles += len(tiles)
            cells = tiles.reshape(len(tiles), n, CELL_PX, n, CELL_PX, 3).mean(axis=(2, 4))
            return cells[:, kept, kept].astype(np.float32)

        return CellReader(moments, self._features)

    def _features(self, colours: npt.NDArray[np.float64]) -> FeatureRows:
        return np.tile(colours, self.dim // 3).astype(np.float32)
