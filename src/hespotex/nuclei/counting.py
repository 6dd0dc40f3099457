"""The counting of nuclei under spots, tile by tile; memory grows with the spots alone.

A tile is read with a margin. A nucleus belongs to the tile that holds its centre, so one that lies
across a border is counted once, and the margin lets every tile see its nuclei whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hespotex.errors import NucleiError
from hespotex.nuclei.labels import Labels, LabelSource
from hespotex.progress import Advance
from hespotex.storage.atomic import atomic_path
from hespotex.storage.content_keys import content_key

# Side of a tile and its margin: the margin holds the halves of the widest nuclei, and all that a
# segmenter looks at around them.
TILE_UM: Final = 512.0
MARGIN_UM: Final = 48.0
_SAVED_TILES = 16
_RECIPE = 1


@dataclass(frozen=True)
class NucleiCounts:
    """Nuclei in the square around each spot.

    Attributes:
        nuclei: (n,) nuclei whose centre lies in the square.
        label_values: (n,) distinct values of the label image under the square, cut at the slide's
            border; the background counts as one.
        area_um2: (n,) area of the square inside the slide.
    """

    nuclei: npt.NDArray[np.int64]
    label_values: npt.NDArray[np.int64]
    area_um2: npt.NDArray[np.float64]

    @property
    def per_mm2(self) -> npt.NDArray[np.float64]:
        """(n,) nuclei per square millimetre; NaN for a square outside the slide."""
        with np.errstate(divide="ignore", invalid="ignore"):
            density: npt.NDArray[np.float64] = self.nuclei / (self.area_um2 * 1e-6)
        return np.where(self.area_um2 > 0, density, np.nan)


class _Tile(NamedTuple):
    """A tile of the label image: x, y of its first pixel and its size, without the margin."""

    x: int
    y: int
    width: int
    height: int


@dataclass
class _Tally:
    """What is counted so far."""

    nuclei: npt.NDArray[np.int64]
    touching: npt.NDArray[np.int64]
    background: npt.NDArray[np.bool_]
    next_tile: int = 0


def count_nuclei(
    labels: LabelSource,
    xy_px0: npt.NDArray[np.float64],
    side_um: float,
    mpp: float,
    size_px0: tuple[int, int],
    *,
    kept: Path | None = None,
    key: str = "",
    advance: Advance | None = None,
) -> NucleiCounts:
    """Count the nuclei in the square around each spot.

    Args:
        xy_px0: (n, 2) centres in level-0 pixels.
        side_um: side of the square in microns.
        mpp: microns per level-0 pixel.
        size_px0: width and height of the slide.
        kept: file that lets an interrupted count go on, and a finished one be read again.
        key: of everything that the counts depend on; what `kept` holds under another is made anew.
        advance: hears of every so many spots; their sum is n.

    Raises:
        SlideError: the slide is damaged.
        NucleiError: the mask is damaged, or holds objects that are no nuclei.
    """
    squares = _squares(xy_px0, side_um / mpp, size_px0)
    tiles = list(_tiles(squares / labels.step_px0, labels.step_px0 * mpp, size_px0, labels))
    tally = _resumed(kept, key, len(xy_px0))
    tell = _in_spots(advance, len(xy_px0), len(tiles))
    tell(tally.next_tile)
    margin = _pixels(MARGIN_UM, labels.step_px0 * mpp)
    for number in range(tally.next_tile, len(tiles)):
        _count_tile(labels, tiles[number], margin, squares / labels.step_px0, tally)
        tally.next_tile = number + 1
        if kept is not None and (tally.next_tile % _SAVED_TILES == 0 or number + 1 == len(tiles)):
            _save(kept, key, tally)
        tell(number + 1)
    inside = np.maximum(squares[:, 2:] - squares[:, :2], 0)
    return NucleiCounts(
        tally.nuclei, tally.touching + tally.background, inside.prod(axis=1) * mpp**2
    )


def _squares(
    xy_px0: npt.NDArray[np.float64], side_px0: float, size_px0: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """(n, 4) left, top, right, bottom of the squares in level-0 pixels, cut at the slide's border."""
    corners = np.concatenate([xy_px0 - side_px0 / 2, xy_px0 + side_px0 / 2], axis=1)
    return np.asarray(np.clip(corners, 0, [*size_px0, *size_px0]))


def _pixels(um: float, um_per_pixel: float) -> int:
    return max(1, round(um / um_per_pixel))


def _tiles(
    squares: npt.NDArray[np.float64],
    um_per_pixel: float,
    size_px0: tuple[int, int],
    labels: LabelSource,
) -> Iterator[_Tile]:
    """Tiles of a fixed grid, row by row, that hold a spot's square or may hold a nucleus that touches one."""
    side, reach = _pixels(TILE_UM, um_per_pixel), _pixels(MARGIN_UM, um_per_pixel)
    columns, rows = (int(np.ceil(s / labels.step_px0 / side)) for s in size_px0)
    wanted = np.zeros((rows, columns), dtype=bool)
    filled = (squares[:, 2:] > squares[:, :2]).all(axis=1)
    low = np.maximum(np.floor((squares[:, :2] - reach) / side), 0).astype(int)
    high = np.ceil((squares[:, 2:] + reach) / side).astype(int)
    for (left, top), (right, bottom) in zip(
        low[filled].tolist(), high[filled].tolist(), strict=True
    ):
        wanted[top:bottom, left:right] = True
    for row, column in np.argwhere(wanted).tolist():
        yield _Tile(column * side, row * side, side, side)


