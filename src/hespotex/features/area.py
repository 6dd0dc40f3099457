"""Features by area: the cells of a slide are encoded once, and a patch is the average of those that it covers.

Cells lie on a grid that is anchored at the slide's corner, tiles of cells likewise. What a spot gets depends on the slide
and on its place alone, not on other spots, on order or on threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import CELL_PX, Encoder, Patches
from hespotex.errors import SlideError
from hespotex.features.appearance import (
    Appearance,
    appearance_of_cells,
    cell_appearance,
    n_cell_moments,
)
from hespotex.features.area_pool import pooled
from hespotex.features.area_tiles import (
    Cells,
    Floats,
    OnBad,
    Place,
    Schedule,
    Store,
    Whole,
    cut,
    forget,
    places_of,
    places_under,
)
from hespotex.features.patches import PatchPlan
from hespotex.slide import Slide

# A side of the squares in which spots are put together.
_GROUP_CELLS: Final = 48
# Spots that are put together at once.
BATCH: Final = 512
# Bytes of cells that are kept, over all scales; what was dropped is made again, the same.
_KEPT_BYTES: Final = 2**29
# Tiles that are encoded side by side.
_AT_ONCE: Final = 4
# Tiles are read in squares of up to so many cells, whose halo they share.
_READ_CELLS: Final = 16
# Cells around a tile that its appearance is told with: the bands of a patch look so far.
_SEEN_HALO: Final = 2


class AreaReader:
    """Features and appearance of spots of one slide, batch after batch; hold it in no more than one thread.

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
        self._net = encoder.by_area()
        self._cells = plan.size_px // CELL_PX
        self._n_seen = n_cell_moments(plan.size_px)

    def batches(
        self, xy_px0: Floats, size: int = BATCH, on_bad: OnBad | None = None
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32], Appearance]]:
        """Features (b, S, D) and appearance of spots, so many at once, in their order.

        Args:
            xy_px0: (n, 2) level-0 pixels; neighbours are best near each other, for tiles are kept while they are needed.
            on_bad: hears of every spot that lies on a tile which cannot be read; such a tile is white. None: the first
                one ends the reading.

        Raises:
            SlideError: a region cannot be read.
        """
        rows = [slice(at, min(at + size, len(xy_px0))) for at in range(0, len(xy_px0), size)]
        last = len(self._plan.sides_um) - 1
        scales = [
            _Scale(self, side / self._cells, number in (0, last), xy_px0, rows)
            for number, side in enumerate(self._plan.sides_px0(self._mpp))
        ]
        for number, part in enumerate(rows):
            found = self._read(scales, part, on_bad)
            forget([store for scale in scales for store in scale.stores], number, _KEPT_BYTES)
            yield part, *found

    def _read(
        self, scales: list[_Scale], rows: slice, on_bad: OnBad | None
    ) -> tuple[npt.NDArray[np.float32], Appearance]:
        features, seen, pitches_um = [], [], []
        for scale, pitch_um in zip(scales, self._plan.effective_mpp(self._mpp), strict=True):
            moments = scale.moments(rows, on_bad)
            if scale.described:
                seen.append(moments[:, -self._n_seen :])
                pitches_um.append(pitch_um)
                moments = moments[:, : -self._n_seen]
            features.append(self._net.features(moments))
        return np.stack(features, axis=1), appearance_of_cells(seen, pitches_um, self._mpp)


