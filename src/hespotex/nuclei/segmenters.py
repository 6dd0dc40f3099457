"""Segmenters by name: which there are, what each needs, and a slide seen through one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from hespotex.config import NucleiSource
from hespotex.errors import NucleiError, SlideError
from hespotex.registry import Registry
from hespotex.slide import Slide

# Segmenters see the slide at this scale: what InstanSeg was trained at.
SEGMENTED_MPP: Final = 0.5
# Beyond this a nucleus of 6 um has 6 pixels, and neighbours are one.
COARSEST_MPP: Final = 1.0
_BLOCK_PX = 128

Rgb = npt.NDArray[np.uint8]


class Segmenter(Protocol):
    """The interface of a segmenter, which finds nuclei in a picture."""

    def segment(self, rgb: Rgb, mpp: float) -> npt.NDArray[Any]:
        """(h, w) labels of a picture (h, w, 3) of `mpp` microns per pixel; 0 is no nucleus."""

    def key(self) -> str:
        """Key of weights and settings."""


@dataclass(frozen=True)
class SegmenterInfo:
    """A segmenter, and whether it can be used here.

    Attributes:
        name: as for --nuclei.
        ready: whether libraries and weights are here.
        missing: what is not here, and how to get it; empty if ready.
    """

    name: str
    ready: bool
    missing: str = ""


@dataclass(frozen=True)
class SegmenterSource:
    """How a segmenter comes to be.

    Attributes:
        build: one for a slide, its spots (n, 2) in level-0 pixels, its mpp and a torch device.
        missing: what is not on this machine, and how to get it; empty where nothing is. Looks at files alone.
    """

    build: Callable[[Slide, npt.NDArray[np.float64], float, str], Segmenter]
    missing: Callable[[], str]


# The names are those of `config.NucleiSource`, but for masks.
SEGMENTERS: Final = Registry(
    "segmenter",
    SegmenterSource,
    {
        "classical": "hespotex.nuclei.classical:SOURCE",
        "instanseg": "hespotex.nuclei.networks:INSTANSEG",
        "cellpose": "hespotex.nuclei.networks:CELLPOSE",
    },
)


def list_segmenters() -> tuple[SegmenterInfo, ...]:
    """Every segmenter; looks at files alone: no torch, no network."""
    lacks = {name: source.missing() for name, source in SEGMENTERS.all().items()}
    return tuple(SegmenterInfo(name, not missing, missing) for name, missing in lacks.items())


class SlideLabels:
    """A slide as its segmenter sees it.

    Args:
        mpp: microns per level-0 pixel.
        holes: parts that cannot be read are taken as glass; otherwise they are an error.

    Raises:
        NucleiError: the slide is too coarse to see nuclei.
    """

    given = False

    def __init__(self, slide: Slide, mpp: float, segmenter: Segmenter, *, holes: bool) -> None:
        refuse_coarse(mpp)
        self.step_px0 = SEGMENTED_MPP / mpp
        self._slide, self._segmenter, self._holes = slide, segmenter, holes

    def read(self, x: int, y: int, width: int, height: int) -> npt.NDArray[Any]:
        """See `LabelSource`."""
        try:
            rgb = self._pixels(x, y, width, height)
        except SlideError:
            if not self._holes:
                raise
            rgb = self._around_holes(x, y, width, height)
        return self._segmenter.segment(rgb, SEGMENTED_MPP)

    def _pixels(self, x: int, y: int, width: int, height: int) -> Rgb:
        step = self.step_px0
        return self._slide.read_region(
            x * step, y * step, width * step, height * step, width, height
        )

    def _around_holes(self, x: int, y: int, width: int, height: int) -> Rgb:
        rgb = np.full((height, width, 3), 255, np.uint8)
        for row in range(0, height, _BLOCK_PX):
            for column in range(0, width, _BLOCK_PX):
                h, w = min(_BLOCK_PX, height - row), min(_BLOCK_PX, width - column)
                try:
                    block = self._pixels(x + column, y + row, w, h)
                except SlideError:
                    continue
                rgb[row : row + h, column : column + w] = block
        return rgb

    def key(self) -> str:
        """Key of the segmenter."""
        return self._segmenter.key()


def refuse_coarse(mpp: float, section: str | None = None) -> None:
    """Raise NucleiError, which names the section, where nuclei cannot be seen."""
    if mpp > COARSEST_MPP:
        raise NucleiError(
            expected=f"a slide of at most {COARSEST_MPP:g} um per pixel to find nuclei",
            found=f"{mpp:.3g}: a nucleus has {6 / mpp:.0f} pixels across",
            remedy="give a finer image, a mask (--nuclei mask:PATH), or train with nuclei off",
            section=section,
        )


def build_segmenter(
    source: NucleiSource, slide: Slide, xy_px0: npt.NDArray[np.float64], mpp: float, device: str
) -> Segmenter:
    """A segmenter ready for one slide; the classical one measures the slide's glass and threshold first.

    Args:
        xy_px0: (n, 2) spots, of which a sample is looked at.
        mpp: microns per level-0 pixel.

    Raises:
        NucleiError: it cannot be had here, or the slide is too coarse.
        SlideError: no part of the sample can be read.
    """
    refuse_coarse(mpp)
    return SEGMENTERS[source].build(slide, xy_px0, mpp, device)
