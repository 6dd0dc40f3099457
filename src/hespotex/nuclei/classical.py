"""Segmenter without weights: colour deconvolution, threshold, watershed; lengths in microns.

What it takes from the slide as a whole (the glass and the threshold) is measured once, on a sample of
spots; all else looks at most 45 um around a pixel, so that tiles agree with the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.features.patches import reading_order
from hespotex.nuclei.segmenters import SEGMENTED_MPP, Rgb, SegmenterSource
from hespotex.slide import Slide
from hespotex.storage.content_keys import content_key

Float32 = npt.NDArray[np.float32]

# Tuned on the 16 images of benchmarks/cases/nuclei.py and by eye on H&E of 0.69 um per pixel.
_SMOOTH_UM = 0.5
_SURROUNDINGS_UM = 8.0
# The threshold follows the surroundings between these multiples of the slide's own.
_LEAST, _MOST = 0.6, 1.0
_OPEN_UM = 1.0
_HOLE_UM2 = 15.0
_CAP_UM = 4.0
_DISTANCE_WEIGHT = 1.0
_BLOB_UM = 2.5
_APART_UM = 3.0
_AREA_UM2 = (12.0, 500.0)
# Nuclei absorb red most; what absorbs blue as well is dust, pigment or ink.
_GREY = 0.9
_BRIGHT_SHARE = 0.1
# Optical density (base 10, haematoxylin) below which no threshold is believed: a slide without stain.
_LEAST_DENSITY = 0.03
_TINY = 1e-6
_RECIPE: Final = 1


# The slide as a whole is measured on the surroundings of so many spots.
_SAMPLE_SPOTS = 64
_SAMPLE_UM = 100.0


@dataclass(frozen=True)
class ClassicalSegmenter:
    """Nuclei by their haematoxylin.

    Attributes:
        glass: R, G, B of the slide without tissue.
        threshold: haematoxylin between nuclei and the rest.
    """

    glass: tuple[float, float, float]
    threshold: float

    name = "classical"

    @classmethod
    def calibrated(cls, pictures: Iterable[Rgb], mpp: float) -> ClassicalSegmenter:
        """Measure glass and threshold on a sample of the slide.

        Args:
            pictures: (h, w, 3) parts of the slide.
            mpp: microns per pixel of the pictures.
        """
        from skimage.filters import threshold_otsu

        parts = list(pictures)
        if not parts:
            return cls((255.0, 255.0, 255.0), 1.0)
        pixels = np.concatenate([p.reshape(-1, 3) for p in parts]).astype(np.float32)
        brightness = pixels.mean(axis=1)
        bright = pixels[brightness >= np.quantile(brightness, 1 - _BRIGHT_SHARE)]
        r, g, b = np.median(bright, axis=0).tolist()
        glass = (r, g, b)
        values = np.concatenate(
            [_blur(_haematoxylin(_density(p, glass)), _SMOOTH_UM / mpp).ravel() for p in parts]
        )
        otsu = threshold_otsu(values) if np.ptp(values) > _TINY else _LEAST_DENSITY
        return cls(glass, round(max(float(otsu), _LEAST_DENSITY), 6))

    def segment(self, rgb: Rgb, mpp: float) -> npt.NDArray[np.int32]:
        """(h, w) labels of a picture (h, w, 3) of `mpp` microns per pixel; 0 is no nucleus."""
        import cv2
        from skimage.feature import peak_local_max
        from skimage.segmentation import watershed

        density = _density(rgb, self.glass)
        stain = _blur(_haematoxylin(density), _SMOOTH_UM / mpp)
        mask = self._foreground(density, stain, mpp)
        if not mask.any():
            return np.zeros(mask.shape, np.int32)
        # Beyond a nucleus's half width the distance says nothing: there its darkness decides.
        inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        distance = np.minimum(inside * np.float32(mpp), np.float32(_CAP_UM))
        scale = _BLOB_UM / mpp
        blob = cv2.Laplacian(_blur(stain, scale), cv2.CV_32F) * np.float32(
            -(scale**2) / self.threshold
        )
        height = np.float32(_DISTANCE_WEIGHT) * _blur(distance, 1.0 / mpp) + blob
        peaks = peak_local_max(
            height, min_distance=max(1, round(_APART_UM / mpp)), labels=mask, exclude_border=False
        )
        seeds = np.zeros(mask.shape, np.int32)
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        labels = np.asarray(watershed(-height, seeds, mask=mask), np.int32)
        area = np.bincount(labels.ravel()) * mpp**2
        unfit = (area < _AREA_UM2[0]) | (area > _AREA_UM2[1])
        labels[unfit[labels]] = 0
        return labels

    def _foreground(self, density: Float32, stain: Float32, mpp: float) -> npt.NDArray[np.uint8]:
        """(h, w) 1 where a nucleus may be."""
        import cv2

        around = _blur(stain, _SURROUNDINGS_UM / mpp)
        mask = stain > np.clip(around, _LEAST * self.threshold, _MOST * self.threshold)
        grey = density[..., 2] - np.float32(_GREY) * density[..., 0]
        mask &= _blur(grey, _SMOOTH_UM / mpp) < 0
        width = 2 * max(1, round(_OPEN_UM / mpp)) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(1 - opened, connectivity=4)
        holes = stats[:, cv2.CC_STAT_AREA] < _HOLE_UM2 / mpp**2
        return np.asarray(opened | holes[parts].astype(np.uint8), np.uint8)

    def key(self) -> str:
        """Key of the recipe and of what was measured on the slide."""
        return content_key(self.name, _RECIPE, asdict(self))


def _density(rgb: Rgb, glass: tuple[float, float, float]) -> Float32:
    """(h, w, 3) optical density against the glass, base 10."""
    import cv2

    light = np.maximum(np.arange(256, dtype=np.float64), 1)[:, None] / np.asarray(glass)
    table = np.maximum(-np.log10(light), 0).astype(np.float32)
    return np.asarray(cv2.LUT(rgb, table[None]), np.float32)


def _haematoxylin(density: Float32) -> Float32:
    """(h, w) amount of haematoxylin (Ruifrok and Johnston 2001, the vectors of scikit-image)."""
    from skimage.color import hed_from_rgb

    column = hed_from_rgb[:, 0].astype(np.float32)
    return np.asarray(np.maximum(density @ column, 0), np.float32)


def _blur(values: Float32, sigma_px: float) -> Float32:
    """Gaussian, cut at 4 standard deviations."""
    import cv2

    size = 2 * int(np.ceil(4 * sigma_px)) + 1
    return np.asarray(
        cv2.GaussianBlur(values, (size, size), sigma_px, borderType=cv2.BORDER_REFLECT), np.float32
    )


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


def _build(
    slide: Slide, xy_px0: npt.NDArray[np.float64], mpp: float, _device: str
) -> ClassicalSegmenter:
    return ClassicalSegmenter.calibrated(_sample(slide, xy_px0, mpp), SEGMENTED_MPP)


SOURCE = SegmenterSource(_build, lambda: "")
