"""Segmenters by name: which there are, what each needs, and a slide seen through one of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from hespotex.config import NucleiSource
from hespotex.encoders.hub import asking_the_hub, cached_repositories
from hespotex.errors import HESpotExError, NucleiError, SlideError
from hespotex.features.patches import reading_order
from hespotex.nuclei.classical import ClassicalSegmenter, Rgb
from hespotex.slide import Slide
from hespotex.storage.content_keys import content_key

# Segmenters see the slide at this scale: what InstanSeg was trained at.
SEGMENTED_MPP: Final = 0.5
# Beyond this a nucleus of 6 um has 6 pixels, and neighbours are one.
COARSEST_MPP: Final = 1.0
_SAMPLE_SPOTS = 64
_SAMPLE_UM = 100.0
# A window without a pixel darker than this is glass: networks would find nuclei in its noise.
_GLASS = 200
_BLOCK_PX = 128
_CELLPOSE: Final = "4.2.0"
_EXTRA: Final = "pip install 'hespotex[lazyslide]'"
# Where the weights come from.
_REPOSITORY: Final = {
    "instanseg": "RendeiroLab/LazySlide-models",
    "cellpose": "mouseland/cellpose-sam",
}


class Segmenter(Protocol):
    """What finds nuclei in a picture."""

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

    name: NucleiSource
    ready: bool
    missing: str = ""


def list_segmenters() -> tuple[SegmenterInfo, ...]:
    """Every segmenter; looks at files alone: no torch, no network."""
    found = [SegmenterInfo("classical", True)]
    here = {name.lower() for name in cached_repositories()}
    for name, repository in _REPOSITORY.items():
        lacks = _missing_library(name)
        if lacks is None and repository.lower() not in here:
            lacks = f"its weights ({repository}) are not on this machine; they are downloaded when first used"
        found.append(SegmenterInfo(name, lacks is None, lacks or ""))  # type: ignore[arg-type]
    return tuple(found)


def _missing_library(name: str) -> str | None:
    for library, cure in (
        ("lazyslide-models", _EXTRA),
        *((("cellpose", f"pip install 'cellpose>={_CELLPOSE}'"),) if name == "cellpose" else ()),
    ):
        try:
            metadata.version(library)
        except metadata.PackageNotFoundError:
            return f"{library} is not installed; {cure}"
    return None


class NetworkSegmenter:
    """A segmentation network of lazyslide-models.

    Args:
        name: `instanseg` or `cellpose`.
        device: torch device.

    Raises:
        NucleiError: a library is not installed, or the weights are not here and cannot be had.
    """

    def __init__(self, name: NucleiSource, device: str) -> None:
        lacks = _missing_library(name)
        if lacks is not None:
            raise _refusal(name, lacks)
        self.name, self._device = name, device
        with asking_the_hub(name, refuse=_refusal), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries' own imports
            from lazyslide_models.segmentation import Cellpose, Instanseg

            self._model: Any = (Cellpose if name == "cellpose" else Instanseg)()
            self._model.to(device)
        self._transform = self._model.get_transform()

    def segment(self, rgb: Rgb, mpp: float) -> npt.NDArray[Any]:
        """See `Segmenter`; pictures of 0.5 um per pixel."""
        del mpp
        if rgb.min() > _GLASS:
            return np.zeros(rgb.shape[:2], np.int32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self._transform is None:
                found = self._model.segment([rgb]).instance_map
            else:
                picture = self._transform(rgb)[None].to(self._device)
                found = self._model.segment(picture).instance_map
        return np.asarray((found.cpu() if hasattr(found, "cpu") else found)[0], dtype=np.int32)

    def key(self) -> str:
        """Key of the weights."""
        from hespotex.encoders.engine import weights_key

        network = getattr(self._model.model, "net", self._model.model)
        return content_key(self.name, weights_key(network), metadata.version("lazyslide-models"))


def _refusal(name: str, reason: str) -> HESpotExError:
    return NucleiError(f"nuclei by {name}: {reason}", remedy="`classical` needs no weights")


class SlideLabels:
    """A slide as its segmenter sees it.

    Args:
        slide: open slide.
        mpp: microns per level-0 pixel.
        segmenter: what finds the nuclei.
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
    source: NucleiSource,
    slide: Slide,
    xy_px0: npt.NDArray[np.float64],
    mpp: float,
    device: str,
) -> Segmenter:
    """A segmenter ready for one slide; the classical one measures the slide's glass and threshold first.

    Args:
        source: its name.
        slide: open slide.
        xy_px0: (n, 2) spots, of which a sample is looked at.
        mpp: microns per level-0 pixel.
        device: torch device of networks.

    Raises:
        NucleiError: it cannot be had here, or the slide is too coarse.
        SlideError: no part of the sample can be read.
    """
    refuse_coarse(mpp)
    if source == "classical":
        return ClassicalSegmenter.calibrated(_sample(slide, xy_px0, mpp), SEGMENTED_MPP)
    return NetworkSegmenter(source, device)


def _sample(slide: Slide, xy_px0: npt.NDArray[np.float64], mpp: float) -> list[Rgb]:
    """Surroundings of spots drawn evenly in reading order; what cannot be read is left out."""
    order = xy_px0[reading_order(xy_px0)]
    chosen = order[
        np.unique(np.linspace(0, len(order) - 1, _SAMPLE_SPOTS).astype(int)) if len(order) else []
    ]
    side, size = _SAMPLE_UM / mpp, round(_SAMPLE_UM / SEGMENTED_MPP)
    pictures, last = [], None
    for x, y in chosen.tolist():
        try:
            pictures.append(slide.read_region(x - side / 2, y - side / 2, side, side, size, size))
        except SlideError as error:
            last = error
    if not pictures and last is not None:
        raise last
    return pictures
