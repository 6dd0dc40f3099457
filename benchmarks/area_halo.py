"""What the border of a tile does to features that are read by area, and what tiles cost: the tables of docs/design/area.md.

python -m benchmarks.area_halo IMAGE [--cost] [--prices] [--then 6 8 9 10 11] [--first 1 2 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks.measure import peak_memory_gb
from hespotex.config import PatchConfig
from hespotex.encoders import Encoder, get_encoder
from hespotex.encoders.base import CELL_PX, Tile
from hespotex.features import area
from hespotex.features.area import BATCH, FIRST, THEN, TILE, AreaReader
from hespotex.features.encode import encode_batches, patch_plan
from hespotex.features.patches import PatchPlan
from hespotex.slide import Slide, open_slide

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

# Halos that hold all that the two parts of the network see.
_EXACT = (4, 14)
_PATCH_CELLS = 7
_TIMES = 5
_SIDE_PX = 2 * TILE.side_px


def main() -> int:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--prices", action="store_true", help="what features.prices holds")
    parser.add_argument("--then", type=int, nargs="*", default=())
    parser.add_argument("--first", type=int, nargs="*", default=())
    options = parser.parse_args()
    encoder = get_encoder("efficientnet-lite0", threads=1)
    with open_slide(options.image, mpp=1.0) as slide:
        if options.cost:
            _print_cost(encoder, slide.read_region(2000, 2000, *[_SIDE_PX] * 4))
        if options.prices:
            _print_prices(encoder, slide)
        if options.then or options.first:
            halos = [(FIRST.halo, then) for then in options.then]
            _print_halos(encoder, slide, halos + [(first, _EXACT[1]) for first in options.first])
    return 0


def _print_cost(encoder: Encoder, picture: Picture) -> None:
    """Core-seconds of one thread, the least of five, and what they come to per mm2 of the usual patches."""
    n = encoder.size_px
    patches = np.stack([picture[k * n : (k + 1) * n, :n] for k in range(8)])
    of_patch = _least(lambda: encoder.encode(patches)) / len(patches)
    print(f"a patch {of_patch * 1e3:.1f} ms")
    moments, pixels = encoder.by_area(TILE).moments, picture[None, : TILE.side_px, : TILE.side_px]
    of_cell = _least(lambda: moments(pixels)) / TILE.cells**2
    print(f"one phase, {TILE}: {of_cell * 1e3:.3f} ms a cell of its own")
    _print_per_mm2(encoder, of_cell, of_patch)
    by_size = {}
    for cells in (8, 16, 32):
        tile = Tile(cells, FIRST.halo)
        first = encoder.in_two(tile, THEN).first
        by_size[cells] = _least(partial(first, picture[None, : tile.side_px, : tile.side_px]))
        by_size[cells] /= cells**2
        print(f"early layers, {tile}: {by_size[cells] * 1e3:.3f} ms a cell of its own")
    for cells in (16, 32, 48, 64):
        tile = Tile(cells, THEN.halo)
        two = encoder.in_two(FIRST, tile)
        side = tile.side_px // CELL_PX
        maps = np.random.default_rng(0).normal(size=(1, side, side, two.n_map)).astype(np.float32)
        late = _least(partial(two.then, maps)) / cells**2
        print(f"late layers, {tile}: {late * 1e3:.3f} ms a cell of its own")
        if cells == THEN.cells:
            chosen = late
    print("two phases as chosen:")
    _print_per_mm2(encoder, by_size[FIRST.cells] + chosen, of_patch)
    print(f"peak memory of the process {peak_memory_gb():.1f} GB")


def _print_per_mm2(encoder: Encoder, of_cell: float, of_patch: float) -> None:
    sides_mm = [side / 1000 for side in patch_plan(encoder, PatchConfig()).sides_um]
    per_mm2 = sum(of_cell * (_PATCH_CELLS / side) ** 2 for side in sides_mm)
    spots = per_mm2 / (len(sides_mm) * of_patch)
    print(f"  {per_mm2:.2f} core-s per mm2, as {spots:.0f} spots per mm2 by patches", flush=True)


def _print_prices(encoder: Encoder, slide: Slide) -> None:
    """Core-seconds of one thread from pixels to features, the least of five: a patch, tiles, and what a patch takes of them."""
    side = np.arange(3000.0, 4500.0, 16.0)
    xy = np.stack(np.meshgrid(side, side), axis=2).reshape(-1, 2)
    plan = patch_plan(encoder, PatchConfig())
    few = xy[:: len(xy) // 64]

    def by_patches() -> None:
        for _ in encode_batches(slide, few, encoder, plan, 1.0):
            pass

    n_patches = len(plan.sides_um)
    print(f"a patch {1e3 * _least(by_patches) / (len(few) * n_patches):.2f} ms")
    found = [_of_parts(encoder, slide, xy, replace(plan, reading="area")) for _ in range(_TIMES)]
    for name in found[0]:
        print(f"{name} {1e3 * min(times[name] for times in found):.3f} ms", flush=True)


def _of_parts(encoder: Encoder, slide: Slide, xy: Floats, plan: PatchPlan) -> dict[str, float]:
    """Core-seconds of a tile of early and of late layers, and of a patch that is put together."""
    spent, calls = (
        dict.fromkeys(("early", "late", "whole"), 0.0),
        dict.fromkeys(("early", "late"), 0),
    )
    encoded, in_two = AreaReader._encoded, AreaReader._in_two

    def early(self: AreaReader, scale: Any, places: Any, *rest: Any) -> list[Any]:
        started = time.process_time()
        made = list(encoded(self, scale, places, *rest))
        spent["early"] += time.process_time() - started
        calls["early"] += len(made)
        return made

    def late(self: AreaReader, *rest: Any) -> Any:
        started, before = time.process_time(), spent["early"]
        made = in_two(self, *rest)
        spent["late"] += time.process_time() - started - (spent["early"] - before)
        calls["late"] += 1
        return made

    with mock.patch.multiple(AreaReader, _encoded=early, _in_two=late):
        reader = AreaReader(slide, encoder, plan, 1.0)
        started = time.process_time()
        for at in range(0, len(xy), BATCH):
            reader.read(xy[at : at + BATCH])
        spent["whole"] = time.process_time() - started
    print(f"  {calls}", flush=True)
    return {
        "a tile of early layers": spent["early"] / calls["early"],
        "a tile of late layers": spent["late"] / calls["late"],
        "a patch put together": (spent["whole"] - spent["early"] - spent["late"])
        / (len(xy) * len(plan.sides_um)),
    }


def _least(work: Callable[[], object]) -> float:
    """Core-seconds, the least of some times."""
    work()
    spent = []
    for _ in range(_TIMES):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


def _print_halos(encoder: Encoder, slide: Slide, halos: list[tuple[int, int]]) -> None:
    """How far features of patches across seams are from those without seams, in deviations over the area."""
    exact = _features(encoder, slide, _EXACT)
    deviation = exact.std(axis=0)
    print("halos of early and late layers: rms of all, worst patch, median, 95 % and worst feature")
    for pair in halos:
        off = (_features(encoder, slide, pair) - exact) / deviation
        by_feature, by_patch = (np.sqrt(np.mean(np.square(off), axis=axis)) for axis in (0, 1))
        of_features = np.quantile(by_feature, (0.5, 0.95, 1.0))
        found = (np.sqrt(np.mean(np.square(off))), by_patch.max(), *of_features)
        print(f"{pair}  " + "  ".join(f"{value:.3%}" for value in found), flush=True)


def _features(encoder: Encoder, slide: Slide, halos: tuple[int, int]) -> Floats:
    """(n, D) of patches over the border of two tiles of late layers, and of three of early ones."""
    seam = 2 * THEN.cells * CELL_PX
    across, along = np.arange(seam - 96, seam + 97, 32.0), np.arange(seam - 700, seam + 701, 100.0)
    x, y = (values.ravel() for values in np.meshgrid(across, along))
    plan = PatchPlan((float(encoder.size_px),), encoder.size_px, "area")
    tiles = {"FIRST": Tile(FIRST.cells, halos[0]), "THEN": Tile(THEN.cells, halos[1])}
    with mock.patch.multiple(area, **tiles):
        reader = AreaReader(slide, encoder, plan, 1.0)
        return reader.read(np.stack([x, y], axis=1))[0][:, 0].astype(np.float64)


if __name__ == "__main__":
    raise SystemExit(main())
