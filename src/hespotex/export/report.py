"""Owns report.html: one self-contained page for a finished run; opens without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex.export import report_tables as tables
from hespotex.export.charts import calibration_svg, distribution_svg
from hespotex.export.plots import score_prefix
from hespotex.export.report_data import (
    GENE_COLUMNS,
    MAP_BYTES,
    Run,
    accepted_notes,
    bytes_per_gene,
    gene_table,
    mapped_genes,
    read_run,
    section_maps,
    section_scores,
)
from hespotex.export.set_report import set_section
from hespotex.export.style import DIVERGING_COLOURS, EXPRESSION_COLOURS
from hespotex.runs import RunDir, atomic_path

# Predictors whose scores over all genes are drawn, in this order.
_DRAWN: Final = ("model", "ridge", "nearest_patches", "predicted_depth_only", "depth_only",
                 "neighbours")  # fmt: skip


def write_report(run: RunDir, out: Path | None = None, *, map_bytes: int = MAP_BYTES) -> Path:
    """Write one page with scores, folds, maps, all genes and provenance of a finished run.

    Args:
        run: folder of cross-validate, evaluate or predict.
        out: the page; default report.html in that folder.
        map_bytes: room for maps; genes beyond it are listed without maps.

    Returns:
        The path that was written.

    Raises:
        RunError: no finished run lies there, or a file of it is damaged.
    """
    path = out or run.report
    page = render_report(read_run(run), map_bytes=map_bytes)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render_report(run: Run, *, map_bytes: int = MAP_BYTES) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("hespotex.export"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    seen = _read_sections(run)
    sections, records = seen.facts, seen.records
    genes = gene_table(run.genes, seen.grades)
    maps, mapped = _maps(run, genes["gene"].tolist(), sections, map_bytes)
    data = {"genes": _gene_columns(genes), "mapped": mapped, "sections": maps, **_colours()}
    templates = resources.files("hespotex.export") / "templates"
    calibration = run.metrics.get("calibration")
    record = records[0] if records else {}
    return environment.get_template("report.html.j2").render(
        css=Markup((templates / "report.css").read_text(encoding="utf-8")),
        script=Markup((templates / "report.js").read_text(encoding="utf-8")),
        data=Markup(_safe_json(data)),
        title=tables.title(run, [patient for *_, patient in sections], sum(s[1] for s in sections)),
        headline=tables.headline(run, genes, measured=seen.measured),
        found=bool(run.metrics.get("n_significant")),
        warnings=tables.notes(run.metrics)
        + tables.training_notes(records)
        + accepted_notes(run.record),
        tiles=tables.tiles(run.metrics, genes),
        scores=tables.score_rows(run.metrics),
        score_columns=[heading for heading, _ in tables.SCORES.values()],
        absent_text=tables.absent_text(run.metrics),
        interval_text=tables.interval_text(run.metrics),
        distributions=_distributions(run.genes),
        folds=tables.fold_rows(run.metrics),
        fold_text=tables.fold_text(run.metrics),
        calibration=Markup(calibration_svg(calibration)) if calibration else "",
        coverage=tables.coverage_rows(run.metrics),
        held_grades=tables.held_grade_rows(run.metrics),
        slides=tables.slide_rows(run.metrics.get("sections") or seen.slides),
        gene_sets=set_section(run.folder, run.metrics),
        grade_rule=tables.grade_rule(run.metrics, genes),
        has_maps=bool(mapped),
        map_note=_map_note(len(mapped), len(genes)),
        n_genes=f"{len(genes):,}",
        dropped=tables.dropped_rows(seen.dropped, run.metrics, run.genes),
        facts=tables.facts(run, records),
        config=json.dumps(run.record.get("config", {}), indent=2),
        units=json.dumps(_plain(record.get("units", {})), indent=2),
    )


def _colours() -> dict[str, Any]:
    tables_of_bytes = {
        "expression": EXPRESSION_COLOURS,
        "diverging": DIVERGING_COLOURS,
        "depth": "cividis",
    }
    return {
        "z_limit": 2.5,
        "colours": {name: _colour_table(table) for name, table in tables_of_bytes.items()},
    }


@dataclass(frozen=True)
class _Seen:
    """What the predictions of a run tell before any map is drawn.

    Attributes:
        facts: (id, spots, bytes per gene, patient) of each section.
        grades: of every gene that is predicted somewhere; empty where a file holds none.
        measured: whether any section was measured.
        slides: section, patient, spots, verdict and share of unusual spots, as records of a scored run have them.
        dropped: what was left out.
        records: uns["hespotex"] of each section.
    """

    facts: list[tuple[str, int, int, str]]
    grades: dict[str, str]
    measured: bool
    slides: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    records: list[Mapping[str, Any]]


def _read_sections(run: Run) -> _Seen:
    facts, slides, records, measured = [], [], [], False
    grades: dict[str, str] = {}
    dropped: list[dict[str, Any]] = []
    for section in run.sections():
        name, record, ood = section.section_id, section.record, section.extras.ood
        n_spots, n_genes = len(section.barcodes), len(section.genes)
        facts.append((name, n_spots, bytes_per_gene(section), section.patient_id))
        own = section.extras.grades or [""] * n_genes
        grades.update(zip(section.genes.tolist(), own, strict=True))
        measured |= section.measured is not None
        records.append(record)
        slides.append(
            {
                "section_id": name,
                "patient_id": section.patient_id,
                "n_spots": n_spots,
                "ood_share": None if ood is None else float(ood.mean()),
                "ood_verdict": record.get("ood_verdict"),
            }
        )
        lost = {reason: int(count) for reason, count in record.get("dropped", {}).items()}
        left_out = int(record.get("n_panel_genes", n_genes)) - n_genes
        if left_out:
            lost["genes of the model that are not graded A to C (--all-genes writes them)"] = (
                left_out
            )
        dropped += [{"section": name, "reason": r, "count": count} for r, count in lost.items()]
    return _Seen(facts, grades, measured, slides, dropped, records)


def _maps(
    run: Run, ranked: list[str], facts: Sequence[tuple[str, int, int, str]], map_bytes: int
) -> tuple[list[dict[str, Any]], list[int]]:
    per_gene = sum(size for _, _, size, _ in facts)
    chosen = mapped_genes(ranked, map_bytes // per_gene) if per_gene else []
    number = {name: k for k, name in enumerate(ranked)}
    indices = [number[g] for g in chosen]
    maps = []
    for section in run.sections() if chosen else ():
        item = section_maps(section, chosen)
        item["scores"] = section_scores(
            run.genes, section.section_id, [chosen[k] for k in item["genes"]]
        )
        item["genes"] = [indices[k] for k in item["genes"]]
        maps.append(item)
    return maps, indices


def _distributions(genes: pd.DataFrame) -> list[dict[str, Any]]:
    from markupsafe import Markup

    if genes.empty:
        return []
    captions = {
        "pcc_composition": "PCC of the share of the spot's total: what is known of the gene itself.",
        "pcc_log1p": "PCC of log1p(CPM): rises with depth alone.",
    }
    result = []
    for score, caption in captions.items():
        tables = {
            p: genes[f"{score_prefix(p)}{score}"].dropna().to_numpy(np.float64)
            for p in _DRAWN
            if f"{score_prefix(p)}{score}" in genes
        }
        result.append({"svg": Markup(distribution_svg(tables, caption)), "caption": caption})
    return result


def _gene_columns(genes: pd.DataFrame) -> dict[str, Any]:
    columns = []
    for name, label in GENE_COLUMNS.items():
        if name not in genes:
            continue
        values = genes[name]
        listed = (
            values.tolist()
            if name == "grade"
            else [None if np.isnan(v) else round(float(v), 4) for v in values]
        )
        columns.append(
            {"label": label, "digits": 2 if name == "mean_count" else 3, "values": listed}
        )
    return {"names": genes["gene"].tolist(), "columns": columns}


def _map_note(n_mapped: int, n_genes: int) -> str:
    if n_mapped == n_genes:
        return f"All {n_genes:,} genes have maps here."
    return (
        f"{n_mapped:,} of {n_genes:,} genes have maps here, the best and an even choice of the others; "
        "the predictions' h5ad files hold all."
    )


def _colour_table(name: str) -> list[int]:
    from matplotlib import colormaps

    table = colormaps[name](np.linspace(0, 1, 256))[:, :3]
    return [int(v) for v in np.round(table * 255).ravel()]


def _safe_json(value: Any) -> str:
    """JSON that cannot end its script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