def _count_tile(
    labels: LabelSource, tile: _Tile, margin: int, squares: npt.NDArray[np.float64], tally: _Tally
) -> None:
    """Add what one tile holds to the tally.

    Args:
        margin: pixels around the tile.
        squares: (n, 4) in pixels of the label image.
    """
    x, y = tile.x - margin, tile.y - margin
    window = labels.read(x, y, tile.width + 2 * margin, tile.height + 2 * margin)
    numbers, found = _numbered(window)
    centres, size = _centres(numbers, found)
    centres = centres + np.array([x, y])
    low = np.array([tile.x, tile.y])
    high = low + np.array([tile.width, tile.height])
    owned = np.all((centres >= low) & (centres < high), axis=1)
    if labels.given:
        _refuse_wide(numbers, owned & (size > margin**2), owned, (x, y), labels.step_px0)
    height, width = numbers.shape
    near = (squares[:, :2] < (x + width, y + height)).all(axis=1) & (squares[:, 2:] > (x, y)).all(
        axis=1
    )
    mine = centres[owned]
    for spot in np.flatnonzero(near).tolist():
        left, top, right, bottom = squares[spot].tolist()
        inside = (mine >= (left, top)) & (mine < (right, bottom))
        tally.nuclei[spot] += int(inside.all(axis=1).sum())
        # Pixels whose centre lies in the square.
        c0, r0, c1, r1 = (int(np.ceil(v - 0.5)) for v in (left, top, right, bottom))
        part = numbers[max(r0 - y, 0) : r1 - y, max(c0 - x, 0) : c1 - x]
        touched = np.unique(part)
        tally.touching[spot] += int(owned[touched[touched > 0] - 1].sum())
        if not tally.background[spot]:
            core = numbers[
                max(r0, tile.y) - y : min(r1, tile.y + tile.height) - y,
                max(c0, tile.x) - x : min(c1, tile.x + tile.width) - x,
            ]
            tally.background[spot] = bool((core == 0).any())


def _numbered(window: Labels) -> tuple[npt.NDArray[np.int32], int]:
    """The window with its values replaced by 1 .. k, and k."""
    values = np.unique(window)
    values = values[values != 0]
    if len(values) and (values[0] != 1 or values[-1] != len(values)):
        numbers = np.searchsorted(values, window).astype(np.int32) + 1
        numbers[window == 0] = 0
        return numbers, len(values)
    return window.astype(np.int32), len(values)


def _centres(
    numbers: npt.NDArray[np.int32], found: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(k, 2) x, y of the mean of each nucleus's pixels, from the window's corner; (k,) their number."""
    rows, columns = np.nonzero(numbers)
    place = numbers[rows, columns]
    size = np.maximum(np.bincount(place, minlength=found + 1)[1:], 1)
    mean = [
        np.bincount(place, weights=at, minlength=found + 1)[1:] / size for at in (columns, rows)
    ]
    # Rounded, so that two tiles that see the same nucleus agree on whose it is.
    return np.round(np.stack(mean, axis=1) + 0.5, 3), size


def _refuse_wide(
    numbers: npt.NDArray[np.int32],
    large: npt.NDArray[np.bool_],
    owned: npt.NDArray[np.bool_],
    corner: tuple[int, int],
    step_px0: float,
) -> None:
    """An object as large as the margin squared, or from inside the tile to the window's border, is no nucleus."""
    border = np.unique(np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]]))
    reaching = np.zeros_like(owned)
    reaching[border[border > 0] - 1] = True
    wide = np.flatnonzero(large | (owned & reaching))
    if len(wide):
        row, column = np.argwhere(numbers == wide[0] + 1)[0].tolist()
        at = ((corner[0] + column) * step_px0, (corner[1] + row) * step_px0)
        raise NucleiError(
            expected="nuclei",
            found=(
                f"an object wider than {MARGIN_UM:g} um at x {at[0]:.0f}, y {at[1]:.0f} (level-0 pixels): "
                "give a mask with one value a nucleus, not one of tissue or of regions"
            ),
        )


def _in_spots(advance: Advance | None, n_spots: int, n_tiles: int) -> Advance:
    """Progress in tiles told as progress in spots."""
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        reached = n_spots if done >= n_tiles else n_spots * done // n_tiles
        if advance is not None and reached > told:
            advance(reached - told)
        told = reached

    return tell


def _resumed(kept: Path | None, key: str, n_spots: int) -> _Tally:
    """What an earlier run counted; nothing where there is none, or it is damaged or another count."""
    from safetensors import SafetensorError, safe_open

    fresh = _Tally(
        np.zeros(n_spots, np.int64), np.zeros(n_spots, np.int64), np.zeros(n_spots, bool)
    )
    if kept is None:
        return fresh
    try:
        with safe_open(kept, framework="numpy") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["header"])
            arrays = [file.get_tensor(name) for name in ("nuclei", "touching", "background")]
    except (OSError, SafetensorError, KeyError, ValueError):
        return fresh
    checksum = content_key(*arrays, header.get("next_tile"))
    known = (header.get("key"), header.get("recipe"), header.get("checksum"))
    if known != (key, _RECIPE, checksum) or any(a.shape != (n_spots,) for a in arrays):
        return fresh
    return _Tally(arrays[0], arrays[1], arrays[2].astype(bool), int(header["next_tile"]))


def _save(kept: Path, key: str, tally: _Tally) -> None:
    from safetensors.numpy import save_file

    arrays = {
        "nuclei": tally.nuclei,
        "touching": tally.touching,
        "background": tally.background.astype(np.uint8),
    }
    checksum = content_key(*arrays.values(), tally.next_tile)
    header = {"key": key, "recipe": _RECIPE, "checksum": checksum, "next_tile": tally.next_tile}
    with atomic_path(kept) as temporary:
        save_file(arrays, temporary, metadata={"header": json.dumps(header)})
