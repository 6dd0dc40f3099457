"""Owns the plain tissue mask of a thumbnail, from optical density alone; pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BLUR_PX = 2.0
# Darker than this in all channels is no stain but a frame, a shadow or ink.
_BLACK = 40.0
_BRIGHTEST_SHARE = 0.1
_CLIP = 0.99
_LEAST_CONTRAST = 0.02


def find_tissue(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels whose optical density against the glass exceeds Otsu's threshold.

    The glass is the median colour of the brightest tenth, so a tinted background does no harm; density
    is summed over the channels, so a grey image works too. Otsu's method looks at its square root, which
    keeps pale tissue (fat, stroma) on the tissue's side.

    Args:
        rgb: (h, w, 3) thumbnail of a slide, a few hundred pixels wide.

    Returns:
        (h, w) True on tissue; all False for an image of one colour.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(rgb.astype(np.float32), (_BLUR_PX, _BLUR_PX, 0))
    lit = smooth.max(axis=2) > _BLACK
    nothing = np.zeros(lit.shape, dtype=bool)
    if not lit.any():
        return nothing
    brightness = smooth.mean(axis=2)
    bright = lit & (brightness >= np.quantile(brightness[lit], 1 - _BRIGHTEST_SHARE))
    glass = np.median(smooth[bright], axis=0)
    density = np.maximum(-np.log(np.maximum(smooth, 1) / glass), 0).sum(axis=2)
    contrast = np.sqrt(np.minimum(density, np.quantile(density[lit], _CLIP)))
    if np.ptp(contrast[lit]) < _LEAST_CONTRAST:
        return nothing
    mask: npt.NDArray[np.bool_] = lit & (contrast > _otsu(contrast[lit]))
    return mask


def _otsu(values: npt.NDArray[np.floating]) -> float:
    """The threshold of largest variance between the two classes (Otsu 1979)."""
    histogram, edges = np.histogram(values, bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    weight = np.cumsum(histogram).astype(np.float64)[:-1]
    moment = np.cumsum(histogram * centres)
    total, sum_all = float(histogram.sum()), float(moment[-1])
    between = (sum_all * weight / total - moment[:-1]) ** 2 / (weight * (total - weight))
    return float(edges[1:-1][int(np.argmax(between))])
