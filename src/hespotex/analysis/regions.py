"""Regions of a slide: areas from and to GeoJSON, their pooled composition, and a region against the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import GeometryError
from hespotex.evaluation.regions import SIZES
from hespotex.slide.tissue import as_multipolygon
from hespotex.slide.tissue_outline import area_of, drawn_regions, geojson_of
from hespotex.storage.atomic import atomic_path
from hespotex.storage.geojson import ignored_class, is_missing_core

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """An area of a slide.

    Attributes:
        name: as its author called it, else `region 1`, `region 2`.
        outline: shapely MultiPolygon in level-0 pixels.
    """

    name: str
    outline: Any

    def contains(self, xy_px0: Floats) -> Mask:
        """(n,) whether spot centres (n, 2) lie in the area; its edge counts."""
        import shapely

        return np.asarray(shapely.intersects_xy(self.outline, xy_px0[:, 0], xy_px0[:, 1]), bool)


def read_regions(path: str | Path) -> tuple[Region, ...]:
    """Areas that somebody drew, one region each, named by QuPath's name or class.

    What QuPath ignores (classes whose name ends in `*`, missing cores) is left out, and so are detections, cells and
    tiles where anything else is there.

    Args:
        path: a FeatureCollection, a list of features, a feature or a geometry, in level-0 pixels; points and lines
            are passed over.

    Raises:
        GeometryError: the file cannot be read, is no GeoJSON, or holds no area.
    """
    path, areas = Path(path), list[tuple[str, Any]]()
    with geojson_of(path):
        for feature in drawn_regions(path, "GeoJSON with regions"):
            bare = feature["type"] != "Feature"
            if not bare and (ignored_class(feature) is not None or is_missing_core(feature)):
                continue
            outline = feature if bare else feature["geometry"]
            area = as_multipolygon(area_of(outline)) if outline else None
            if area is not None and not area.is_empty:
                areas.append(("" if bare else _name(feature), area))
    if not areas:
        raise GeometryError(
            expected=f"an area (Polygon or MultiPolygon) in {path}",
            found="none",
            remedy="draw one in QuPath and export it as GeoJSON (File > Export objects)",
        )
    return tuple(
        Region(name or f"region {n}", area) for n, (name, area) in enumerate(areas, start=1)
    )


def write_regions(path: str | Path, regions: Sequence[Region]) -> None:
    """Write regions as annotations that QuPath imports by dropping the file on the slide.

    Raises:
        RunError: the file cannot be written.
    """
    from shapely.geometry import mapping

    features = [
        {
            "type": "Feature",
            "geometry": mapping(region.outline),
            "properties": {"objectType": "annotation", "name": region.name},
        }
        for region in regions
    ]
    with atomic_path(Path(path)) as temporary:
        text = json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _name(feature: Any) -> str:
    """QuPath's name of an object, else its class: a name, or a list of names of which all count."""
    properties = feature.get("properties") or {}
    of_class = properties.get("classification") or ""
    if isinstance(of_class, dict):
        of_class = of_class.get("name") or ": ".join(map(str, of_class.get("names") or ()))
    return str(properties.get("name") or of_class).strip()


def pooled_composition(file: PredictionFile, sets: Sequence[Mask]) -> Floats:
    """(k, G) composition of sets of spots: log of a gene's part of their summed expected counts, against training.

    Spots weigh by predicted depth, alike where a model predicts none. Spots that are flagged do not count.

    Args:
        sets: (n,) which spots, each.

    Raises:
        GeometryError: a set has no spot that is not flagged.
    """
    weight = np.asarray(file.spots.depth, dtype=np.float64)
    weight = np.maximum(weight, 1e-9) if np.isfinite(weight).all() else np.ones(file.n_spots)
    members = np.stack([np.asarray(s, bool) & file.usable for s in sets])
    empty = np.flatnonzero(~members.any(axis=1))
    if len(empty):
        raise GeometryError(
            expected=f"spots in set {empty[0] + 1} of section {file.spots.section_id}",
            found="none that is not flagged as unlike the training's",
            remedy="draw it where the prediction has spots",
        )
    weights = members * weight
    weights /= weights.sum(axis=1, keepdims=True)
    share = np.zeros((len(members), len(file.genes)))
    for rows, composition in file.rows():
        used = members[:, rows].any(axis=0)
        share += weights[:, rows][:, used] @ np.exp(composition[used].astype(np.float64))
    return np.asarray(np.log(np.maximum(share, 1e-30)))


def against_rest(file: PredictionFile, inside: Mask) -> pd.DataFrame:
    """Every gene in a region against the rest of the slide, largest difference first.

    It describes: a region that was drawn after looking at the maps has no p-value. The half width is that of the
    largest calibrated region that is no larger than this one; NaN where the model has none.

    Args:
        file: the prediction.
        inside: (n,) spots of the region.

    Returns:
        one row a gene: `difference` of composition (natural log), `inside`, `rest`, `half_width`, `n_inside`,
        `n_rest`, and what is claimed of the gene (`grade`, `evidence`, `scope`).

    Raises:
        GeometryError: no usable spot lies inside, or none outside.
    """
    inside = np.asarray(inside, bool)
    within, rest = pooled_composition(file, (inside, ~inside))
    n_inside, n_rest = (int((s & file.usable).sum()) for s in (inside, ~inside))
    claims = file.claims
    table = pd.DataFrame(
        {
            "gene": file.genes,
            "difference": within - rest,
            "inside": within,
            "rest": rest,
            "half_width": _half_width(file, n_inside),
            "n_inside": n_inside,
            "n_rest": n_rest,
            keys.GRADE: claims.grade,
            keys.EVIDENCE: claims.evidence,
            keys.SCOPE: claims.gene_scope,
        }
    )
    order = np.argsort(-np.abs(table["difference"].to_numpy()), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def _half_width(file: PredictionFile, n_spots: int) -> Floats:
    """(G,) of the largest calibrated region of at most so many spots; NaN where there is none."""
    found = np.full(len(file.genes), np.nan)
    widths = file.half_width
    for row, size in enumerate(SIZES if widths is not None else ()):
        if size <= n_spots and widths is not None:
            found = np.where(np.isfinite(widths[row]), widths[row], found)
    return found
