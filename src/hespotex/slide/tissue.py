"""Where the tissue of a slide is: the one finder for preflight, pictures and predictions; reads slides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.slide import Slide

# Outlines are found at so many microns per pixel, on a picture of at most so many pixels a side.
_WORK_UM = 8.0
LEAST_PX = 64
_MOST_PX = 4096
# Without a scale the slide's longer side is taken for so many pixels of `_WORK_UM`.
_UNKNOWN_SCALE_PX = 800
_GLASS_PERCENTILE = 95
_LEAST_GLASS = 180.0
_GREY = 0.08
_WHITE = 245.0
# No light came from a pixel below this (of 255). Black is what is darker than the first value, and than
# the second as a share of the glass: dark stains keep more light in one of their channels.
_UNLIT = 12.0
_BLACK = 40.0
_BLACK_SHARE = 0.15
# Black areas this dark were written by a program, wherever they lie.
_WRITTEN_BLACK = 4.0
# White padding is whiter than anything seen through glass of this share of it, which a share of the slide shows.
_PURE_WHITE = 254.0
_DARKER = 0.93
_LEAST_GLASS_SHARE = 0.1
_SURROUND_SHARE = 0.02
_SURROUND_MARGIN_PX = 2
# Deviation of the logarithm of brightness below which nothing is seen in a window, and how much of it makes glass.
_CALM = 0.01
_LEAST_CALM_SHARE = 0.02
_TEXTURE_UM = 88.0
# Bounds for Otsu's thresholds, in optical density: standard deviation in the window, and the mean.
_TEXTURE_LIMITS = (0.015, 0.04)
_DENSITY_LIMITS = (0.04, 0.10)
_DENSITY_SHARE = 0.3
_CLOSE_UM = 30.0
_HOLE_UM2 = 15_000.0
_SPECK_UM2 = 40_000.0
_PEN_WIDTH_UM = 60.0
_PEN_UM2 = 60_000.0
_PEN_MARGIN_UM = 80.0
_SUBPIXEL_BITS = 4
DETECTED = "detected"


@dataclass(frozen=True)
class Tissue:
    """Where the tissue of a slide is.

    Attributes:
        polygons: shapely geometry (MultiPolygon, may be empty) in level-0 pixels; holes are left out.
        source: `detected`, or the file that it was read from.
        pen_share: share of the slide that was taken for pen marks; NaN where nobody looked.
        unreadable_share: share of the slide whose pixels cannot be read: no tissue is seen there.
        note: what was left out of a file, in words; empty where nothing was.
    """

    polygons: Any
    source: str
    pen_share: float = float("nan")
    unreadable_share: float = 0.0
    note: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is no tissue at all."""
        return bool(self.polygons.is_empty)

    def contains(self, xy_px0: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """(n,) whether points (n, 2), x and y in level-0 pixels, lie on tissue."""
        import shapely

        if self.is_empty:
            return np.zeros(len(xy_px0), dtype=bool)
        shapely.prepare(self.polygons)
        return np.asarray(shapely.contains_xy(self.polygons, xy_px0[:, 0], xy_px0[:, 1]), bool)

    def moved(self, by_px0: tuple[float, float]) -> Tissue:
        """The same outline moved by x, y level-0 pixels."""
        from shapely.affinity import translate

        return replace(self, polygons=translate(self.polygons, *by_px0))

    def area_mm2(self, mpp: float) -> float:
        """Area in square millimetres."""
        return float(self.polygons.area) * (mpp * 1e-3) ** 2

    def mask(self, shape: tuple[int, int], px0_per_px: float) -> npt.NDArray[np.bool_]:
        """(h, w) True on tissue, on a picture of the slide with so many level-0 pixels per pixel."""
        import cv2
        import shapely

        out = np.zeros(shape, np.uint8)
        rings = shapely.get_rings(shapely.get_parts(self.polygons))
        # Pixel centres lie at whole numbers; what lies in two rings is a hole.
        points = [
            np.round((shapely.get_coordinates(ring) / px0_per_px - 0.5) * 2**_SUBPIXEL_BITS)
            for ring in rings
        ]
        if points:
            cv2.fillPoly(out, [p.astype(np.int32) for p in points], 1, shift=_SUBPIXEL_BITS)
        return np.asarray(out, bool)


def find_tissue(slide: Slide, mpp: float | None, *, least_px: int = LEAST_PX) -> Tissue:
    """Find tissue: what absorbs light and has texture, without pen marks, holes and specks.

    Glass, haze of stain and uneven light have no texture at the scale of cells; printed marks of
    arrays and dust are small. Black around a slide (a mat, padding, a background that was cut out) is
    no part of it. Both thresholds are Otsu's, held within bounds, so that a slide that is all tissue or
    all glass is not cut in two.

    Args:
        mpp: microns per level-0 pixel; None where unknown: then the slide is looked at on a picture of
            800 px a side.
        least_px: a small slide is looked at on a picture of at least so many pixels a side, which is finer.

    Returns:
        the outline; empty for a slide without tissue.

    Raises:
        SlideError: the slide cannot be read.
    """
    longest = max(slide.width_px0, slide.height_px0)
    if mpp is None:
        mpp = _WORK_UM * min(1.0, _UNKNOWN_SCALE_PX / longest)
    side = min(max(int(longest * mpp / _WORK_UM), least_px), _MOST_PX)
    rgb, px0_per_px, unreadable = slide.thumbnail_around_holes(side)
    um_per_px = px0_per_px * mpp
    mask, pen = tissue_mask(rgb, um_per_px)
    return Tissue(_polygons(mask, um_per_px, px0_per_px), DETECTED, float(pen.mean()), unreadable)


def tissue_mask(
    rgb: npt.NDArray[np.uint8], um_per_px: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks (h, w) of tissue and of pen marks of a small picture (h, w, 3)."""
    import cv2

    picture = rgb.astype(np.float32)
    smooth = cv2.GaussianBlur(rgb, (0, 0), 1).astype(np.float32)
    window = 2 * round(_TEXTURE_UM / um_per_px / 2) + 1 if um_per_px < _TEXTURE_UM else 3
    around = _surround(smooth, um_per_px, window)
    if around.all():
        return np.zeros(around.shape, bool), np.zeros(around.shape, bool)
    glass = _glass(smooth, around, window)
    if around.any():
        # Filled with glass, it ends at tissue as glass does, and at glass without an edge.
        picture[around] = glass
        smooth = cv2.GaussianBlur(picture, (0, 0), 1)
    fine = _density(picture, glass).mean(axis=2)
    colour = np.clip(cv2.GaussianBlur(_density(smooth, glass), (0, 0), 2), 0, None)
    texture = _deviation(fine, window)
    density = colour.mean(axis=2)
    log_texture = np.log(np.maximum(texture, 1e-3))
    low, high = _TEXTURE_LIMITS
    textured = texture > np.clip(np.exp(_otsu(log_texture)), low, high)
    low, high = _DENSITY_LIMITS
    dense = density > np.clip(_DENSITY_SHARE * _otsu(density), low, high)
    pen = _pen_marks(colour, um_per_px)
    return np.asarray(textured & dense & ~pen & ~around, bool), pen


def _surround(
    smooth: npt.NDArray[np.float32], um_per_px: float, window: int
) -> npt.NDArray[np.bool_]:
    """(h, w) what is no part of the slide: a black mat or padding, a background cut out, white beside darker glass.

    With the pixels that blend into it; all True for a black picture.
    """
    import cv2

    light = smooth.max(axis=2)
    lit = light > _UNLIT
    if not lit.any():
        return np.ones(light.shape, bool)
    least = min(_SPECK_UM2 / um_per_px**2, _SURROUND_SHARE * light.size)
    limit = min(_BLACK, _BLACK_SHARE * float(np.percentile(light[lit], _GLASS_PERCENTILE)))
    labels, mean, around = _large_areas(light < limit, light, least)
    # Beside black at the border all large black areas are none of the slide, elsewhere what a program wrote.
    found = (around if around.any() else mean < _WRITTEN_BLACK)[labels]
    labels, _, around = _large_areas(smooth.min(axis=2) > _PURE_WHITE, light, least)
    white = around[labels]
    if white.any():
        calm = _calm(smooth, found | white, window)
        if calm.sum() > _LEAST_GLASS_SHARE * (~white).sum():
            glass = np.percentile(smooth[calm], _GLASS_PERCENTILE, axis=0)
            found |= white & bool(glass.max() < _DARKER * _PURE_WHITE)
    margin = _disc(_SURROUND_MARGIN_PX)
    return np.asarray(cv2.dilate(found.astype(np.uint8), margin), bool)


def _large_areas(
    mask: npt.NDArray[np.bool_], light: npt.NDArray[np.float32], least_px: float
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Labels (h, w) of connected areas; by label the mean light (infinite for small ones), and whether it is large and
    touches the border."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    area = stats[:, cv2.CC_STAT_AREA]
    large = (area > least_px) & (np.arange(count) > 0)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    mean = np.bincount(labels.ravel(), light.ravel(), count) / np.maximum(area, 1)
    return labels, np.where(large, mean, np.inf), large & np.isin(np.arange(count), border)


def _glass(
    smooth: npt.NDArray[np.float32], surround: npt.NDArray[np.bool_], window: int
) -> npt.NDArray[np.float32]:
    """(3,) colour of the glass: the brightest there is, or where that may be tissue the brightest without texture."""
    glass = np.percentile(smooth[~surround], _GLASS_PERCENTILE, axis=0).astype(np.float32)
    # Dim glass of a dark picture is grey, tissue is not; beside a surround all may be tissue.
    grey = np.ptp(glass) <= _GREY * glass.max()
    if not surround.any() and (glass.min() >= _LEAST_GLASS or grey):
        return glass
    calm = _calm(smooth, surround, window)
    if calm.sum() < _LEAST_CALM_SHARE * (~surround).sum():  # no glass in sight, but tissue alone
        return np.full(3, _WHITE, np.float32)
    return np.percentile(smooth[calm], _GLASS_PERCENTILE, axis=0).astype(np.float32)


def _calm(
    smooth: npt.NDArray[np.float32], surround: npt.NDArray[np.bool_], window: int
) -> npt.NDArray[np.bool_]:
    """(h, w) pixels of the slide in whose window nothing is seen."""
    light = smooth.mean(axis=2)
    light[surround] = np.median(light[~surround]) if not surround.all() else 0
    return (_deviation(np.log(light + 1), window) < _CALM) & ~surround


def _deviation(values: npt.NDArray[np.float32], window: int) -> npt.NDArray[np.float32]:
    """Standard deviation in a square window around every pixel."""
    import cv2

    mean = cv2.blur(values, (window, window))
    square = cv2.blur(values * values, (window, window))
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)), np.float32)


def _density(rgb: npt.NDArray[Any], glass: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Optical density against the glass, natural logarithm."""
    return np.asarray(np.minimum(-np.log((rgb + 1) / (glass + 1)), 3), np.float32)


def _otsu(values: npt.NDArray[np.floating]) -> float:
    """Otsu's threshold; the largest value where all are equal."""
    from skimage.filters import threshold_otsu

    narrow = np.ptp(values) < 1e-3
    exact = values.astype(np.float64) if narrow else values  # bins finer than steps of 32 bits
    return float(exact.max() if np.ptp(exact) < 1e-6 else threshold_otsu(exact))


def _pen_marks(od: npt.NDArray[np.float32], um_per_px: float) -> npt.NDArray[np.bool_]:
    """Ink by colours that neither haematoxylin nor eosin takes: both absorb green most.

    Args:
        od: (h, w, 3) smoothed optical density.
        um_per_px: of the picture.
    """
    import cv2

    r, g, b = np.moveaxis(od, 2, 0)
    mean, spread = od.mean(axis=2), od.max(axis=2) - od.min(axis=2)
    green = (g < 0.75 * r) & (r > 0.35) & (b > 0.4 * r)
    blue = (r > 1.0) & (g < 0.85 * r) & (b < 0.25 * r)
    red = (g > 1.0) & (b > 0.6 * g) & (r < 0.25 * g)
    black = (mean > 1.0) & (spread < 0.2 * mean)
    ink = (green | blue | red | black).astype(np.uint8)
    ink = cv2.morphologyEx(ink, cv2.MORPH_OPEN, _disc(_PEN_WIDTH_UM / um_per_px))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink)
    large = stats[:, cv2.CC_STAT_AREA] * um_per_px**2 > _PEN_UM2
    large[0] = False
    marks = large[labels].astype(np.uint8) if count > 1 else ink * 0
    return np.asarray(cv2.dilate(marks, _disc(_PEN_MARGIN_UM / um_per_px)), bool)


def _disc(radius_px: float) -> npt.NDArray[np.uint8]:
    import cv2

    r = max(round(radius_px), 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1)))


