"""Owns the plain tissue mask of a thumbnail, from saturation alone; pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BLUR_PX = 2.0
# Saturation of nearly black pixels is noise: it is taken against at least this brightness.
_DARKEST = 20.0
_CLIP = 0.99


def find_tissue(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels whose saturation, (max - min) / max after a blur, exceeds Otsu's threshold.

    Stained tissue is coloured, glass is not. The top 1 % is clipped, so that a few pen strokes do not
    decide the threshold.

    Args:
        rgb: (h, w, 3) thumbnail of a slide, a few hundred pixels wide.

    Returns:
        (h, w) True on tissue; all False for an image of one colour.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(rgb.astype(np.float32), (_BLUR_PX, _BLUR_PX, 0))
    brightest = smooth.max(axis=2)
    saturation = (brightest - smooth.min(axis=2)) / np.maximum(brightest, _DARKEST)
    clipped = np.minimum(saturation, np.quantile(saturation, _CLIP))
    if np.ptp(clipped) < 1e-3:
        return np.zeros(clipped.shape, dtype=bool)
    mask: npt.NDArray[np.bool_] = clipped > _otsu(clipped)
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
