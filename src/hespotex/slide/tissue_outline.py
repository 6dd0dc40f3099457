"""The outline of a slide's tissue as somebody drew it: areas in GeoJSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hespotex.errors import GeometryError
from hespotex.slide.tissue import Tissue, as_multipolygon
from hespotex.storage.file_kinds import EMPTY
from hespotex.storage.geojson import ignored_class, is_missing_core, object_type
from hespotex.storage.text_files import read_text

# Objects of QuPath that nobody draws around tissue.
_NO_REGIONS = {"detection", "cell", "tile"}
_FRAME = "region*"


def read_tissue(path: Path) -> Tissue:
    """Read an outline that was drawn in QuPath, or any GeoJSON with areas in level-0 pixels.

    An export of everything holds detections, cells and tiles, too: they are tissue only where nothing else is.
    Areas of classes that QuPath ignores (`Ignore*`, `Artefact*`: the name ends in `*`) are no tissue, and are cut out
    of what they lie in; `Region*`, a frame around what is looked at, is left out alone, and so are cores of a tissue
    microarray that are marked as missing.

    Args:
        path: a FeatureCollection, a list of features, a feature or a geometry. Points and lines in it
            are passed over.

    Raises:
        GeometryError: the file cannot be read, is no GeoJSON, or holds no area.
    """
    with geojson_of(path):
        regions = drawn_regions(path, "GeoJSON with the tissue")
        present = [f for f in regions if f["type"] != "Feature" or not is_missing_core(f)]
        kept, ignored = _sorted(present)
        areas = [area_of(outline) for outline in kept]
        holes = [area_of(outline) for name, outline in ignored if not _is_frame(name)]
        union = as_multipolygon(_joined(areas).difference(_joined(holes)))
    n_missing = len(regions) - len(present)
    note = _left_out([name for name, _ in ignored], n_missing, path)
    if union.is_empty and note:
        classes = "give the areas of tissue a class whose name does not end in *, or none"
        cores = "mark cores that hold tissue as not missing in QuPath and export them again"
        raise GeometryError(
            expected=f"the outline of tissue in {path}",
            found=f"nothing beside what QuPath ignores: {note}",
            remedy=classes if ignored else cores,
        )
    if union.is_empty:
        kinds = ", ".join(sorted({a.geom_type for a in areas})) or "no geometry"
        raise GeometryError(
            expected=f"the outline of tissue (Polygon or MultiPolygon) in {path}",
            found=kinds,
            remedy="draw an area in QuPath and export it as GeoJSON",
        )
    return Tissue(union, path.name, note=note)


@contextmanager
def geojson_of(path: Path) -> Iterator[None]:
    """While a file's content is taken for GeoJSON: whatever it lacks for that is one error.

    Raises:
        GeometryError: names the file.
    """
    import shapely

    try:
        yield
    except (
        RecursionError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        shapely.errors.ShapelyError,
    ) as error:
        raise GeometryError(
            expected=f"GeoJSON in {path}",
            cause=error,
            remedy="export it from QuPath as GeoJSON (File > Export objects)",
        ) from error


def drawn_regions(path: Path, what: str) -> list[Any]:
    """Features and bare geometries of a file: those with areas beside detections, cells and tiles, if there are any.

    Args:
        path: a FeatureCollection, a list of features, a feature or a geometry.
        what: is expected, for the error of an empty file.

    Raises:
        GeometryError: the file cannot be read, or is empty.
        ValueError, KeyError, TypeError: it is no GeoJSON; see `geojson_of`.
    """
    text = read_text(path, what, GeometryError)
    if not text.strip():
        raise GeometryError(expected=f"{what} in {path}", **EMPTY.fields(path))
    return _regions(json.loads(text))


def area_of(outline: Any) -> Any:
    """A geometry of GeoJSON; NaN and Infinity, which Python's JSON takes for numbers, are no places."""
    import shapely
    from shapely.geometry import shape

    with np.errstate(invalid="ignore"):
        area = shape(outline)
    if not np.isfinite(shapely.get_coordinates(area)).all():
        raise ValueError("coordinates that are NaN or infinite")
    return area


def _joined(areas: Sequence[Any]) -> Any:
    """Their union; rings that cross themselves have none, and are cut into proper areas first."""
    import shapely

    valid = [shapely.make_valid(area) for area in areas]
    return shapely.unary_union([area for area in valid if area.area > 0])


def _regions(content: Any) -> list[Any]:
    """The areas of a collection, without detections, cells and tiles if there are other areas."""
    features = _features(content)
    regions = [f for f in features if f["type"] != "Feature" or object_type(f) not in _NO_REGIONS]
    return regions or features


def _sorted(features: Sequence[Any]) -> tuple[list[Any], list[tuple[str, Any]]]:
    """Geometries that count, and those of ignored classes with the class's name."""
    kept: list[Any] = []
    ignored: list[tuple[str, Any]] = []
    for feature in features:
        bare = feature["type"] != "Feature"
        outline = feature if bare else feature["geometry"]
        name = None if bare else ignored_class(feature)
        if outline and name is not None:
            ignored.append((name, outline))
        elif outline:
            kept.append(outline)
    return kept, ignored


def _is_frame(name: str) -> bool:
    return name.lower() == _FRAME


def _left_out(names: Sequence[str], n_missing: int, path: Path) -> str:
    """What was left out, in words; empty where nothing was."""
    said = []
    if names:
        listed = ", ".join(f"{name}: {n:,}" for name, n in Counter(names).most_common())
        areas = (
            f"{len(names):,} areas of ignored classes are"
            if len(names) > 1
            else "an area of an ignored class is"
        )
        said.append(f"{areas} left out of {path.name} ({listed})")
    if n_missing:
        cores = (
            f"{n_missing:,} cores marked as missing are"
            if n_missing > 1
            else "a core marked as missing is"
        )
        said.append(f"{cores} left out of {path.name}")
    return ", ".join(said)


def _features(content: Any) -> list[Any]:
    if isinstance(content, list):
        return [f for item in content for f in _features(item)]
    if content["type"] == "FeatureCollection":
        return _features(content["features"])
    return [content]
