"""Segmentation networks of lazyslide-models."""

from __future__ import annotations

import warnings
from functools import partial
from importlib import metadata
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.encoders.hub import asking_the_hub, cached_repositories
from hespotex.errors import HESpotExError, NucleiError
from hespotex.nuclei.segmenters import Rgb, SegmenterSource
from hespotex.storage.content_keys import content_key

# A window without a pixel darker than this is glass: networks would find nuclei in its noise.
_GLASS = 200
_CELLPOSE: Final = "4.2.0"
_EXTRA: Final = "pip install 'hespotex[lazyslide]'"
# Where the weights come from.
_REPOSITORY: Final = {
    "instanseg": "RendeiroLab/LazySlide-models",
    "cellpose": "mouseland/cellpose-sam",
}


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

    Raises:
        NucleiError: a library is not installed, or the weights are not here and cannot be had.
    """

    def __init__(self, name: str, device: str) -> None:
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


def _missing(name: str) -> str:
    lacks = _missing_library(name)
    here = {repository.lower() for repository in cached_repositories()}
    if lacks is None and _REPOSITORY[name].lower() not in here:
        return f"its weights ({_REPOSITORY[name]}) are not on this machine; they are downloaded when first used"
    return lacks or ""


def _source(name: str) -> SegmenterSource:
    return SegmenterSource(
        lambda _slide, _xy, _mpp, device: NetworkSegmenter(name, device), partial(_missing, name)
    )


INSTANSEG = _source("instanseg")
CELLPOSE = _source("cellpose")
