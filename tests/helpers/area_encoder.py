"""An encoder of mean colours that reads patches or cells: what it must say of a painted slide is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import (
    CELL_PX,
    CellReader,
    Encoder,
    FeatureRows,
    Patches,
    Tile,
    TwoPhases,
)


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


class InTwo(AreaColour):
    """The same in two phases: the first says red and hands the colours on, the second says green and blue."""

    def has_two_phases(self, halo: int) -> bool:
        return True

    def in_two(self, first: Tile, then: Tile) -> TwoPhases:
        colours = self.by_area(first).moments

        def early(tiles: Patches) -> npt.NDArray[np.float32]:
            found = colours(tiles)
            return np.concatenate([found[..., :1], found], axis=3)

        def late(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            kept = slice(then.halo, then.halo + then.cells)
            assert maps.shape[1:] == (then.cells + 2 * then.halo,) * 2 + (3,)
            return maps[:, kept, kept, 1:]

        return TwoPhases(early, late, 3, self._features)
