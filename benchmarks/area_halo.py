"""What the border of a tile does to features that are read by area, and what tiles cost: the tables of docs/design/area.md.

python -m benchmarks.area_halo IMAGE [--cost] [--prices] [--seams]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks.measure import peak_memory_gb
from hespotex.config import PatchConfig
from hespotex.encoders import Encoder, get_encoder, offline
from hespotex.encoders.area import ONE
from hespotex.encoders.base import CELL_PX, Phase, Tile
from hespotex.features import area
from hespotex.features.area import AreaReader
from hespotex.features.encode import encode_batches, patch_plan
from hespotex.features.patches import PatchPlan
from hespotex.slide import Slide, open_slide

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

# One tile that holds all that patches across seams see.
_EXACT = (Tile(cells=48, halo=14, offset=-24),)
_PATCH_CELLS = 7
_TIMES = 5
_SIDE_PX = 2 * ONE[0].side_px


def main() -> int:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--prices", action="store_true", help="what features.prices holds")
    parser.add_argument("--seams", action="store_true")
    options = parser.parse_args()
    encoder = get_encoder("efficientnet-lite0", threads=1)
    with open_slide(options.image, mpp=1.0) as slide:
        if options.cost:
            _print_cost(encoder, slide.read_region(2000, 2000, *[_SIDE_PX] * 4))
        if options.prices:
            _print_prices(encoder, slide)
        if options.seams:
            _print_seams(get_encoder("efficientnet-lite0", threads=1, engine="torch"), slide)
    return 0


def _print_cost(encoder: Encoder, picture: Picture) -> None:
    """Core-seconds of one thread, the least of five, and what they come to per mm2 of the usual patches."""
    n = encoder.size_px
    patches = np.stack([picture[k * n : (k + 1) * n, :n] for k in range(8)])
    of_patch = _least(lambda: encoder.encode(patches)) / len(patches)
    print(f"a patch {of_patch * 1e3:.1f} ms")
    chosen = 0.0
    for number, own in enumerate(offline.TILES):
        for cells in (8, 16, 24, 32):
            tiles = [replace(t, cells=cells) if t is own else t for t in offline.TILES]
            of_cell = _of_tile(encoder.by_area(tiles).phases, number, picture) / cells**2
            print(
                f"phase {number + 1}, {cells} cells: {1e3 * of_cell:.4f} ms a cell of its own",
                flush=True,
            )
            if cells == own.cells:
                chosen += of_cell
    for name, of_cell in (
        ("one phase", _of_tile(encoder.by_area(ONE).phases, 0, picture) / ONE[0].cells ** 2),
        ("as chosen", chosen),
    ):
        per_mm2 = sum(of_cell * (1e3 * _PATCH_CELLS / side) ** 2 for side in _sides(encoder))
        spots = per_mm2 / (len(_sides(encoder)) * of_patch)
        print(
            f"{name}: {of_cell * 1e3:.3f} ms a cell, {per_mm2:.2f} core-s per mm2, as {spots:.0f} spots by patches"
        )
    print(f"peak memory of the process {peak_memory_gb():.1f} GB")


def _sides(encoder: Encoder) -> tuple[float, ...]:
    return patch_plan(encoder, PatchConfig()).sides_um


def _of_tile(phases: Sequence[Phase], number: int, picture: Picture) -> float:
    tile = phases[number].tile
    if number == 0:
        return _least(partial(phases[0].cells, picture[None, : tile.side_px, : tile.side_px]))
    shape = (1, tile.side, tile.side, phases[number - 1].n_map)
    maps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return _least(partial(phases[number].cells, maps))


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
    """Core-seconds of a tile of each phase, the first with its pixels, and of a patch that is put together."""
    spent, calls = Counter[str](), Counter[str]()

    def timed(name: str, work: Callable[..., Any], n: Callable[..., int]) -> Callable[..., Any]:
        def measured(*given: Any) -> Any:
            started = time.process_time()
            made = work(*given)
            spent[name] += time.process_time() - started
            calls[name] += n(*given)
            return made

        return measured

    reader = AreaReader(slide, encoder, plan, 1.0)
    phases = tuple(
        replace(phase, cells=timed(f"phase {number}", phase.cells, len))
        for number, phase in enumerate(reader._net.phases, 1)
    )
    reader._net = replace(reader._net, phases=phases)
    read = timed("pixels", area._Scale._read_tiles, lambda _self, places, _strict: len(places))

    def pixels(scale: Any, places: Any, strict: bool) -> Any:
        return read(scale, places, strict)  # a function binds to the scale

    with mock.patch.object(area._Scale, "_read_tiles", pixels):
        started = time.process_time()
        for _ in reader.batches(xy):
            pass
        whole = time.process_time() - started
    of = {name: spent[name] / calls[name] for name in sorted(calls)}
    of["phase 1"] += of.pop("pixels")
    print(f"  {dict(calls)}", flush=True)
    rest = whole - sum(spent.values())
    return {**of, "a patch put together": rest / (len(xy) * len(plan.sides_um))}


def _least(work: Callable[[], object]) -> float:
    """Core-seconds, the least of some times."""
    work()
    spent = []
    for _ in range(_TIMES):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


def _print_seams(encoder: Encoder, slide: Slide) -> None:
    """How far features of patches across seams are from those without seams, in deviations over the area."""
    exact = _features(encoder, slide, _EXACT)
    deviation = exact.std(axis=0)
    print("tiles: rms of all features, worst patch, median, 95 % and worst feature")
    for name, tiles in {
        "as chosen": offline.TILES,
        "one phase, halo 10": (Tile(24, 10),),
        "one phase, halo 9": (Tile(24, 9),),
    }.items():
        off = (_features(encoder, slide, tiles) - exact) / deviation
        by_feature, by_patch = (np.sqrt(np.mean(np.square(off), axis=axis)) for axis in (0, 1))
        of_features = np.quantile(by_feature, (0.5, 0.95, 1.0))
        found = (np.sqrt(np.mean(np.square(off))), by_patch.max(), *of_features)
        print(f"{name}  " + "  ".join(f"{value:.4%}" for value in found), flush=True)


def _features(encoder: Encoder, slide: Slide, tiles: Sequence[Tile]) -> Floats:
    """(n, D) of patches over a corner at which tiles of all phases end, those of the first two cells beside it."""
    seam = 96 * CELL_PX
    across, along = np.arange(seam - 96, seam + 97, 32.0), np.arange(seam - 600, seam + 601, 100.0)
    x, y = (values.ravel() for values in np.meshgrid(across, along))
    plan = PatchPlan((float(encoder.size_px),), encoder.size_px, "area")
    with mock.patch.object(encoder, "area_tiles", return_value=tuple(tiles)):
        reader = AreaReader(slide, encoder, plan, 1.0)
        parts = [own for _, own, _ in reader.batches(np.stack([x, y], axis=1))]
    return np.concatenate(parts)[:, 0].astype(np.float64)


if __name__ == "__main__":
    raise SystemExit(main())
