"""What the border of a tile does to features that are read by area: prints the table of docs/design/area.md.

python -m benchmarks.area_halo IMAGE [--halos 4 6 8 9 10 11]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hespotex.encoders import get_encoder
from hespotex.encoders.base import CELL_PX, CellReader, Tile
from hespotex.slide import open_slide

Floats = npt.NDArray[np.float64]

# Four tiles meet in the middle of the area; the widest halo sees all that the network sees.
_TILE_CELLS, _FIRST, _EXACT = 16, 32, 14
_AREA_CELLS = 2 * (_FIRST + _TILE_CELLS)
_PATCH_CELLS = 7


def main() -> int:
    """Print how far features of patches across the seams are from those without seams, in deviations over the area."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--corner", type=int, nargs=2, default=(2000, 2000), help="of the area, level-0 px"
    )
    parser.add_argument("--halos", type=int, nargs="+", default=(4, 6, 8, 9, 10, 11))
    options = parser.parse_args()
    encoder = get_encoder("efficientnet-lite0")
    side = _AREA_CELLS * CELL_PX
    with open_slide(options.image, mpp=1.0) as slide:
        picture = slide.read_region(*options.corner, side, side, side, side)
    exact = _features(picture, encoder.by_area(Tile(_TILE_CELLS, _EXACT)), _EXACT)
    deviation = exact.std(axis=0)
    print("halo  rms of all  worst patch  median feature  95 % of features  worst feature")
    for halo in options.halos:
        off = (
            _features(picture, encoder.by_area(Tile(_TILE_CELLS, halo)), halo) - exact
        ) / deviation
        by_feature, by_patch = (np.sqrt(np.mean(np.square(off), axis=axis)) for axis in (0, 1))
        of_features = np.quantile(by_feature, (0.5, 0.95, 1.0))
        found = (np.sqrt(np.mean(np.square(off))), by_patch.max(), *of_features)
        print(f"{halo:4}  " + "  ".join(f"{value:.2%}" for value in found), flush=True)
    return 0


def _features(picture: npt.NDArray[np.uint8], reader: CellReader, halo: int) -> Floats:
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
