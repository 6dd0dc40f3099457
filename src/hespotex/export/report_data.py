"""Owns what the report says, gathered from a finished run folder; it draws nothing.

Everything that a run may lack (scores, intervals, grades, calibration) is left out where it is lacking.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.errors import RunError
from hespotex.export.h5ad import StoredPrediction, read_prediction
from hespotex.export.plots import standard_scores
from hespotex.export.style import column_limits, robust_limits, view_box
from hespotex.expression import pearson_residuals, spot_totals
from hespotex.runs import RunDir

Values = npt.NDArray[np.floating[Any]]

# Maps of every gene go in while they fit; as base64 they take a third more.
MAP_BYTES: Final = 4_500_000
_PICTURE_PX: Final = 560
_NO_VALUE: Final = 255
_Z_LIMIT: Final = 2.5

GENE_COLUMNS: Final[Mapping[str, str]] = {
    "grade": "grade",
    "pcc_composition": "PCC share",
    "ridge_pcc_composition": "ridge",
    "pcc_partial": "given depth",
    "q_value": "q-value",
    "ceiling_share": "of its ceiling",
    "pcc_log1p": "PCC log1p",
    "depth_only_pcc_log1p": "depth alone",
    "mean_count": "counts a spot",
}
# What the page says of the chosen gene in the chosen section; columns of genes.csv.
SECTION_COLUMNS: Final = (
    "pcc_composition", "pcc_composition_lower", "pcc_composition_upper", "pcc_partial", "null_z",
    "ceiling_composition", "pcc_log1p", "pcc_log1p_lower", "pcc_log1p_upper", "depth_only_pcc_log1p",
    "rmse_log1p", "coverage", "deviance_explained", "moran_measured", "moran_predicted", "ssim",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run as its folder tells it.

    Attributes:
        record: run.json.
        metrics: metrics.json; empty where the run did not score.
        genes: genes.csv; empty where the run did not score.
        section_ids: of predictions/, in the order of the folds, else by name.
        folder: of the run.
    """

    record: Mapping[str, Any]
    metrics: Mapping[str, Any]
    genes: pd.DataFrame
    section_ids: tuple[str, ...]
    folder: RunDir

    def sections(self) -> Iterator[StoredPrediction]:
        """Read the predictions, one at a time."""
        for section_id in self.section_ids:
            yield read_prediction(self.folder.predictions / f"{section_id}.h5ad")


def read_run(folder: RunDir) -> Run:
    """Read the small files of a finished run.

    Raises:
        RunError: the folder holds no run, or one that is not finished.
    """
    record = _json(folder.run_json)
    if record is None or record.get("status") != "finished":
        raise RunError(
            f"expected a finished run in {folder.path}, found "
            f"{'an unfinished one' if record else 'no run.json'}; finish it by running its command again"
        )
    metrics = _json(folder.path / "metrics.json") or {}
    table = folder.path / "genes.csv"
    genes = _read_genes(table) if table.exists() else pd.DataFrame()
    present = {path.stem for path in folder.predictions.glob("*.h5ad")}
    ordered = [i for fold in metrics.get("folds", ()) for i in fold["held_out"] if i in present]
    ids = dict.fromkeys([*ordered, *sorted(present)])
    return Run(record, metrics, genes, tuple(ids), folder)


def accepted_notes(record: Mapping[str, Any]) -> list[str]:
    """What the preflight refused of a run's sections and the user accepted, one sentence each."""
    inputs = record.get("identity", {}).get("inputs", {})
    return [
        f"Section {section_id}: accepted by the user against the preflight: {said}."
        for section_id, facts in inputs.items()
        for said in facts.get("accepted", ())
    ]


def _json(path: Any) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"expected JSON in {path}, found: {error}") from error
    return value if isinstance(value, dict) else None


def _read_genes(path: Any) -> pd.DataFrame:
    columns = pd.read_csv(path, nrows=0).columns
    text = ("section_id", "gene", "grade")
    return pd.read_csv(
        path,
        dtype={name: str for name in text if name in columns},
        keep_default_na=False,
        na_values={name: [""] for name in columns if name not in text},
    )


