"""Patches: squares of tissue of physical sides around spots, as batches of uint8 RGB."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hespotex.config import Reading
from hespotex.errors import ConfigError, GeometryError, SlideError
from hespotex.slide import Slide

# Spots are visited block by block, so that neighbours share what the slide has decoded.
_BLOCK_PX0 = 2048
_PREFETCH = 2
# A side this close to a whole number of level-0 pixels is taken as that number: resampling 223.9 px
# to 224 would only blur.
_WHOLE_PIXEL = 5e-3

Batch = tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class PatchPlan:
    """What a patch shows and how large it is handed to the encoder.

    Attributes:
        sides_um: sides in microns, ascending; one patch each per spot.
        size_px: side in pixels after resampling: the encoder's input.
        reading: whether every patch is encoded by itself, or put together from cells of the slide.
    """

    sides_um: tuple[float, ...]
    size_px: int
    reading: Reading = "patches"

    def __post_init__(self) -> None:
        if not self.sides_um or any(s <= 0 for s in self.sides_um):
            raise ConfigError(expected="patch sides above 0 um", found=list(self.sides_um))
        if list(self.sides_um) != sorted(set(self.sides_um)):
            raise ConfigError(expected="ascending patch sides", found=list(self.sides_um))
        if self.size_px < 1:
            raise ConfigError(expected="patches of at least 1 px", found=self.size_px)

    def sides_px0(self, mpp: float) -> tuple[float, ...]:
        """Sides in level-0 pixels, snapped to whole pixels where that changes them by < 0.5 %."""
        if not mpp > 0:
            raise GeometryError(expected="microns per pixel above 0", found=mpp)
        sides = []
        for side_um in self.sides_um:
            side = side_um / mpp
            whole = round(side)
            sides.append(float(whole) if abs(whole - side) <= _WHOLE_PIXEL * side else side)
        return tuple(sides)

    def effective_mpp(self, mpp: float) -> tuple[float, ...]:
        """Microns per pixel of the patches that the encoder sees, per side."""
        return tuple(side * mpp / self.size_px for side in self.sides_px0(mpp))


def reading_order(xy_px0: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Order in which to visit spots: blocks row by row, inside a block row by row.

    Args:
        xy_px0: (n, 2) level-0 pixels.
    """
    block = np.floor(xy_px0 / _BLOCK_PX0)
    return np.lexsort((xy_px0[:, 0], xy_px0[:, 1], block[:, 0], block[:, 1]))


def crop_patches(
    slide: Slide,
    xy_px0: npt.NDArray[np.float64],
    mpp: float,
    plan: PatchPlan,
    batch_size: int = 32,
    *,
    on_bad: Callable[[int, SlideError], None] | None = None,
) -> Generator[Batch, None, None]:
    """Cut the patches of spots out of a slide, decoding ahead of whoever consumes them.

    Each side is resampled from the coarsest level that is not coarser than the patch. All sides and
    neighbouring spots share the decoded pixels, so that every part of a level is decoded once.

    Args:
        xy_px0: (n, 2) x, y of the centres in level-0 pixels; may lie at or beyond the border, what
            is outside the slide is white.
        mpp: microns per level-0 pixel.
        on_bad: hears of every spot (its index) whose pixels cannot be read, on the thread that reads;
            its patches are white. None: the first one ends the reading.

    Yields:
        indices into the spots, (b,), and their patches, (b, S, size, size, 3) uint8 RGB. Every spot
        comes once; the order is `reading_order`. A thread reads until the generator ends or is closed: hold it
        in `contextlib.closing`, so that an error of whoever consumes the batches ends the thread, too.

    Raises:
        SlideError: a region cannot be read; raised where the batch would have come.
    """
    order = reading_order(xy_px0)
    sides = plan.sides_px0(mpp)
    parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    waiting: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=_PREFETCH)
    stopped = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def decode() -> None:
        try:
            for part in parts:
                if not put((part, _crop_batch(slide, xy_px0, part, sides, plan.size_px, on_bad))):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            put(error)

    reader = threading.Thread(target=decode, name="hespotex-patches", daemon=True)
    reader.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        reader.join()


def _crop_batch(
    slide: Slide,
    xy_px0: npt.NDArray[np.float64],
    part: npt.NDArray[np.intp],
    sides: tuple[float, ...],
    size: int,
    on_bad: Callable[[int, SlideError], None] | None,
) -> npt.NDArray[np.uint8]:
    out = np.empty((len(part), len(sides), size, size, 3), np.uint8)
    for b, spot in enumerate(part):
        try:
            _crop_spot(slide, xy_px0[spot], sides, size, out[b])
        except SlideError as error:
            if on_bad is None:
                raise
            out[b] = 255
            on_bad(int(spot), error)
    return out


def _crop_spot(
    slide: Slide,
    centre: npt.NDArray[np.float64],
    sides: tuple[float, ...],
    size: int,
    out: npt.NDArray[np.uint8],
) -> None:
    """Fill out (S, size, size, 3) with the patches around one centre."""
    for s, side in enumerate(sides):
        left, top = float(centre[0]) - side / 2, float(centre[1]) - side / 2
        if side.is_integer():  # a whole number of pixels: no blur by half a pixel
            left, top = float(np.floor(left + 0.5)), float(np.floor(top + 0.5))
        out[s] = slide.read_region(left, top, side, side, size, size)
