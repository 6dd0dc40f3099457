"""Two sections in one frame: a checkerboard of their pictures, and the outlines of their tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.export.h5ad import Thumbnail
from hespotex.geometry import Affine, Map, pixels_of
from hespotex.plots.style import (
    ACCENT,
    bare_axes,
    caption,
    heading,
    new_figure,
    place,
    scale_bar,
    statement,
)
from hespotex.slide.tissue import tissue_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE_PX: Final = 800
_FIELDS: Final = 8
_OTHER: Final = "#d9820f"


def plot_pair(
    names: tuple[str, str],
    pictures: tuple[Thumbnail, Thumbnail],
    mpps: tuple[float, float],
    to_first: Map,
    said: tuple[str, str],
) -> Figure:
    """Checkerboard on the left, both outlines on the first section on the right.

    Args:
        names: of the sections.
        pictures, mpps: of each, in this order.
        to_first: from microns of the second section to microns of the first.
        said: numbers of the fit, and a warning; either may be empty.
    """
    import cv2

    first, second = pictures
    height, width = first.image.shape[:2]
    factor = min(1.0, _SIDE_PX / max(height, width))
    um = first.px0_per_px * mpps[0] / factor
    size = (round(width * factor), round(height * factor))
    own = cv2.resize(first.image[..., :3], size, interpolation=cv2.INTER_AREA)
    other = _laid(second.image[..., :3], second.px0_per_px * mpps[1], um, to_first, size)
    rows, columns = np.indices(own.shape[:2]) // max(1, max(size) // _FIELDS)
    board = np.where(((rows + columns) % 2 == 0)[..., None], own, other)
    figure = new_figure(11.0, 6.9)
    heading(figure, f"{names[1]} laid on {names[0]}", said[0])
    if said[1]:
        statement(figure, said[1], alarm=True, y=0.98)
    left, right = (place(figure, x, 1.2, 5.2, 5.2) for x in (0.2, 5.6))
    left.imshow(board)
    right.imshow(own)
    for image, um_per_px, colour in ((own, um, ACCENT), (other, um, _OTHER)):
        mask, _ = tissue_mask(image, um_per_px)
        smooth = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3)
        right.contour(smooth, levels=[0.5], colors=colour, linewidths=1.6)
    for axes in (left, right):
        bare_axes(axes)
        scale_bar(axes, um)
    caption(figure, 0.2, 6.65, f"fields of {names[0]} and {names[1]} in turn")
    caption(figure, 5.6, 6.65, f"tissue of {names[0]} (blue) and {names[1]} (orange)")
    return figure


def _laid(
    image: npt.NDArray[np.uint8], um_of: float, um: float, to_first: Map, size: tuple[int, int]
) -> npt.NDArray[Any]:
    """A picture in the pixels of the other; beyond its rim white."""
    import cv2

    white = (255, 255, 255)
    if isinstance(to_first, Affine):
        in_px = np.array(to_first.in_pixels(um_of, um).rows)
        laid = cv2.warpAffine(image, in_px, size, flags=cv2.INTER_AREA, borderValue=white)
    else:
        at = pixels_of(to_first, um_of, um, size)
        laid = cv2.remap(
            image, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=white
        )
    return np.asarray(laid)
