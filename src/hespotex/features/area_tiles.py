"""Tiles of cells: where they lie, which are needed when, and which are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import Tile
from hespotex.errors import SlideError

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.float32]
Whole = npt.NDArray[np.intp]
Place = tuple[int, int]
OnBad = Callable[[int, SlideError], None]


def places_of(low: Whole, high: Whole, tile: Tile) -> list[Place]:
    """Tiles that hold the cells from `low` to below `high`, (2,) each, row by row."""
    (top, left), (bottom, right) = (
        ((edge - tile.offset) // tile.cells).tolist() for edge in (low, high - 1)
    )
    return list(product(range(top, bottom + 1), range(left, right + 1)))


def cut(tiles: Mapping[Place, Cells], low: Whole, high: Whole, tile: Tile) -> Cells:
    """(h, w, K) the cells from `low` to below `high`, out of the tiles that hold them; where there is none, 0."""
    (top, left), (bottom, right) = low.tolist(), high.tolist()
    n_numbers = next(iter(tiles.values())).shape[2]
    out = np.zeros((bottom - top, right - left, n_numbers), np.float32)
    for (row, column), cells in tiles.items():
        own_top, own_left = tile.low((row, column))
        a, b = max(top, own_top), min(bottom, own_top + tile.cells)
        c, d = max(left, own_left), min(right, own_left + tile.cells)
        own = cells[a - own_top : b - own_top, c - own_left : d - own_left]
        out[a - top : b - top, c - left : d - left] = own
    return out


class Schedule:
    """Which tiles some spots need, batch after batch, and which batch needs each for the last time.

    Where halos are exact, a tile is needed only if a cell under a patch depends on it. What a tile of the next phase then
    lacks changes none of the cells that are used.

    Args:
        first: (n, 2) row and column of the first cell of each patch.
        side: cells of a patch along a side, those that are covered in part included.
        rows: of each batch.
        tiles: of each phase.

    Attributes:
        under: of each phase, the number of the last batch that lies on a tile, by its place.
        maps: likewise, the last batch for which a tile's map is needed, since a tile of the next phase is made.
    """

    def __init__(
        self, first: Whole, side: int, rows: Sequence[slice], tiles: Sequence[Tile]
    ) -> None:
        self.under: list[dict[Place, int]] = [{} for _ in tiles]
        self.maps: list[dict[Place, int]] = [{} for _ in tiles]
        made: dict[Place, int] = {}  # of the phase after this one, when each tile is made
        for k, reach in reversed(list(enumerate(_reaches(tiles)))):
            under, maps, own = self.under[k], self.maps[k], dict[Place, int]()
            for number, part in enumerate(rows):
                for place in places_under(first[part], side, tiles[k]):
                    own.setdefault(place, number)
                    under[place] = number
            matter = places_under(first - reach, side + 2 * reach, tiles[k]) if reach else None
            for place, number in made.items():
                after = tiles[k + 1]
                low = np.array(after.low(place)) - round(after.halo)
                for needed in places_of(low, low + after.side, tiles[k]):
                    if matter is not None and needed not in matter:
                        continue
                    own[needed] = min(number, own.get(needed, number))
                    maps[needed] = max(number, maps.get(needed, number))
            made = own


def _reaches(tiles: Sequence[Tile]) -> list[int | None]:
    """Of each phase, how many cells around a patch it depends on; None where no halo says so."""
    found: list[int | None] = [0]
    for after in reversed(tiles[1:]):
        known = found[-1]
        found.append(None if known is None or not after.exact else known + round(after.halo))
    return found[::-1]


def places_under(first: Whole, side: int, tile: Tile) -> set[Place]:
    """Tiles under squares of so many cells a side, whose first cells are given, (n, 2)."""
    if not len(first):
        return set()
    ends = np.hstack([first - tile.offset, first - tile.offset + side - 1]) // tile.cells
    low = ends.min(axis=0)
    shape = tuple(ends.max(axis=0) - low + 1)
    numbers = np.unique(np.ravel_multi_index(tuple((ends - low).T), shape))
    spans = np.stack(np.unravel_index(numbers, shape), axis=1) + low
    return {
        place
        for top, left, bottom, right in spans.tolist()
        for place in product(range(top, bottom + 1), range(left, right + 1))
    }


def tiles_under(xy_px0: Floats, cell_px0: float, cells: int, tiles: Sequence[Tile]) -> list[int]:
    """How many tiles of each phase patches of spots make necessary.

    Args:
        xy_px0: (n, 2) level-0 pixels.
        cell_px0: side of a cell in level-0 pixels.
        cells: a side of a patch.
        tiles: of each phase.
    """
    first = np.floor(xy_px0[:, ::-1] / cell_px0 - cells / 2).astype(np.intp)
    schedule = Schedule(first, cells + 1, [slice(0, len(first))], tiles)
    return [len(a.keys() | b.keys()) for a, b in zip(schedule.under, schedule.maps, strict=True)]


class Store:
    """Tiles of one phase that are still needed, or one part of their numbers.

    Args:
        last: number of the last batch that needs a tile.
    """

    def __init__(self, last: Mapping[Place, int]) -> None:
        self.last = last
        self.tiles: dict[Place, Cells] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return sum(cells.nbytes for cells in self.tiles.values())

    def missing(self, places: Iterable[Place]) -> list[Place]:
        """Tiles that were not made, or dropped since."""
        return [place for place in places if place not in self.tiles]

    def of(self, places: Iterable[Place]) -> dict[Place, Cells]:
        """Tiles that were made and not dropped since."""
        return {place: self.tiles[place] for place in places}


def forget(stores: Sequence[Store], number: int, room: int) -> None:
    """Drop what no batch behind this one needs; beyond so many bytes also what is needed last, which is made again."""
    for store in stores:
        for place in [place for place in store.tiles if store.last[place] <= number]:
            del store.tiles[place]
    beyond = sum(store.nbytes for store in stores) - room
    if beyond <= 0:
        return
    by_need = [(store.last[p], k, p) for k, store in enumerate(stores) for p in store.tiles]
    for _, k, place in sorted(by_need, reverse=True):
        beyond -= stores[k].tiles.pop(place).nbytes
        if beyond <= 0:
            return
