"""Data from which the report's page draws the maps of one section: picture, spots, values as bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.export.claim_words import claims_of, short
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.raster import is_fine, pitch_um
from hespotex.export.scales import column_limits
from hespotex.export.shown import composition_ends, measured_beside
from hespotex.plots import style
from hespotex.plots.style import view_box
from hespotex.report.report_fine import scale_texts
from hespotex.report.report_intervals import half_width_text

Values = npt.NDArray[np.floating[Any]]

# Maps of every gene go in while they fit; as base64 they take a third more.
MAP_BYTES: Final = 4_500_000
_PICTURE_PX: Final = 560
_NO_VALUE: Final = 255


def mapped_genes(ranked: Sequence[str], n_fit: int) -> list[str]:
    """Which genes get maps: all if they fit, else the better half of the room from the top, the rest evenly."""
    if len(ranked) <= n_fit:
        return list(ranked)
    top = max(n_fit // 2, 1)
    rest = np.linspace(top, len(ranked) - 1, max(n_fit - top, 0)).round().astype(int)
    return [ranked[i] for i in dict.fromkeys([*range(top), *rest.tolist()])]


def bytes_per_gene(section: StoredPrediction) -> int:
    """Bytes that the maps of one gene of this section take."""
    return len(section.barcodes) * len(_kinds(section))


def section_maps(section: StoredPrediction, genes: Sequence[str]) -> dict[str, Any]:
    """Everything that the page needs to draw one section: picture, spots, values as bytes.

    Args:
        section: the prediction.
        genes: those that get maps; a gene that the section's fold does not have is left out.
    """
    place = {name: j for j, name in enumerate(section.genes.tolist())}
    kept = [(i, place[g]) for i, g in enumerate(genes) if g in place]
    columns = np.array([j for _, j in kept], dtype=np.intp)
    layers, limits = _layers(section, columns)
    claims = claims_of(section)
    left, right, top, bottom = view_box(section)
    side = right - left
    xy = (section.xy_px0 - [left, top]) / side
    score, flagged = section.extras.ood_score, section.extras.ood
    return {
        "id": section.section_id,
        "patient": section.patient_id,
        "n": len(section.barcodes),
        "diameter": section.spot_diameter_um / section.mpp / side,
        "cell": pitch_um(section) / section.mpp / side if is_fine(section) else 0,
        "side_um": side * section.mpp,
        "picture": _picture(section, (left, right, top, bottom)),
        "xy": _base64(np.round(np.clip(xy, 0, 1) * 65535).astype("<u2")),
        "genes": [i for i, _ in kept],
        "kinds": _kinds(section),
        "limits": {unit: np.round(table, 4).tolist() for unit, table in limits.items()},
        "claims": [short(claims, j) for _, j in kept],
        "half_widths": [half_width_text(section, j) for _, j in kept],
        "widths": [_one_spot(section, j) for _, j in kept],
        "scales": scale_texts(section, columns),
        "values": _base64(layers),
        "unlike": None if score is None else _unlike(score),
        "flagged": None if flagged is None else _base64(np.packbits(np.asarray(flagged, bool))),
        "suspended": claims.suspended,
    }


def _kinds(section: StoredPrediction) -> list[str]:
    """Maps of a gene, measured before predicted."""
    if section.log1p is None:
        return ["predicted_composition"]
    if section.measured is None:
        return ["predicted_composition", "predicted_log1p"]
    return ["measured_composition", "predicted_composition", "measured_log1p", "predicted_log1p"]


def _layers(
    section: StoredPrediction, columns: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.uint8], Mapping[str, Values]]:
    """Bytes (genes, kinds, n), and by unit the ends (genes, 2) that the least and the largest byte stand for."""
    tables: dict[str, Values] = {
        "predicted_composition": section.composition[:, columns],
    }
    if section.log1p is not None:
        tables["predicted_log1p"] = section.log1p[:, columns]
    if section.measured is not None:
        tables["measured_composition"] = measured_beside(section, columns)
        tables["measured_log1p"] = section.measured[:, columns]

    def both(unit: str) -> Values:
        return np.concatenate([table for kind, table in tables.items() if kind.endswith(unit)])

    ends = composition_ends(both("composition"))
    limits: dict[str, Values] = {"composition": np.stack([-ends, ends], axis=1)}
    if section.log1p is not None:
        limits["log1p"] = column_limits(both("log1p"))
    kinds = _kinds(section)
    stacked = [as_bytes(tables[k].T, limits[k.partition("_")[2]]) for k in kinds]
    return np.stack(stacked, axis=1), limits


def as_bytes(values: Values, limits: Values) -> npt.NDArray[np.uint8]:
    """(g, n) to 0..254 between each row's limits; 255 where there is no value."""
    if not len(values):
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = limits[:, :1], limits[:, 1:]
    scaled = np.clip((values - low) / (high - low), 0, 1) * 254
    known = np.isfinite(values)
    return np.where(known, np.round(np.where(known, scaled, 0)), _NO_VALUE).astype(np.uint8)


def _one_spot(section: StoredPrediction, gene: int) -> float | None:
    """Half width of the interval of one spot's composition."""
    widths = section.extras.half_width
    known = widths is not None and np.isfinite(widths[0, gene])
    return round(float(widths[0, gene]), 3) if widths is not None and known else None


def _unlike(score: Values) -> str:
    """Bytes on the scale that every slide has."""
    return _base64(as_bytes(score[None], np.array([style.UNLIKE_LIMITS])))


def _picture(section: StoredPrediction, box: tuple[float, float, float, float]) -> str | None:
    """The slide under the spots as a JPEG data address, cropped to the view."""
    from PIL import Image

    if section.thumbnail is None:
        return None
    scale = section.thumbnail.px0_per_px
    left, right, top, bottom = (round(v / scale) for v in box)
    side = max(right - left, 1)
    height, width = section.thumbnail.image.shape[:2]
    canvas = np.full((side, side, 3), 255, dtype=np.uint8)
    x0, x1, y0, y1 = max(left, 0), min(right, width), max(top, 0), min(bottom, height)
    if x1 > x0 and y1 > y0:
        part = section.thumbnail.image[y0:y1, x0:x1][: side - (y0 - top), : side - (x0 - left)]
        canvas[y0 - top : y0 - top + len(part), x0 - left : x0 - left + part.shape[1]] = part
    picture = Image.fromarray(canvas)
    picture.thumbnail((_PICTURE_PX, _PICTURE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _base64(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
