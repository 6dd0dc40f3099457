"""A section's picture as it is registered: where tissue is, and its haematoxylin in ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import GeometryError
from hespotex.geometry import Affine, Map, pixels_of
from hespotex.slide.tissue import tissue_mask

if TYPE_CHECKING:
    from hespotex.export.h5ad import Thumbnail

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Tissue of fewer pixels has no shape to go by.
LEAST_TISSUE_PX: Final = 60


@dataclass(frozen=True)
class Picture:
    """A section as it is registered.

    Attributes:
        grey: (h, w) haematoxylin, ranked within tissue to 0..1; 0 on glass.
        tissue: (h, w).
        um_per_px: of both axes.
    """

    grey: Image
    tissue: Mask
    um_per_px: float


def picture_of(thumbnail: Thumbnail, mpp: float) -> Picture:
    """Tissue and ranked haematoxylin of a section's picture.

    Raises:
        GeometryError: there is too little tissue to go by.
    """
    from skimage.color import rgb2hed

    um = thumbnail.px0_per_px * mpp
    rgb = thumbnail.image[..., :3]
    tissue, _ = tissue_mask(rgb, um)
    if tissue.sum() < LEAST_TISSUE_PX:
        raise GeometryError(
            expected="tissue to register by",
            found=f"{int(tissue.sum())} pixels of it",
            remedy="give --transform or --landmarks",
        )
    stain = rgb2hed(rgb)[..., 0].astype(np.float32)
    return Picture(_ranked(stain, tissue), tissue, um)


def _ranked(values: Image, within: Mask) -> Image:
    from scipy.stats import rankdata

    grey = np.zeros(values.shape, np.float32)
    grey[within] = rankdata(values[within]) / max(int(within.sum()), 1)
    return grey


def scaled(picture: Picture, um_per_px: float) -> Picture:
    """The picture at a coarser pixel size, ranked anew."""
    import cv2

    factor = picture.um_per_px / um_per_px
    size = tuple(max(2, round(n * factor)) for n in picture.grey.shape[::-1])
    share = cv2.resize(picture.tissue.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    grey = cv2.resize(picture.grey, size, interpolation=cv2.INTER_AREA)
    grey = np.divide(grey, share, out=np.zeros_like(grey), where=share > 0)
    tissue = share > 0.5
    if tissue.sum() < LEAST_TISSUE_PX:
        tissue = share > 0
    return Picture(_ranked(grey, tissue), tissue, um_per_px)


def middle(picture: Picture) -> npt.NDArray[np.float64]:
    """(2,) mean place of the tissue in microns."""
    rows, columns = np.nonzero(picture.tissue)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) * picture.um_per_px


def warped(image: npt.NDArray[Any], of: Picture, onto: Picture, to_fixed: Map) -> Image:
    """(h, w) an image of one section in the pixels of the other, in which 0 is outside."""
    import cv2

    size, values = onto.grey.shape[::-1], np.asarray(image, np.float32)
    if isinstance(to_fixed, Affine):
        in_px = to_fixed.in_pixels(of.um_per_px, onto.um_per_px)
        return np.asarray(cv2.warpAffine(values, np.array(in_px.rows), size), np.float32)
    columns, rows = pixels_of(to_fixed, of.um_per_px, onto.um_per_px, (size[0], size[1]))
    return np.asarray(cv2.remap(values, columns, rows, cv2.INTER_LINEAR), np.float32)