def gene_table(genes: pd.DataFrame, grades: Mapping[str, str]) -> pd.DataFrame:
    """One row a gene: each score's mean over the sections that have one; best composition first.

    Args:
        genes: genes.csv, may be empty.
        grades: of the genes of the predictions (or empty texts), for a run without scores: best grade first.
    """
    if genes.empty:
        table = pd.DataFrame({"gene": list(grades), "grade": list(grades.values())})
        if not any(grades.values()):
            return table[["gene"]]
        return table.sort_values("grade", kind="stable").reset_index(drop=True)
    grouped = genes.groupby("gene", sort=False)
    table = pd.DataFrame({"gene": list(grouped.groups)})
    for name in GENE_COLUMNS:
        if name == "grade" and name in genes:
            table[name] = grouped[name].first().to_numpy()
        elif name in genes:
            table[name] = grouped[name].mean().to_numpy()
    by = "pcc_composition" if "pcc_composition" in table else "gene"
    return table.sort_values(by, ascending=by == "gene", kind="stable").reset_index(drop=True)


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
    layers, limits, widths = _layers(section, columns)
    left, right, top, bottom = view_box(section)
    side = right - left
    xy = (section.xy_px0 - [left, top]) / side
    score = section.extras.ood_score
    return {
        "id": section.section_id,
        "patient": section.patient_id,
        "n": len(section.barcodes),
        "diameter": section.spot_diameter_um / section.mpp / side,
        "side_um": side * section.mpp,
        "picture": _picture(section, (left, right, top, bottom)),
        "xy": _base64(np.round(np.clip(xy, 0, 1) * 65535).astype("<u2")),
        "genes": [i for i, _ in kept],
        "kinds": _kinds(section),
        "limits": np.round(limits, 4).tolist(),
        "widths": np.round(widths, 4).tolist(),
        "values": _base64(layers),
        "trust": None if score is None else _trust(score),
    }


def section_scores(
    genes: pd.DataFrame, section_id: str, names: Sequence[str]
) -> dict[str, list[float | None]]:
    """Scores of the mapped genes in one section, by column of genes.csv; empty for a run without scores."""
    if genes.empty:
        return {}
    rows = genes[genes["section_id"] == section_id].drop_duplicates("gene").set_index("gene")
    rows = rows.reindex(list(names))
    return {
        name: [None if np.isnan(v) else round(float(v), 3) for v in rows[name]]
        for name in SECTION_COLUMNS
        if name in rows
    }


def _kinds(section: StoredPrediction) -> list[str]:
    kinds = ["predicted", "predicted_share"]
    if section.measured is not None:
        kinds = ["measured", "predicted", "measured_share", "predicted_share"]
    return kinds + (["width"] if section.extras.lower is not None else [])


def _layers(
    section: StoredPrediction, columns: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.uint8], Values, Values]:
    """Bytes (genes, kinds, n), colour limits of log1p (genes, 2), and of the interval's width."""
    tables: dict[str, Values] = {
        "predicted": section.log1p[:, columns],
        "predicted_share": standard_scores(section.composition[:, columns]),
    }
    if section.measured is not None and section.measured_counts is not None:
        tables["measured"] = section.measured[:, columns]
        residuals = pearson_residuals(_with_rest(section))[:, columns]
        residuals[np.isnan(tables["measured"])] = np.nan
        tables["measured_share"] = standard_scores(residuals)
    if section.extras.lower is not None and section.extras.upper is not None:
        width = (section.extras.upper - section.extras.lower)[:, columns]
        # Unbounded where no left-out training section measured the gene: no width to draw.
        tables["width"] = np.where(np.isfinite(width), width, np.nan)
    shared = [tables[k] for k in ("measured", "predicted") if k in tables]
    limits = column_limits(np.concatenate(shared))
    widths = column_limits(tables["width"]) if "width" in tables else np.empty((0, 2))
    widths[:, 0] = 0.0  # from none: widths that hardly differ must look so
    z_limits = np.tile([-_Z_LIMIT, _Z_LIMIT], (len(columns), 1))
    bounds = {"measured": limits, "predicted": limits, "width": widths}
    stacked = [_as_bytes(tables[k].T, bounds.get(k, z_limits)) for k in _kinds(section)]
    return np.stack(stacked, axis=1), limits, widths


def _with_rest(section: StoredPrediction) -> sparse.csr_matrix:
    """(n, G + 1) measured counts and, last, those of panel genes that were not written: shares are of the whole."""
    counts = sparse.csr_matrix(section.measured_counts)
    if section.measured_depth is None:
        return counts
    rest = np.maximum(section.measured_depth - spot_totals(counts), 0)
    return sparse.hstack([counts, sparse.csr_matrix(rest[:, None])], format="csr")


def _as_bytes(values: Values, limits: Values) -> npt.NDArray[np.uint8]:
    """(g, n) to 0..254 between each row's limits; 255 where there is no value."""
    if not len(values):
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = limits[:, :1], limits[:, 1:]
    scaled = np.clip((values - low) / (high - low), 0, 1) * 254
    known = np.isfinite(values)
    return np.where(known, np.round(np.where(known, scaled, 0)), _NO_VALUE).astype(np.uint8)


def _trust(score: Values) -> dict[str, Any]:
    limits = robust_limits([score], 0, 100)
    return {
        "limits": [round(v, 4) for v in limits],
        "values": _base64(_as_bytes(score[None], np.array([limits]))),
    }


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
