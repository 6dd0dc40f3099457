"""Owns the outline of a slide's tissue as polygons: found on a small picture, or read from GeoJSON; reads slides."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import GeometryError
from hespotex.geojson_features import object_type
from hespotex.slide import Slide

# Outlines are found at so many microns per pixel, on a picture of at most so many pixels a side.
_WORK_UM = 8.0
_MOST_PX = 4096
_GLASS_PERCENTILE = 95
_LEAST_GLASS = 180.0
_GREY = 0.08
_WHITE = 245.0
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
# Objects of QuPath that nobody draws around tissue.
_NO_REGIONS = {"detection", "cell", "tile"}


@dataclass(frozen=True)
class Tissue:
    """Where the tissue of a slide is.

    Attributes:
        polygons: shapely geometry (MultiPolygon, may be empty) in level-0 pixels; holes are left out.
        source: `detected`, or the file that it was read from.
        pen_share: share of the slide that was taken for pen marks; NaN where nobody looked.
        unreadable_share: share of the slide whose pixels cannot be read: no tissue is seen there.
    """

    polygons: Any
    source: str
    pen_share: float = float("nan")
    unreadable_share: float = 0.0

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


def outline_tissue(slide: Slide, mpp: float) -> Tissue:
    """Find tissue: what absorbs light and has texture, without pen marks, holes and specks.

    Glass, haze of stain and uneven light have no texture at the scale of cells; printed marks of
    arrays and dust are small. Both thresholds are Otsu's, held within bounds, so that a slide that is
    all tissue or all glass is not cut in two.

    Args:
        slide: open slide.
        mpp: microns per level-0 pixel.

    Returns:
        the outline; empty for a slide without tissue, which is no error.

    Raises:
        SlideError: the slide cannot be read.
    """
    longest = max(slide.width_px0, slide.height_px0)
    side = min(max(int(longest * mpp / _WORK_UM), 64), _MOST_PX)
    rgb, px0_per_px, unreadable = slide.thumbnail_around_holes(side)
    um_per_px = px0_per_px * mpp
    mask, pen = tissue_mask(rgb, um_per_px)
    return Tissue(_polygons(mask, um_per_px, px0_per_px), "detected", float(pen.mean()), unreadable)


def tissue_mask(
    rgb: npt.NDArray[np.uint8], um_per_px: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks (h, w) of tissue and of pen marks of a small picture (h, w, 3)."""
    import cv2

    smooth = cv2.GaussianBlur(rgb, (0, 0), 1).astype(np.float32)
    window = 2 * round(_TEXTURE_UM / um_per_px / 2) + 1 if um_per_px < _TEXTURE_UM else 3
    glass = _glass(smooth, window)
    fine = _density(rgb.astype(np.float32), glass).mean(axis=2)
    colour = np.clip(cv2.GaussianBlur(_density(smooth, glass), (0, 0), 2), 0, None)
    texture = _deviation(fine, window)
    density = colour.mean(axis=2)
    log_texture = np.log(np.maximum(texture, 1e-3))
    low, high = _TEXTURE_LIMITS
    textured = texture > np.clip(np.exp(_otsu(log_texture)), low, high)
    low, high = _DENSITY_LIMITS
    dense = density > np.clip(_DENSITY_SHARE * _otsu(density), low, high)
    pen = _pen_marks(colour, um_per_px)
    return np.asarray(textured & dense & ~pen, bool), pen


def _glass(smooth: npt.NDArray[np.float32], window: int) -> npt.NDArray[Any]:
    """(3,) colour of the glass: the brightest there is, or in a dark picture the brightest without texture."""
    glass = np.percentile(smooth.reshape(-1, 3), _GLASS_PERCENTILE, axis=0)
    # Dim glass of a dark picture is grey, tissue is not.
    if glass.min() >= _LEAST_GLASS or np.ptp(glass) <= _GREY * glass.max():
        return np.asarray(glass)
    calm = _deviation(np.log(smooth.mean(axis=2) + 1), window) < _CALM
    if calm.mean() < _LEAST_CALM_SHARE:  # no glass in sight: the brightest is tissue itself
        return np.full(3, _WHITE)
    return np.asarray(np.percentile(smooth[calm], _GLASS_PERCENTILE, axis=0))


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

    return float(values.max() if np.ptp(values) < 1e-6 else threshold_otsu(values))


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
    return _as_multipolygon(scaled)


def _as_multipolygon(geometry: Any) -> Any:
    import shapely

    parts = shapely.get_parts(shapely.make_valid(geometry)).tolist()
    flat = [q for p in parts for q in shapely.get_parts(p).tolist()]
    return shapely.MultiPolygon([q for q in flat if q.geom_type == "Polygon" and q.area > 0])


def read_tissue(path: Path) -> Tissue:
    """Read an outline that was drawn in QuPath, or any GeoJSON with areas in level-0 pixels.

    An export of everything holds detections, cells and tiles, too: they are tissue only where nothing else is.

    Args:
        path: a FeatureCollection, a list of features, a feature or a geometry. Points and lines in it
            are passed over.

    Raises:
        GeometryError: the file cannot be read, is no GeoJSON, or holds no area.
    """
    import shapely
    from shapely.geometry import shape

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        areas = [shape(geometry) for geometry in _geometries(content)]
        # A union of rings that cross themselves has no result: each is cut into proper areas first.
        valid = [shapely.make_valid(area) for area in areas]
        union = _as_multipolygon(shapely.unary_union([a for a in valid if a.area > 0]))
    except (OSError, UnicodeDecodeError) as error:
        raise GeometryError(
            f"expected a GeoJSON file with the tissue at {path}, found: {error}"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError) as error:
        raise GeometryError(
            f"expected GeoJSON in {path}, found: {error}; export it from QuPath as GeoJSON (File > Export objects)"
        ) from error
    if union.is_empty:
        kinds = ", ".join(sorted({a.geom_type for a in areas})) or "no geometry"
        raise GeometryError(
            f"expected the outline of tissue (Polygon or MultiPolygon) in {path}, found {kinds}; "
            "draw an area in QuPath and export it as GeoJSON"
        )
    return Tissue(union, path.name)


def _geometries(content: Any) -> list[Any]:
    """Of a collection that has areas beside detections, cells and tiles: these areas alone."""
    features = _features(content)
    regions = [f for f in features if f["type"] != "Feature" or object_type(f) not in _NO_REGIONS]
    outlines = [f["geometry"] if f["type"] == "Feature" else f for f in regions or features]
    return [outline for outline in outlines if outline]


def _features(content: Any) -> list[Any]:
    if isinstance(content, list):
        return [f for item in content for f in _features(item)]
    if content["type"] == "FeatureCollection":
        return _features(content["features"])
    return [content]
