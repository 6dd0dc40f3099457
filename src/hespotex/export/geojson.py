"""GeoJSON for QuPath: spots as detections with measurements, in level-0 pixels."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from hespotex.export.claim_words import claims_of, mark
from hespotex.export.exporters import Exporter
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.shown import Show, label, shown_values
from hespotex.export.tables import MAX_GENES, ROW_GROUP, about_file, chosen_columns, set_columns
from hespotex.storage.atomic import atomic_path

_CORNERS: Final = 16
# Any fixed namespace: equal spots get equal ids, so that a second import replaces the first.
_NAMESPACE: Final = uuid.UUID("6f0c6ad8-6b2e-4f0e-9d7e-1c1f5a6b7c21")


def write_geojson(
    path: Path,
    section: StoredPrediction,
    *,
    genes: Sequence[str] | None = None,
    bounds_offset_px0: tuple[float, float] = (0.0, 0.0),
    show: Show = "composition",
) -> None:
    """Write a FeatureCollection that QuPath imports by dropping the file on the slide.

    The member `hespotex` beside the features says units, model and what is claimed of each gene; the name of a
    measurement says so where a gene is not predicted on this slide.

    Args:
        genes: which to write as measurements; default the best graded, at most `MAX_GENES`.
        bounds_offset_px0: x, y of the slide's bounds (openslide.bounds-x/y of MRXS and others), which
            QuPath leaves out of its coordinates; subtracted.

    Raises:
        GenePanelError: a gene is not in the prediction.
        RunError: the file cannot be written.
    """
    columns, n = chosen_columns(section, genes), len(section.barcodes)
    claims, kind = claims_of(section), label(show)
    names = [f"{section.genes[j]} {kind}{mark(claims, j)}" for j in columns.tolist()]
    names += list(set_columns(section.rows(slice(0, 0))))
    about = json.dumps(about_file(section, columns, show), allow_nan=False)
    turn = 2 * np.pi * np.arange(_CORNERS + 1) / _CORNERS
    radius = section.spot_diameter_um / section.mpp / 2
    circle = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    circle[-1] = circle[0]
    # One feature at a time: as Python objects, all of a large slide would take gigabytes.
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.write(f'{{"type": "FeatureCollection", "hespotex": {about}, "features": [')
        for start in range(0, n, ROW_GROUP):
            some = section.rows(slice(start, start + ROW_GROUP))
            shown = np.asarray(shown_values(some, show)[:, columns], dtype=np.float64)
            values = np.column_stack([shown, *set_columns(some).values()])
            for i, row in enumerate(values):
                ring = np.round(some.xy_px0[i] - np.asarray(bounds_offset_px0) + circle, 2)
                feature = _feature(some, i, ring.tolist(), names, row)
                handle.write((",\n" if start + i else "\n") + json.dumps(feature, allow_nan=False))
        handle.write("]}\n")


def _feature(
    section: StoredPrediction, i: int, ring: list[list[float]], names: Sequence[str], values: Any
) -> dict[str, Any]:
    barcode = str(section.barcodes[i])
    measurements = dict(zip(names, values.tolist(), strict=True))
    measurements["predicted depth"] = float(section.depth[i])
    if section.extras.ood_score is not None:
        measurements["unlike the training"] = float(section.extras.ood_score[i])
    known = {k: round(v, 5) for k, v in measurements.items() if np.isfinite(v)}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, f"{section.section_id}/{barcode}")),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "detection",
            "name": barcode,
            "classification": {"name": "spot", "color": [11, 110, 143]},
            "measurements": known,
        },
    }


EXPORTER: Final = Exporter(
    lambda path, section, wanted: write_geojson(
        path, section, genes=wanted.genes, show=wanted.show, bounds_offset_px0=wanted.bounds_px0
    ),
    suffix=".geojson",
    most_genes=MAX_GENES,
)