def _polygons(mask: npt.NDArray[np.bool_], um_per_px: float, px0_per_px: float) -> Any:
    """The mask as polygons in level-0 pixels: gaps closed, small holes filled, specks left out."""
    import cv2
    import shapely

    closed = cv2.morphologyEx(
        np.pad(mask, 1).astype(np.uint8), cv2.MORPH_CLOSE, _disc(_CLOSE_UM / um_per_px)
    )
    contours, tree = cv2.findContours(closed, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    found = []
    for i, contour in enumerate(contours):
        if tree[0][i][3] >= 0 or len(contour) < 3:
            continue
        holes, child = [], tree[0][i][2]
        while child >= 0:
            ring = contours[child]
            if len(ring) >= 3 and cv2.contourArea(ring) * um_per_px**2 >= _HOLE_UM2:
                holes.append(ring[:, 0])
            child = tree[0][child][0]
        polygon = shapely.make_valid(shapely.Polygon(contour[:, 0], holes))
        if polygon.area * um_per_px**2 >= _SPECK_UM2:
            found.append(polygon)
    # Centres of pixels of the padded mask -> level-0 pixels; half a pixel more all round.
    grown = shapely.unary_union(found).buffer(0.5, join_style="mitre").simplify(0.5)
    scaled = shapely.transform(grown, lambda xy: (xy - 0.5) * px0_per_px)
    return as_multipolygon(scaled)


def as_multipolygon(geometry: Any) -> Any:
    """The areas of a geometry, made valid; lines and points are left out."""
    import shapely

    parts = shapely.get_parts(shapely.make_valid(geometry)).tolist()
    flat = [q for p in parts for q in shapely.get_parts(p).tolist()]
    return shapely.MultiPolygon([q for q in flat if q.geom_type == "Polygon" and q.area > 0])
