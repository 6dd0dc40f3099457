"""What the border of a tile does to features that are read by area, and what a tile costs: the tables of docs/design/area.md.

python -m benchmarks.area_halo IMAGE [--halos 4 6 8 9 10 11]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.measure import peak_memory_gb
from hespotex.config import PatchConfig
from hespotex.encoders import Encoder, get_encoder
from hespotex.encoders.base import CELL_PX, CellReader, Tile
from hespotex.features.area import TILE
from hespotex.features.encode import patch_plan
from hespotex.slide import open_slide

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

# Four tiles meet in the middle of the area; the widest halo sees all that the network sees.
_TILE_CELLS, _FIRST, _EXACT = 16, 32, 14
_AREA_CELLS = 2 * (_FIRST + _TILE_CELLS)
_PATCH_CELLS = 7
_TIMES = 5


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--corner", type=int, nargs=2, default=(2000, 2000), help="of the area, level-0 px"
    )
    parser.add_argument("--halos", type=int, nargs="*", default=(4, 6, 8, 9, 10, 11))
    options = parser.parse_args()
    side = _AREA_CELLS * CELL_PX
    with open_slide(options.image, mpp=1.0) as slide:
        picture = slide.read_region(*options.corner, side, side, side, side)
    encoder = get_encoder("efficientnet-lite0", threads=1)
    _print_cost(encoder, picture)
    if options.halos:
        _print_halos(encoder, picture, options.halos)
    return 0


def _print_cost(encoder: Encoder, picture: Picture) -> None:
    """Core-seconds of one thread, the least of five, and what they come to per mm2 of the usual patches."""
    n = encoder.size_px
    patches = np.stack([picture[k * n : (k + 1) * n, :n] for k in range(8)])
    tile = picture[None, : TILE.side_px, : TILE.side_px]
    moments = encoder.by_area(TILE).moments
    of_patch = min(_core_s(lambda: encoder.encode(patches)) for _ in range(_TIMES)) / len(patches)
    of_tile = min(_core_s(lambda: moments(tile)) for _ in range(_TIMES))
    sides_mm = [side / 1000 for side in patch_plan(encoder, PatchConfig()).sides_um]
    per_mm2 = sum(of_tile / (TILE.cells * side / _PATCH_CELLS) ** 2 for side in sides_mm)
    spots = per_mm2 / (len(sides_mm) * of_patch)
    print(f"a patch {of_patch * 1e3:.1f} ms, a tile {of_tile:.2f} s, one thread")
    print(f"by area {per_mm2:.1f} core-s per mm2, as {spots:.0f} spots per mm2 by patches")
    print(f"at 16 um by patches {(len(sides_mm) * of_patch) * 1e6 / 256:.0f} core-s per mm2")
    print(f"peak memory of the process {peak_memory_gb():.1f} GB")


def _core_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _print_halos(encoder: Encoder, picture: Picture, halos: list[int]) -> None:
    """How far features of patches across seams are from those without seams, in deviations over the area."""
    exact = _features(picture, encoder.by_area(Tile(_TILE_CELLS, _EXACT)), _EXACT)
    deviation = exact.std(axis=0)
    print("halo  rms of all  worst patch  median feature  95 % of features  worst feature")
    for halo in halos:
        reader = encoder.by_area(Tile(_TILE_CELLS, halo))
        off = (_features(picture, reader, halo) - exact) / deviation
        by_feature, by_patch = (np.sqrt(np.mean(np.square(off), axis=axis)) for axis in (0, 1))
        of_features = np.quantile(by_feature, (0.5, 0.95, 1.0))
        found = (np.sqrt(np.mean(np.square(off))), by_patch.max(), *of_features)
        print(f"{halo:4}  " + "  ".join(f"{value:.2%}" for value in found), flush=True)


def _features(picture: Picture, reader: CellReader, halo: int) -> Floats:
    """(n, D) of every patch that starts on a cell of the four tiles."""
    width = _TILE_CELLS + 2 * halo
    starts = [_FIRST - halo, _FIRST + _TILE_CELLS - halo]
    rows = []
    for y in starts:
        tiles = [
            picture[y * CELL_PX : (y + width) * CELL_PX, x * CELL_PX : (x + width) * CELL_PX]
            for x in starts
        ]
        rows.append(np.concatenate([reader.moments(tile[None])[0] for tile in tiles], axis=1))
    cells = np.concatenate(rows).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(
        cells, (_PATCH_CELLS, _PATCH_CELLS), axis=(0, 1)
    )
    return reader.features(windows.mean(axis=(3, 4)).reshape(-1, cells.shape[2])).astype(np.float64)


if __name__ == "__main__":
    raise SystemExit(main())
