"""How often tiles of a fine map are computed, and what is kept of them: the order of spots without a network.

python -m benchmarks.area_tiles [SIDE_PX] [--mpp 0.5] [--pitch-um 16]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np

from hespotex.encoders import offline
from hespotex.encoders.base import CellReader, Phase
from hespotex.features import area
from hespotex.features.appearance import n_cell_moments
from hespotex.features.area_tiles import Store, tiles_under
from hespotex.features.patches import PatchPlan, reading_order
from hespotex.features.prices import TILES_S
from hespotex.predicting.store import CHUNK_SPOTS
from hespotex.spots.grid import spot_grid

_PLAN = PatchPlan((77.2, 154.5, 309.0, 617.9), offline.SIZE_PX, "area")
_CELLS = 7


class _Counting:
    """An encoder whose cells are nothing; it counts them."""

    def __init__(self) -> None:
        self.made: Counter[int] = Counter()

    def by_area(self) -> CellReader:
        channels = [c for c, _ in offline.STAGES]
        told = [2 * sum(channels[a:b]) for a, b in ((0, 2), (2, 4), (4, 4), (4, 5), (5, 5), (5, 7))]
        maps = (*offline.N_MAPS, 0)
        phases = (
            Phase(tile, self._cells(k, told[k] + maps[k]), maps[k])
            for k, tile in enumerate(offline.TILES)
        )
        return CellReader(tuple(phases), lambda pooled: np.zeros((len(pooled), 1), np.float32))

    def _cells(self, phase: int, n: int) -> Callable[[Any], Any]:
        def cells(given: Sequence[Any]) -> Any:
            self.made[phase] += len(given)
            side = offline.TILES[phase].cells
            return np.zeros((len(given), side, side, n), np.float32)

        return cells


def main() -> int:
    """Print, for each phase, computed tiles and different ones, and what that costs; and the bytes that are kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("side_px", type=int, nargs="?", default=13_000)
    parser.add_argument("--mpp", type=float, default=0.5)
    parser.add_argument("--pitch-um", type=float, default=16.0)
    given = parser.parse_args()
    xy, _ = spot_grid(given.side_px, given.side_px, given.mpp, given.pitch_um, "square")
    xy = xy[reading_order(xy)]
    print(f"{given.side_px:,} px, {len(xy):,} spots")
    encoder = _Counting()
    most = _run(xy, given.mpp, encoder)
    sides = [side / _CELLS for side in _PLAN.sides_px0(given.mpp)]
    different = np.sum([tiles_under(xy, side, _CELLS, offline.TILES) for side in sides], axis=0)
    made = np.array([encoder.made[k] for k in range(len(offline.TILES))])
    prices = np.array(TILES_S[len(offline.TILES)])
    for k, (n, least) in enumerate(zip(made, different, strict=True), 1):
        print(f"phase {k}: {n:,} tiles of {least:,} ({n / least:.2f}x)")
    spent, once = float(made @ prices), float(different @ prices)
    print(f"{spent:.0f} core-s, {once:.0f} if every tile were computed once: {spent / once:.2f}x")
    print(f"kept: {most / 1e9:.2f} GB at most")
    return 0


def _run(xy: np.ndarray, mpp: float, encoder: _Counting) -> int:
    """Go through all spots; the largest number of bytes that were kept before a batch ended."""
    most, forget = 0, area.forget

    def watched(stores: Sequence[Store], number: int, room: int) -> None:
        nonlocal most
        most = max(most, sum(store.nbytes for store in stores))
        forget(stores, number, room)

    def unread(scale: Any, places: Sequence[Any], _strict: bool) -> Sequence[Any]:
        side, n = offline.TILES[0].cells, n_cell_moments(offline.SIZE_PX)
        for place in places if scale.described else ():
            if place in scale._seen.last:
                scale._seen.tiles[place] = np.zeros((side, side, n), np.float32)
        return places

    reader: Any = area.AreaReader(None, encoder, _PLAN, mpp)  # type: ignore[arg-type]
    nothing = {
        "forget": watched,
        "pooled": lambda _blocks, first, *_: np.zeros((len(first), n_cell_moments(_PLAN.size_px))),
        "appearance_of_cells": lambda *_: None,
        "cut": lambda _tiles, low, high, *_: np.zeros((*(high - low), 1), np.float32),
    }
    with (
        mock.patch.multiple(area, **nothing),
        mock.patch.object(area._Scale, "_read_tiles", unread),
    ):
        for _ in reader.batches(xy, CHUNK_SPOTS):
            pass
    return most


if __name__ == "__main__":
    raise SystemExit(main())