class _Scale:
    """The cells of a slide at one scale of the plan, those that are needed now.

    Attributes:
        described: whether cells also say what the appearance of a spot is made of.
        stores: the tiles that are kept.
        bad: why a region could not be read, by the tile that it was read for.
    """

    def __init__(
        self,
        reader: AreaReader,
        cell_px0: float,
        described: bool,
        xy_px0: Floats,
        rows: Sequence[slice],
    ) -> None:
        self._slide, self._cell_px0, self.described = reader._slide, cell_px0, described
        self._phases, self._cells = reader._net.phases, reader._cells
        self._size_px = reader._plan.size_px
        start = xy_px0[:, ::-1] / cell_px0 - self._cells / 2  # row, column of the first cell
        self._first = np.floor(start).astype(np.intp)
        self._part = start - self._first
        tiles = [phase.tile for phase in self._phases]
        schedule = Schedule(self._first, self._cells + 1, rows, tiles)
        # Maps are handed on soon, moments are wanted longer.
        self._told = [Store(last) for last in schedule.under]
        self._maps = [Store(last) for last in schedule.maps]
        self._seen = Store(schedule.under[0])
        self.stores = (*self._told, *self._maps, self._seen)
        self.bad: dict[Place, SlideError] = {}
        self._per_square = max(1, _READ_CELLS // tiles[0].cells)
        self._read: set[Place] = set()

    def moments(self, rows: slice, on_bad: OnBad | None) -> Floats:
        """(b, K) means over the cells that the patch of each spot covers, those at its border in part."""
        first, part = self._first[rows], self._part[rows]
        strict = on_bad is None
        found: Floats | None = None
        for some in _groups(first):
            low, blocks = self._blocks(first[some], strict)
            own = pooled(blocks, first[some] - low, part[some], self._cells)
            found = np.empty((len(first), own.shape[1])) if found is None else found
            found[some] = own
        if on_bad is not None and self.bad:
            tile = self._phases[0].tile
            for row, at in enumerate(first):
                under = places_of(at, at + self._cells + 1, tile)
                if error := next((self.bad[p] for p in under if p in self.bad), None):
                    on_bad(rows.start + row, error)
        return np.empty((0, 0)) if found is None else found

    def _blocks(self, first: Whole, strict: bool) -> tuple[Whole, list[Cells]]:
        """(h, w, K) moments of a box of cells that holds some patches, phase by phase, the appearance last; and its first cell.

        Only cells under the patches are set.
        """
        side = self._cells + 1
        low, high = first.min(axis=0), first.max(axis=0) + side
        blocks = []
        # The last phase asks the others for what it needs.
        for k, phase in reversed(list(enumerate(self._phases))):
            places = sorted(places_under(first, side, phase.tile))
            tiles = self._tiles(k, self._told[k], places, strict)
            blocks.append(cut(tiles, low, high, phase.tile))
        blocks.reverse()
        if self.described:
            tile = self._phases[0].tile
            places = sorted(places_under(first, side, tile))
            self._read_tiles(self._seen.missing(places), strict)  # dropped for want of room
            blocks.append(cut(self._seen.of(places), low, high, tile))
        return low, blocks

    def _tiles(
        self, phase: int, store: Store, places: Sequence[Place], strict: bool
    ) -> dict[Place, Cells]:
        """What a store of a phase holds of tiles, those that are not kept made now."""
        told, maps, missing = self._told[phase], self._maps[phase], store.missing(places)
        parts = [missing[at : at + _AT_ONCE] for at in range(0, len(missing), _AT_ONCE)]
        for some in parts if phase else self._squares(missing):
            given: npt.NDArray[Any] = (
                self._maps_before(phase, some, strict) if phase else self._read_tiles(some, strict)
            )
            made = self._phases[phase].cells(given)
            end = made.shape[3] - self._phases[phase].n_map
            for place, cells in zip(some, made, strict=True):
                # A view would keep the rest from being dropped.
                if place in told.last:
                    told.tiles[place] = cells[..., :end].copy()
                if place in maps.last:
                    maps.tiles[place] = cells[..., end:].copy()
        return store.of(places)

    def _maps_before(self, phase: int, places: Sequence[Place], strict: bool) -> Cells:
        """(b, side, side, M) what the phase before says of tiles and of what lies around them."""
        tile, before = self._phases[phase].tile, self._phases[phase - 1]
        lows = [np.array(tile.low(place), np.intp) - round(tile.halo) for place in places]
        around = [places_of(low, low + tile.side, before.tile) for low in lows]
        # What no spot depends on is not made.
        maps = self._maps[phase - 1]
        needed = [[p for p in own if p in maps.last] for own in around]
        every = list(dict.fromkeys(place for own in needed for place in own))
        tiles = self._tiles(phase - 1, maps, every, strict)
        return np.stack(
            [
                cut({p: tiles[p] for p in own}, low, low + tile.side, before.tile)
                for low, own in zip(lows, needed, strict=True)
            ]
        )

    def _squares(self, missing: Sequence[Place]) -> Iterator[list[Place]]:
        """Tiles of the first phase square by square, each with those of its square that will be needed."""
        n, wanted = self._per_square, set(missing)
        for top, left in dict.fromkeys((row // n, column // n) for row, column in missing):
            own = []
            for place in product(range(top * n, top * n + n), range(left * n, left * n + n)):
                to_come = place in self._told[0].last or place in self._maps[0].last
                if place in wanted or (to_come and place not in self._read):
                    own.append(place)
            self._read.update(own)
            yield own

    def _read_tiles(self, places: Sequence[Place], strict: bool) -> Patches:
        """The pixels of tiles with their halo; of those that lie under patches the appearance is kept."""
        n, pictures = self._per_square, dict[Place, Patches]()
        for square in dict.fromkeys((row // n, column // n) for row, column in places):
            corner = square[0] * n, square[1] * n
            own = [p for p in places if (p[0] // n, p[1] // n) == square]
            try:
                pictures |= self._cut_square(own, corner, n, self._picture(corner, n))
            except SlideError:
                if strict:
                    raise
                for place in own:
                    pictures |= self._cut_square([place], place, 1, self._picture_or_white(place))
        return (
            np.stack([pictures[p] for p in places]) if places else np.empty((0, 0, 0, 3), np.uint8)
        )

    def _cut_square(
        self, places: Sequence[Place], corner: Place, n: int, picture: Patches
    ) -> dict[Place, Patches]:
        """Tiles with their halo out of the picture of a square of n x n, and their appearance."""
        tile, around = self._phases[0].tile, self._around
        seen = [place for place in places if self.described and place in self._seen.last]
        if seen:
            cells = cell_appearance(picture, CELL_PX, round(around), self._size_px)
        for row, column in seen:
            top, left = (row - corner[0]) * tile.cells, (column - corner[1]) * tile.cells
            own = cells[top : top + tile.cells, left : left + tile.cells]
            self._seen.tiles[row, column] = own.copy()
        found = {}
        for row, column in places:
            top, left = (
                round((number * tile.cells + around - tile.halo) * CELL_PX)
                for number in (row - corner[0], column - corner[1])
            )
            found[row, column] = picture[top : top + tile.side_px, left : left + tile.side_px]
        return found

    @property
    def _around(self) -> float:
        """Cells around a square of tiles that are read with it."""
        halo = self._phases[0].tile.halo
        return max(math.ceil(halo), _SEEN_HALO) if self.described else halo

    def _picture(self, corner: Place, n: int) -> Patches:
        """The pixels of a square of n x n tiles with what lies around it."""
        tile, around, size = self._phases[0].tile, self._around, self._cell_px0
        side = round(n * tile.cells + 2 * around)
        top, left = ((cell - around) * size for cell in tile.low(corner))
        return self._slide.read_region(
            left, top, side * size, side * size, side * CELL_PX, side * CELL_PX
        )

    def _picture_or_white(self, place: Place) -> Patches:
        """The same of a tile; white where it cannot be read."""
        try:
            return self._picture(place, 1)
        except SlideError as error:
            self.bad[place] = error
            side = round(self._phases[0].tile.cells + 2 * self._around)
            return np.full((side * CELL_PX, side * CELL_PX, 3), 255, np.uint8)


def _groups(first: Whole) -> Iterator[Whole]:
    """Spots whose first cells lie in one square."""
    _, number = np.unique(first // _GROUP_CELLS, axis=0, return_inverse=True)
    order = np.argsort(number.ravel(), kind="stable")
    ends = np.flatnonzero(np.diff(number.ravel()[order])) + 1
    return (some for some in np.split(order, ends) if len(some))
