"""Features by area: the cells of a slide are encoded once, and a patch is the average of those that it covers.

Cells lie on a grid that is anchored at the slide's corner, tiles of cells likewise. What a spot gets depends on the slide
and on its place alone, not on other spots, on order or on threads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import CELL_PX, Encoder, Patches, Tile
from hespotex.errors import SlideError
from hespotex.features.appearance import (
    Appearance,
    appearance_of_cells,
    cell_appearance,
    n_cell_moments,
)
from hespotex.features.patches import PatchPlan
from hespotex.slide import Slide

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.float32]
Place = tuple[int, int]
OnBad = Callable[[int, SlideError], None]

# Measured in docs/design/area.md: what a tile costs beyond its own cells, and what its border does to them.
TILE: Final = Tile(cells=32, halo=10)
# Spots that are put together at once.
BATCH: Final = 512
# Bytes of cells that are kept, over all scales; what was dropped is made again, the same.
_KEPT_BYTES: Final = 2**30
# Tiles that are read and encoded side by side.
_AT_ONCE: Final = 4


@dataclass
class _Scale:
    """The cells of a slide at one scale of the plan.

    Attributes:
        cell_px0: side of a cell in level-0 pixels.
        described: whether cells also say what the appearance of a spot is made of.
        tiles: (T, T, K) cells of the tiles that are kept, the latest used last.
        bad: why a tile could not be read.
        made: the last averages, for which tile, and which tiles they were made of.
    """

    cell_px0: float
    described: bool
    tiles: OrderedDict[Place, Cells] = field(default_factory=OrderedDict)
    bad: dict[Place, SlideError] = field(default_factory=dict)
    made: tuple[Place, frozenset[Place], Floats] | None = None


class AreaReader:
    """Features and appearance of any spots of one slide; hold it in no more than one thread.

    Args:
        slide: the open slide.
        encoder: reads by area.
        plan: sides and size of the patches.
        mpp: microns per level-0 pixel.

    Raises:
        EncoderError: the encoder reads patches alone.
    """

    def __init__(self, slide: Slide, encoder: Encoder, plan: PatchPlan, mpp: float) -> None:
        self._slide, self._plan, self._mpp = slide, plan, mpp
        self._encoder = encoder.by_area(TILE)
        self._cells = plan.size_px // CELL_PX
        self._n_seen = n_cell_moments(plan.size_px)
        last = len(plan.sides_um) - 1
        self._scales = [
            _Scale(side / self._cells, number in (0, last))
            for number, side in enumerate(plan.sides_px0(mpp))
        ]

    def read(
        self, xy_px0: Floats, on_bad: OnBad | None = None
    ) -> tuple[npt.NDArray[np.float32], Appearance]:
        """Features (n, S, D) and appearance of spots.

        Args:
            xy_px0: (n, 2) level-0 pixels.
            on_bad: hears of every spot that lies on a tile which cannot be read; such a tile is white. None: the first
                one ends the reading.

        Raises:
            SlideError: a region cannot be read.
        """
        features, seen, pitches_um = [], [], []
        for scale, pitch_um in zip(self._scales, self._plan.effective_mpp(self._mpp), strict=True):
            moments = self._pooled(scale, xy_px0, on_bad)
            if scale.described:
                seen.append(moments[:, -self._n_seen :])
                pitches_um.append(pitch_um)
                moments = moments[:, : -self._n_seen]
            features.append(self._encoder.features(moments))
        return np.stack(features, axis=1), appearance_of_cells(seen, pitches_um, self._mpp)

    def _pooled(self, scale: _Scale, xy_px0: Floats, on_bad: OnBad | None) -> Floats:
        """(n, K) means over the cells that the patch of each spot covers, those at its border in part."""
        start = xy_px0[:, ::-1] / scale.cell_px0 - self._cells / 2  # row, column of the first cell
        first = np.floor(start).astype(np.intp)
        part = start - first
        tile, reach = first // TILE.cells, (first + self._cells) // TILE.cells
        places, group = np.unique(tile, axis=0, return_inverse=True)
        found: list[tuple[npt.NDArray[np.intp], Floats]] = []
        for number, place in enumerate(places):
            rows = np.flatnonzero(group.ravel() == number)
            corners = _corners(tile[rows], reach[rows])
            needed = frozenset[Place]().union(*corners)
            windows = self._windows(scale, (int(place[0]), int(place[1])), needed, on_bad is None)
            found.append((rows, _between(windows, first[rows] - place * TILE.cells, part[rows])))
            if on_bad is not None:
                for row, needed in zip(rows, corners, strict=True):
                    bad = next((scale.bad[p] for p in sorted(needed) if p in scale.bad), None)
                    if bad is not None:
                        on_bad(int(row), bad)
        pooled = np.empty((len(xy_px0), found[0][1].shape[1]))
        for rows, values in found:
            pooled[rows] = values
        return pooled

    def _windows(
        self, scale: _Scale, place: Place, needed: frozenset[Place], strict: bool
    ) -> Floats:
        """(T + 1, T + 1, K) means over squares of cells that start in a tile; NaN where tiles are missing that nobody needs."""
        if scale.made is not None and place == scale.made[0] and needed <= scale.made[1]:
            return scale.made[2]
        tiles = self._tiles(scale, sorted(needed), strict)
        side, cells = TILE.cells, self._cells
        width = next(iter(tiles.values())).shape[2]
        block = np.full((side + cells, side + cells, width), np.nan)
        for (row, column), own in tiles.items():
            y, x = (row - place[0]) * side, (column - place[1]) * side
            room = block[y : y + side, x : x + side]
            room[:] = own[: room.shape[0], : room.shape[1]]
        rows, windows = block[: side + 1], np.zeros((side + 1, side + 1, width))
        for k in range(1, cells):
            rows = rows + block[k : k + side + 1]
        for k in range(cells):
            windows += rows[:, k : k + side + 1]
        windows /= cells**2
        scale.made = place, needed, windows
        return windows

    def _tiles(self, scale: _Scale, places: Sequence[Place], strict: bool) -> dict[Place, Cells]:
        """The cells of tiles, those that are not kept made now."""
        missing = [place for place in places if place not in scale.tiles]
        for at in range(0, len(missing), _AT_ONCE):
            some = missing[at : at + _AT_ONCE]
            pictures = np.stack([self._picture(scale, place, strict) for place in some])
            cells = self._encoder.moments(pictures)
            for place, picture, own in zip(some, pictures, cells, strict=True):
                scale.tiles[place] = own if not scale.described else self._described(own, picture)
        found = {}
        for place in places:
            scale.tiles.move_to_end(place)
            found[place] = scale.tiles[place]
        size = next(iter(found.values())).nbytes
        while len(scale.tiles) > max(len(places), _KEPT_BYTES // (len(self._scales) * size)):
            scale.tiles.popitem(last=False)
        return found

    def _described(self, cells: Cells, picture: Patches) -> Cells:
        seen = cell_appearance(picture, CELL_PX, TILE.halo, self._plan.size_px)
        return np.concatenate([cells, seen], axis=2)

    def _picture(self, scale: _Scale, place: Place, strict: bool) -> Patches:
        """The pixels of a tile with its halo; white where they cannot be read."""
        top, left = ((p * TILE.cells - TILE.halo) * scale.cell_px0 for p in place)
        side_px0 = TILE.side_px / CELL_PX * scale.cell_px0
        try:
            return self._slide.read_region(
                left, top, side_px0, side_px0, TILE.side_px, TILE.side_px
            )
        except SlideError as error:
            if strict:
                raise
            scale.bad[place] = error
            return np.full((TILE.side_px, TILE.side_px, 3), 255, np.uint8)


def _corners(tile: npt.NDArray[np.intp], reach: npt.NDArray[np.intp]) -> list[frozenset[Place]]:
    """Tiles under the patch of each spot, from (n, 2) those of its first and of its last cell."""
    return [
        frozenset(product(range(r, s + 1), range(c, d + 1)))
        for (r, c), (s, d) in zip(tile.tolist(), reach.tolist(), strict=True)
    ]


def _between(windows: Floats, at: npt.NDArray[np.intp], part: Floats) -> Floats:
    """(n, K) means over squares that start between cells: `part` (n, 2) of a cell behind `at`.

    A cell that lies in the square in part counts in part, so this is linear between the four squares around.
    """
    (y, x), (v, u) = at.T, part.T[:, :, None]
    upper = (1 - u) * windows[y, x] + u * windows[y, x + 1]
    lower = (1 - u) * windows[y + 1, x] + u * windows[y + 1, x + 1]
    return np.asarray((1 - v) * upper + v * lower)
