"""Features by area: the cells of a slide are encoded once, and a patch is the average of those that it covers.

Cells lie on a grid that is anchored at the slide's corner, tiles of cells likewise. What a spot gets depends on the slide
and on its place alone, not on other spots, on order or on threads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import CELL_PX, CellReader, Encoder, Patches, Tile, TwoPhases
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
Moments = Callable[[Patches], Cells]

# Measured in docs/design/area.md: what a tile costs beyond its own cells, and what its border does to them. The first
# two are of a network that is run in two phases.
FIRST: Final = Tile(cells=16, halo=2)
THEN: Final = Tile(cells=48, halo=10)
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
        early: of a network in two phases, (T, T, K) cells of what its early layers say, likewise.
        bad: why a region could not be read, by the tile that it was read for.
    """

    cell_px0: float
    described: bool
    tiles: OrderedDict[Place, Cells] = field(default_factory=OrderedDict)
    early: OrderedDict[Place, Cells] = field(default_factory=OrderedDict)
    bad: dict[Place, SlideError] = field(default_factory=dict)


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
        found = encoder.in_two(FIRST, THEN) or encoder.by_area(TILE)
        self._two = found if isinstance(found, TwoPhases) else None
        self._one = found if isinstance(found, CellReader) else None
        self._features = found.features
        # Of what is kept whole, and of what is read of the slide.
        self._tile, self._read = (TILE, TILE) if self._two is None else (THEN, FIRST)
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
            features.append(self._features(moments))
        return np.stack(features, axis=1), appearance_of_cells(seen, pitches_um, self._mpp)

    def _pooled(self, scale: _Scale, xy_px0: Floats, on_bad: OnBad | None) -> Floats:
        """(n, K) means over the cells that the patch of each spot covers, those at its border in part."""
        start = xy_px0[:, ::-1] / scale.cell_px0 - self._cells / 2  # row, column of the first cell
        first = np.floor(start).astype(np.intp)
        part = start - first
        corners = _corners(first, self._cells, self._tile.cells)
        pooled: Floats | None = None
        for row in sorted(range(len(first)), key=lambda row: corners[row]):
            block = self._block(scale, first[row], corners[row], on_bad is None)
            values = _mean(block, part[row])
            if pooled is None:
                pooled = np.empty((len(first), len(values)))
            pooled[row] = values
        if on_bad is not None and scale.bad:
            for row, under in enumerate(_corners(first, self._cells, self._read.cells)):
                bad = next((scale.bad[place] for place in under if place in scale.bad), None)
                if bad is not None:
                    on_bad(row, bad)
        return np.empty((0, 0)) if pooled is None else pooled

    def _block(
        self, scale: _Scale, first: npt.NDArray[np.intp], under: Sequence[Place], strict: bool
    ) -> Cells:
        """(C + 1, C + 1, K) cells from `first` on, out of the tiles that lie there."""
        tiles = self._tiles(scale, under, strict)
        return _cut(tiles, first, self._cells + 1, self._tile.cells)

    def _tiles(self, scale: _Scale, places: Sequence[Place], strict: bool) -> dict[Place, Cells]:
        """The cells of tiles, those that are not kept made now."""
        missing = [place for place in places if place not in scale.tiles]
        if self._one is not None:
            scale.tiles.update(self._encoded(scale, missing, strict, self._one.moments))
        if self._two is not None:
            for place in missing:
                scale.tiles[place] = self._in_two(scale, self._two, place, strict)
        return self._kept(scale.tiles, places)

    def _in_two(self, scale: _Scale, two: TwoPhases, place: Place, strict: bool) -> Cells:
        """The cells of a tile from what the early layers say of it and of what lies around it."""
        halo, side = THEN.halo, THEN.side_px // CELL_PX
        first = np.array([p * THEN.cells - halo for p in place])
        places = _early_places(place)
        missing = [p for p in places if p not in scale.early]
        scale.early.update(self._encoded(scale, missing, strict, two.first))
        around = _cut(self._kept(scale.early, places), first, side, FIRST.cells)
        end = around.shape[2] - (self._n_seen if scale.described else 0)
        start = end - two.n_map
        late = two.then(np.ascontiguousarray(around[None, :, :, start:end]))[0]
        own = around[halo:-halo, halo:-halo]
        return np.concatenate([own[:, :, :start], late, own[:, :, end:]], axis=2)

    def _kept(
        self, store: OrderedDict[Place, Cells], places: Sequence[Place]
    ) -> dict[Place, Cells]:
        """Tiles of a store; of the others, those that were not used for longest are dropped."""
        for place in places:
            store.move_to_end(place)
        found = {place: store[place] for place in places}
        room = _KEPT_BYTES // (len(self._scales) * next(iter(found.values())).nbytes)
        while len(store) > max(len(places), room if self._two is None else room // 2):
            store.popitem(last=False)
        return found

    def _encoded(
        self, scale: _Scale, places: Sequence[Place], strict: bool, moments: Moments
    ) -> Iterator[tuple[Place, Cells]]:
        """Tiles that are read and encoded now."""
        for at in range(0, len(places), _AT_ONCE):
            some = places[at : at + _AT_ONCE]
            pictures = np.stack([self._picture(scale, place, strict) for place in some])
            for place, picture, own in zip(some, pictures, moments(pictures), strict=True):
                yield place, own if not scale.described else self._described(own, picture)

    def _described(self, cells: Cells, picture: Patches) -> Cells:
        seen = cell_appearance(picture, CELL_PX, self._read.halo, self._plan.size_px)
        return np.concatenate([cells, seen], axis=2)

    def _picture(self, scale: _Scale, place: Place, strict: bool) -> Patches:
        """The pixels of a tile with its halo; white where they cannot be read."""
        tile = self._read
        top, left = ((p * tile.cells - tile.halo) * scale.cell_px0 for p in place)
        side_px, side_px0 = tile.side_px, tile.side_px / CELL_PX * scale.cell_px0
        try:
            return self._slide.read_region(left, top, side_px0, side_px0, side_px, side_px)
        except SlideError as error:
            if strict:
                raise
            scale.bad[place] = error
            return np.full((side_px, side_px, 3), 255, np.uint8)


def tiles_under(
    xy_px0: Floats, cell_px0: float, cells: int, *, in_two: bool
) -> tuple[set[Place], set[Place]]:
    """The tiles that patches of spots make necessary: those that are read, and of two phases those of the late layers.

    Args:
        xy_px0: (n, 2) level-0 pixels.
        cell_px0: side of a cell in level-0 pixels.
        cells: a side of a patch.
        in_two: whether the network runs in two phases.
    """
    kept = THEN if in_two else TILE
    first = np.floor(xy_px0[:, ::-1] / cell_px0 - cells / 2).astype(np.int64)
    if not len(first):
        return set(), set()
    ends = np.hstack([first // kept.cells, (first + cells) // kept.cells])
    low = ends.min(axis=0)
    shape = ends.max(axis=0) - low + 1
    numbers = np.unique(np.ravel_multi_index(tuple((ends - low).T), tuple(shape)))
    spans = np.stack(np.unravel_index(numbers, tuple(shape)), axis=1) + low
    under = {
        place
        for r, c, s, d in spans.tolist()
        for place in product(range(r, s + 1), range(c, d + 1))
    }
    if not in_two:
        return under, set()
    early = {place for own in under for place in _early_places(own)}
    return early, under


def _early_places(place: Place) -> tuple[Place, ...]:
    """Tiles of early layers under a tile of late ones with its halo."""
    first = np.array([[p * THEN.cells - THEN.halo for p in place]], dtype=np.intp)
    (places,) = _corners(first, THEN.side_px // CELL_PX - 1, FIRST.cells)
    return places


def _corners(first: npt.NDArray[np.intp], reach: int, cells: int) -> list[tuple[Place, ...]]:
    """Tiles of so many cells a side under squares whose first cells are (n, 2) `first`, the last ones `reach` further."""
    low, high = (first // cells).tolist(), ((first + reach) // cells).tolist()
    return [
        tuple(product(range(r, s + 1), range(c, d + 1)))
        for (r, c), (s, d) in zip(low, high, strict=True)
    ]


def _cut(tiles: dict[Place, Cells], first: npt.NDArray[np.intp], side: int, cells: int) -> Cells:
    """(side, side, K) cells from `first` on, out of tiles of so many cells a side."""
    rows = sorted({row for row, _ in tiles})
    columns = sorted({column for _, column in tiles})
    y, x = int(first[0]) - rows[0] * cells, int(first[1]) - columns[0] * cells
    if len(tiles) == 1:
        return tiles[rows[0], columns[0]][y : y + side, x : x + side]
    out = np.empty((side, side, next(iter(tiles.values())).shape[2]), np.float32)
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        (a, b), (c, d) = (
            (max(0, k * cells - at), min(side, (k + 1) * cells - at)) for k, at in ((i, y), (j, x))
        )
        top, left = a + y - i * cells, c + x - j * cells
        out[a:b, c:d] = tiles[row, column][top : top + b - a, left : left + d - c]
    return out


def _mean(block: Cells, part: Floats) -> Floats:
    """(K,) mean over a square that starts `part` (2,) of a cell behind the first of (C + 1, C + 1, K) cells.

    A cell that lies in the square in part counts in part.
    """
    side = len(block) - 1
    weights = np.full((2, side + 1), 1 / side)
    weights[:, 0], weights[:, side] = (1 - part) / side, part / side
    rows = np.einsum("y,yxk->xk", weights[0].astype(np.float32), block)
    return np.asarray(np.einsum("x,xk->k", weights[1], rows))
