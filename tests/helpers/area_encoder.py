"""An encoder of mean colours that reads patches or cells: what it must say of a painted slide is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import (
    CELL_PX,
    CellReader,
    Encoder,
    FeatureRows,
    Patches,
    Phase,
    Tile,
)


class AreaColour(Encoder):
    """Mean R, G and B of patches of two cells a side, as often as features are asked for.

    Attributes:
        tiles: how many tiles it was shown.
    """

    name, size_px, mpp = "colour", 2 * CELL_PX, None
    mean, std = (0.5,) * 3, (0.5,) * 3
    licence, engine = "none", "numpy"
    own_tiles: tuple[Tile, ...] = (Tile(cells=3, halo=1),)

    def __init__(self, dim: int = 3) -> None:
        self.dim = dim
        self.tiles = 0

    def key(self) -> str:
        return "colour"

    def encode(self, patches: Patches) -> FeatureRows:
        return self._features(patches.mean(axis=(1, 2)))

    def not_by_area(self) -> str:
        return ""

    def area_tiles(self) -> tuple[Tile, ...]:
        return self.own_tiles

    def by_area(self, tiles: Sequence[Tile] | None = None) -> CellReader:
        (tile,) = self.own_tiles
        return CellReader((Phase(tile, self._colours(tile)),), self._features)

    def _colours(self, tile: Tile) -> Callable[[Patches], npt.NDArray[np.float32]]:
        n, kept = tile.side, slice(tile.halo, tile.halo + tile.cells)

        def cells(tiles: Patches) -> npt.NDArray[np.float32]:
            self.tiles += len(tiles)
            means = tiles.reshape(len(tiles), n, CELL_PX, n, CELL_PX, 3).mean(axis=(2, 4))
            return means[:, kept, kept].astype(np.float32)

        return cells

    def _features(self, colours: npt.NDArray[np.float64]) -> FeatureRows:
        return np.tile(colours, self.dim // 3).astype(np.float32)


class InThree(AreaColour):
    """The same in three phases: each says one colour and hands the others on."""

    own_tiles = (
        Tile(cells=2, halo=1),
        Tile(cells=3, halo=2, offset=1),
        Tile(cells=5, halo=1, offset=-1),
    )

    def by_area(self, tiles: Sequence[Tile] | None = None) -> CellReader:
        first, second, third = self.own_tiles

        def handed_on(tile: Tile, n: int) -> Callable[[Patches], npt.NDArray[np.float32]]:
            def cells(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
                assert maps.shape[1:] == (tile.side, tile.side, n)
                kept = slice(tile.halo, tile.halo + tile.cells)
                return maps[:, kept, kept]

            return cells

        phases = (
            Phase(first, self._colours(first), 2),
            Phase(second, handed_on(second, 2), 1),
            Phase(third, handed_on(third, 1)),
        )
        return CellReader(phases, self._features)
