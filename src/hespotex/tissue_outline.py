"""The outline of a slide's tissue as somebody drew it: areas in GeoJSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hespotex.errors import GeometryError
from hespotex.geojson_features import object_type
from hespotex.text_files import read_text
from hespotex.tissue import Tissue, as_multipolygon

# Objects of QuPath that nobody draws around tissue.
_NO_REGIONS = {"detection", "cell", "tile"}


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
        text = read_text(path, "GeoJSON with the tissue", GeometryError)
        content = json.loads(text)
        areas = [shape(geometry) for geometry in _geometries(content)]
        # A union of rings that cross themselves has no result: each is cut into proper areas first.
        valid = [shapely.make_valid(area) for area in areas]
        union = as_multipolygon(shapely.unary_union([a for a in valid if a.area > 0]))
    except (
        RecursionError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        shapely.errors.ShapelyError,
    ) as error:
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
