"""Owns report.html: one self-contained page for a finished run; opens without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

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
)
from hespotex.export.set_report import set_section
from hespotex.export.style import (
    DIVERGING_COLOURS,
    EXPRESSION_COLOURS,
    PREDICTOR_COLOURS,
    PREDICTOR_NAMES,
)
from hespotex.runs import RunDir, atomic_path

SCORES: Final[Mapping[str, tuple[str, int, int]]] = {
    # heading, digits, +1 where more is better and -1 where less is
    "pcc_composition_mean": ("PCC share", 3, 1),
    "pcc_composition_abundant200": ("PCC share, 200 most abundant", 3, 1),
    "pcc_log1p_mean": ("PCC log1p", 3, 1),
    "pcc_log1p_top50": ("PCC log1p, best 50", 3, 1),
    "rmse_log1p": ("RMSE log1p", 3, -1),
}
_ORACLES: Final = {"depth_only", "neighbours"}
_CEILING: Final = "ceiling"
_NAMES: Final = {
    **PREDICTOR_NAMES,
    "train_mean": "train mean",
    "neighbours": "neighbours' measured",
    "nearest_patches": "patches that look alike",
    _CEILING: "ceiling set by counting noise",
}
_FOLD_TEXT: Final = {
    "patient": "Whole patients were held out: no section of a held-out patient was seen by any fit.",
    "section": "Single sections were held out; other sections of the same patient were in training.",
    "kfold": "Groups of patients were held out in turn.",
}
_NOUNS: Final = {
    "cross-validate": "Cross-validation on",
    "evaluate": "External validation on",
    "predict": "Prediction of",
}


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
    path = out or run.path / "report.html"
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
    sections, names, dropped, records = _read_sections(run)
    genes = gene_table(run.genes, names)
    maps, mapped = _maps(run, genes["gene"].tolist(), sections, map_bytes)
    data = {
        "genes": _gene_columns(genes),
        "mapped": mapped,
        "sections": maps,
        "z_limit": 2.5,
        "colours": {
            "expression": _colour_table(EXPRESSION_COLOURS),
            "diverging": _colour_table(DIVERGING_COLOURS),
            "depth": _colour_table("cividis"),
        },
    }
    templates = resources.files("hespotex.export") / "templates"
    calibration = run.metrics.get("calibration")
    record = records[0] if records else {}
    return environment.get_template("report.html.j2").render(
        css=Markup((templates / "report.css").read_text(encoding="utf-8")),
        script=Markup((templates / "report.js").read_text(encoding="utf-8")),
        data=Markup(_safe_json(data)),
        title=_title(run, sections),
        headline=_headline(run, genes),
        warnings=[*filter(None, [run.metrics.get("note")]), *accepted_notes(run.record)],
        tiles=_tiles(run, genes),
        scores=_scores(run.metrics),
        score_columns=[SCORES[s][0] for s in SCORES],
        has_intervals="intervals" in run.metrics,
        distributions=_distributions(run.genes),
        folds=_folds(run.metrics),
        fold_text=_FOLD_TEXT.get(str(run.metrics.get("folds_by", "")).split(":")[0], ""),
        calibration=Markup(calibration_svg(calibration)) if calibration else "",
        slides=_slides(run.metrics),
        gene_sets=set_section(run.folder, run.metrics),
        grade_rule=run.metrics.get("grade_rule", []),
        has_maps=bool(mapped),
        map_note=_map_note(len(mapped), len(genes)),
        n_genes=f"{len(genes):,}",
        dropped=dropped + _unscored(run.genes),
        facts=_facts(run, records),
        config=json.dumps(run.record.get("config", {}), indent=2),
        units=json.dumps(_plain(record.get("units", {})), indent=2),
    )


def _read_sections(
    run: Run,
) -> tuple[list[tuple[str, int, int, str]], list[str], list[dict[str, Any]], list[Any]]:
    """(id, spots, bytes per gene, patient) of each section, all genes, what was dropped, uns records."""
    facts, dropped, records = [], [], []
    names: dict[str, None] = {}
    for section in run.sections():
        facts.append(
            (
                section.section_id,
                len(section.barcodes),
                bytes_per_gene(section),
                section.patient_id,
            )
        )
        names |= dict.fromkeys(section.genes.tolist())
        records.append(section.record)
        for reason, count in section.record.get("dropped", {}).items():
            dropped.append({"section": section.section_id, "reason": reason, "count": int(count)})
    return facts, list(names), dropped, records


def _maps(
    run: Run, ranked: list[str], facts: Sequence[tuple[str, int, int, str]], map_bytes: int
) -> tuple[list[dict[str, Any]], list[int]]:
    per_gene = sum(size for _, _, size, _ in facts)
    chosen = mapped_genes(ranked, map_bytes // per_gene) if per_gene else []
    number = {name: k for k, name in enumerate(ranked)}
    indices = [number[g] for g in chosen]
    maps = [section_maps(section, chosen) for section in run.sections()] if chosen else []
    for item in maps:
        item["genes"] = [indices[k] for k in item["genes"]]
    return maps, indices


def _title(run: Run, sections: Sequence[tuple[str, int, int, str]]) -> str:
    verb = str(run.record.get("identity", {}).get("verb", ""))
    noun = _NOUNS.get(verb, "Run on")
    patients = len({patient for *_, patient in sections})
    spots = sum(n for _, n, _, _ in sections)
    return (
        f"{noun} {_count(len(sections), 'section')} of {_count(patients, 'patient')}, "
        f"{spots:,} spots"
    )


def _headline(run: Run, genes: pd.DataFrame) -> str:
    if run.metrics.get("headline"):
        return str(run.metrics["headline"])
    if "pcc_composition" not in genes or "ridge_pcc_composition" not in genes:
        return "Predicted expression; no measured values to compare with."
    model = run.metrics["mean"]["model"]
    scored = genes.dropna(subset=["pcc_composition", "ridge_pcc_composition"])
    better = int((scored.pcc_composition > scored.ridge_pcc_composition).sum())
    oracle = run.metrics["mean"].get("depth_only", {}).get("pcc_log1p_mean")
    beside = "" if oracle is None else f" (measured depth alone: {oracle:.3f})"
    return (
        f"Beyond depth, predicted and measured shares correlate at {_text(model['pcc_composition_mean'], 3)} "
        f"per gene on average; {better:,} of {len(scored):,} genes do better than with ridge regression. "
        f"On log1p(CPM) the mean is {_text(model['pcc_log1p_mean'], 3)}{beside}."
    )


def _tiles(run: Run, genes: pd.DataFrame) -> list[dict[str, str]]:
    mean = run.metrics.get("mean", {})
    tiles = []
    for score, (name, digits, _) in SCORES.items():
        value = mean.get("model", {}).get(score)
        if value is None or score == "pcc_log1p_top50":
            continue
        rival = "train_mean" if score == "rmse_log1p" else "ridge"
        beside = mean.get(rival, {}).get(score)
        note = "" if beside is None else f"{_NAMES[rival]} {beside:.{digits}f}"
        tiles.append({"value": f"{value:.{digits}f}", "name": name, "note": note})
    if "grade" in genes:
        counts = genes.grade.value_counts()
        good = int(counts.get("A", 0)) + int(counts.get("B", 0))
        rest = ", ".join(f"{counts[g]:,} {g}" for g in ("A", "B", "C", "D") if g in counts)
        tiles.append({"value": f"{good:,}", "name": "genes graded A or B", "note": rest})
    return tiles


def _scores(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    mean = metrics.get("mean", {})
    best = {}
    for score, (_, _, sign) in SCORES.items():
        fair = [
            v[score]
            for k, v in mean.items()
            if k not in {*_ORACLES, _CEILING} and v.get(score) is not None
        ]
        best[score] = sign * max(sign * v for v in fair) if fair else None
    rows = []
    for predictor, values in mean.items():
        cells = []
        for score, (_, digits, _) in SCORES.items():
            value = values.get(score)
            known = value is not None and predictor not in {*_ORACLES, _CEILING}
            cells.append(
                {
                    "value": _text(value, digits),
                    "span": _span(metrics, predictor, score, digits),
                    "best": known and value == best[score],
                }
            )
        note = "uses held-out counts" if predictor in _ORACLES else ""
        rows.append(
            {
                "key": predictor,
                "name": _NAMES.get(predictor, predictor),
                "note": note,
                "cells": cells,
            }
        )
    return rows


def _span(metrics: Mapping[str, Any], predictor: str, score: str, digits: int) -> str:
    interval = metrics.get("intervals", {}).get(predictor, {}).get(score)
    if interval is not None:
        return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    folds = [f["scores"].get(predictor, {}).get(score) for f in metrics.get("folds", ())]
    known = [v for v in folds if v is not None]
    if len(known) < 2:
        return ""
    return f"{min(known):.{digits}f} to {max(known):.{digits}f}"


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
            for p in PREDICTOR_COLOURS
            if f"{score_prefix(p)}{score}" in genes
        }
        result.append({"svg": Markup(distribution_svg(tables, caption)), "caption": caption})
    return result


def _folds(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for fold in metrics.get("folds", ()):
        model = fold["scores"]["model"]
        rows.append(
            {
                "number": fold["fold"],
                "held_out": ", ".join(fold["held_out"]),
                "train": ", ".join(fold["train"]),
                "n_spots": f"{fold['n_spots']:,}",
                "n_genes": f"{fold['n_genes']:,}",
                "share": _text(model.get("pcc_composition_mean"), 3),
                "log1p": _text(model.get("pcc_log1p_mean"), 3),
            }
        )
    return rows


def _slides(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for section in metrics.get("sections", ()):
        share, per_spot = section.get("ood_share"), section.get("pcc_per_spot", {})
        rows.append(
            {
                "section": section["section_id"],
                "patient": section["patient_id"],
                "share": "–" if share is None else f"{share:.0%}",
                "verdict": section.get("ood_verdict") or "–",
                "per_spot": _text(per_spot.get("model"), 3),
                "train_mean": _text(per_spot.get("train_mean"), 3),
            }
        )
    return rows


def _unscored(genes: pd.DataFrame) -> list[dict[str, Any]]:
    """Genes that vary in no spot, or that a section did not measure: counted, never scored as 0."""
    rows = []
    reasons = {
        "constant": (True, "genes without score: the same value in every spot"),
        "measured": (False, "genes without score: not measured in this section"),
    }
    for column, (wanted, reason) in reasons.items():
        if column not in genes:
            continue
        hit = genes[genes[column].astype(str) == str(wanted)]
        for section, count in hit.groupby("section_id", sort=False).size().items():
            rows.append({"section": section, "reason": reason, "count": int(count)})
    return rows


def _facts(run: Run, records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    record = records[0] if records else {}
    models = dict.fromkeys(str(r["model_id"]) for r in records if r.get("model_id"))
    facts = {
        "Models" if len(models) > 1 else "Model": " · ".join(models),
        "Profile": record.get("profile"),
        "Encoder": record.get("encoder"),
        "Patch sides": " · ".join(f"{v:g} µm" for v in np.ravel(record.get("sides_um", []))),
        "Seed": run.record.get("config", {}).get("seed"),
        "Time": " · ".join(f"{k} {v:.0f} s" for k, v in run.record.get("seconds", {}).items()),
        "Peak memory": _unit(run.record.get("peak_memory_mib"), "MiB"),
        "Versions": " · ".join(f"{k} {v}" for k, v in run.record.get("versions", {}).items()),
        "Content keys": " · ".join(
            f"{k} {v.get('key', '')[:12]}"
            for k, v in run.record.get("identity", {}).get("inputs", {}).items()
        ),
    }
    return [{"name": k, "value": str(v)} for k, v in facts.items() if v not in (None, "")]


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


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:,.0f} {unit}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
