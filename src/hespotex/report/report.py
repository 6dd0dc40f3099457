"""report.html: one self-contained page for a finished run; opens without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.evaluation import run_tables
from hespotex.evaluation.claims import EVIDENCE, Claims
from hespotex.evaluation.predictors import PREDICTORS
from hespotex.export.claim_words import claims_of
from hespotex.export.scales import COMPOSITION_COLOURS, EXPRESSION_COLOURS
from hespotex.export.shown import COMPOSITION_IS, LOG1P_IS, MEASURED_IS
from hespotex.plots.charts import calibration_svg, distribution_svg, predictor_css
from hespotex.plots.style import (
    UNLIKE_COLOURS,
    UNLIKE_LIMIT,
    UNLIKE_LIMITS,
    colour_map,
)
from hespotex.report import report_tables as tables
from hespotex.report.page import render_page, template_text
from hespotex.report.report_claims import claim_lines, claimed_genes, evidence_tiles
from hespotex.report.report_fine import fine_lines
from hespotex.report.report_intervals import (
    NO_INTERVALS,
    calibration_notes,
    median_half_widths,
    region_levels,
    region_rows,
    spread_lines,
)
from hespotex.report.report_level import level_notes, level_section
from hespotex.report.report_maps import MAP_BYTES, bytes_per_gene, mapped_genes, section_maps
from hespotex.report.report_sections import (
    dropped_rows,
    facts,
    failed_slides,
    slide_row,
    training_notes,
)
from hespotex.report.set_report import set_section
from hespotex.results.absent_table import absent_for_search
from hespotex.results.read import (
    GENE_COLUMNS,
    Run,
    accepted_notes,
    gene_table,
    read_run,
    section_scores,
)
from hespotex.storage.atomic import atomic_path
from hespotex.storage.run_folder import RunDir

_DIGITS: Final = {run_tables.MEAN_COUNT: 2, keys.N_PATIENTS: 0, keys.N_SECTIONS: 0}
_LEFT_OUT: Final = "genes of the model that are not predicted on this slide (--untested writes those without evidence, --all-genes all)"


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
    seen = _read_sections(run)
    genes = gene_table(run.genes, seen.genes)
    return render_page(
        "report.html.j2",
        more_css=predictor_css(),
        label={name: predictor.label for name, predictor in PREDICTORS.items()},
        **_first_words(run, seen, genes),
        **_scored(run),
        **_off_by(run, seen),
        **_drawn(run, seen, genes, map_bytes),
        **_origin(run, seen),
    )


def _first_words(run: Run, seen: _Seen, genes: pd.DataFrame) -> dict[str, Any]:
    """Title, claims, warnings and the first numbers."""
    patients = [patient for *_, patient in seen.facts]
    return {
        "title": tables.title(run, patients, sum(s[1] for s in seen.facts)),
        "claims": claim_lines(seen.claims),
        "composition_is": COMPOSITION_IS,
        "measured_is": MEASURED_IS if seen.measured else "",
        "log1p_is": LOG1P_IS,
        "headline": tables.opening_sentence(run, genes, measured=seen.measured),
        "found": bool(run.metrics.n_significant),
        "warnings": failed_slides(run.record)
        + run.metrics.sentences
        + training_notes(seen.records)
        + level_notes(seen.records)
        + accepted_notes(run.record),
        "tiles": evidence_tiles(seen.claims) + tables.tiles(run.metrics),
    }


def _scored(run: Run) -> dict[str, Any]:
    """Tables of scores beside the baselines."""
    metrics = run.metrics
    return {
        "scores": tables.score_rows(metrics),
        "score_columns": [heading for heading, _ in tables.SCORES.values()],
        "sizes": tables.size_rows(metrics),
        "size_columns": tables.SIZE_COLUMNS,
        "size_text": tables.SIZE_TEXT,
        "absent_text": tables.absent_text(metrics),
        "interval_text": tables.interval_text(metrics),
        "distributions": _distributions(run.genes),
        "folds": tables.fold_rows(metrics),
        "fold_text": tables.fold_text(metrics),
        "held_grades": tables.held_grade_rows(metrics),
        "level": level_section(metrics.level),
        "gene_sets": set_section(run.folder, metrics.gene_sets),
    }


def _off_by(run: Run, seen: _Seen) -> dict[str, Any]:
    """How far values may be off."""
    from markupsafe import Markup

    metrics = run.metrics
    chart = calibration_svg(metrics.calibration) if metrics.calibration else ""
    return {
        "calibration": Markup(chart),
        "coverage": tables.coverage_rows(metrics),
        "half_widths": median_half_widths(seen.half_widths),
        "rests_on": [] if metrics.mean else calibration_notes(seen.records),
        "no_intervals": NO_INTERVALS,
        "region_levels": region_levels(metrics),
        "region_rows": region_rows(metrics),
        "spread_lines": spread_lines(metrics),
    }


def _drawn(run: Run, seen: _Seen, genes: pd.DataFrame, map_bytes: int) -> dict[str, Any]:
    """Maps and the table of genes, with the script that shows them."""
    from markupsafe import Markup

    maps, mapped = _maps(run, genes[run_tables.GENE].tolist(), seen.facts, map_bytes)
    data = {"genes": _gene_columns(genes), "mapped": mapped, "sections": maps,
            "absent": absent_for_search(run.folder), "depth_label": PREDICTORS["depth_only"].label,
            **_colours()}  # fmt: skip
    return {
        "script": Markup(template_text("report.js")),
        "data": Markup(_safe_json(data)),
        "genes_claimed": keys.SCORE in genes,
        "grade_rule": tables.grade_rule(run.metrics, genes),
        "has_maps": bool(mapped),
        "fine": fine_lines(seen.records),
        "map_note": _map_note(len(mapped), len(genes)),
        "n_genes": f"{len(genes):,}",
    }


def _origin(run: Run, seen: _Seen) -> dict[str, Any]:
    """The slides, what was left out, and where all comes from."""
    record = seen.records[0] if seen.records else {}
    return {
        "slides": seen.slides,
        "evidence": EVIDENCE,
        "dropped": dropped_rows(seen.dropped, run.metrics, run.genes),
        "facts": facts(run, seen.records),
        "config": json.dumps(run.record.config, indent=2),
        "units": json.dumps(_plain(record.get("units", {})), indent=2),
    }


def _colours() -> dict[str, Any]:
    names = {
        "composition": COMPOSITION_COLOURS,
        "log1p": EXPRESSION_COLOURS,
        "unlike": UNLIKE_COLOURS,
    }
    return {
        "unlike": {"limits": UNLIKE_LIMITS, "limit": UNLIKE_LIMIT},
        "colours": {name: _colour_table(table) for name, table in names.items()},
    }


@dataclass(frozen=True)
class _Seen:
    """What the predictions of a run tell before any map is drawn.

    Attributes:
        facts: (id, spots, bytes per gene, patient) of each section.
        genes: what is claimed of every gene that is predicted somewhere.
        claims: of each section.
        measured: whether any section was measured.
        slides: rows of the table of slides.
        dropped: what was left out.
        records: uns["hespotex"] of each section.
        half_widths: (S, G) of each section that has intervals of composition.
    """

    facts: list[tuple[str, int, int, str]]
    genes: pd.DataFrame
    claims: list[tuple[str, Claims]]
    measured: bool
    slides: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    records: list[Mapping[str, Any]]
    half_widths: list[npt.NDArray[np.float32]]


def _read_sections(run: Run) -> _Seen:
    facts, slides, records, claims, measured = [], [], [], [], False
    genes: list[npt.NDArray[np.str_]] = []
    dropped: list[dict[str, Any]] = []
    half_widths = []
    for section in run.sections():
        name, record, n_genes = section.section_id, section.record, len(section.genes)
        facts.append((name, len(section.barcodes), bytes_per_gene(section), section.patient_id))
        claims.append((name, claims_of(section)))
        genes.append(section.genes)
        measured |= section.measured is not None
        records.append(record)
        if section.extras.half_width is not None:
            half_widths.append(section.extras.half_width)
        slides.append(slide_row(section))
        lost = {reason: int(count) for reason, count in record.get("dropped", {}).items()}
        left_out = int(record.get("n_panel_genes", n_genes)) - n_genes
        if left_out:
            lost[_LEFT_OUT] = left_out
        dropped += [{"section": name, "reason": r, "count": count} for r, count in lost.items()]
    told = claimed_genes([(g, c) for g, (_, c) in zip(genes, claims, strict=True)])
    return _Seen(facts, told, claims, measured, slides, dropped, records, half_widths)


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
        run_tables.PCC_COMPOSITION: "Composition PCC: what is known of the gene itself.",
        run_tables.PCC_LOG1P: "log1p PCC: rises with depth alone.",
    }
    result = []
    for score, caption in captions.items():
        tables = {
            p: genes[column].dropna().to_numpy(np.float64)
            for p in PREDICTORS
            if (column := run_tables.of_predictor(score, p)) in genes
        }
        result.append({"svg": Markup(distribution_svg(tables, caption)), "caption": caption})
    return result


def _gene_columns(genes: pd.DataFrame) -> dict[str, Any]:
    columns = []
    for name, label in GENE_COLUMNS.items():
        if name not in genes:
            continue
        values = genes[name].tolist()
        if name == keys.SCOPE:
            values = [scope.replace("_", " ") for scope in values]
        elif not run_tables.GENES.is_text(name):
            values = [None if np.isnan(v) else round(float(v), 4) for v in values]
        columns.append({"label": label, "digits": _DIGITS.get(name, 3), "values": values})
    return {"names": genes[run_tables.GENE].tolist(), "columns": columns}


def _map_note(n_mapped: int, n_genes: int) -> str:
    if n_mapped == n_genes:
        return f"All {n_genes:,} genes have maps here."
    return (
        f"{n_mapped:,} of {n_genes:,} genes have maps here, the best and an even choice of the others; "
        "the predictions' h5ad files hold all."
    )


def _colour_table(name: str) -> list[int]:
    table = colour_map(name)(np.linspace(0, 1, 256))[:, :3]
    return [int(v) for v in np.round(table * 255).ravel()]


def _safe_json(value: Any) -> str:
    """JSON that cannot end its script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
