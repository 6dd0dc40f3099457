"""Evaluation of 10 sections x 4,000 spots x 5,000 genes: scores, null, bootstrap, noise ceiling, verdict over sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Context, Row, Table
from benchmarks.measure import added, peak_memory_gb, scaled, time_of
from benchmarks.synthetic import make_cohort

NAME = "evaluation"
BAR_MINUTES, BAR_GB = 3.0, 4.0
SECTIONS = 10


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {"sections": {"measured": SECTIONS if context.full else 2, "spots": 4000, "genes": 5000}}


def run(parameters: Mapping[str, Any], _context: Context) -> dict[str, Any]:
    import pandas as pd

    from hespotex.evaluation.evidence import judge_genes, section_evidence
    from hespotex.genes.panel import GenePanel, log1p_cpm, pearson_residuals
    from hespotex.models.types import Prediction

    spots, genes = parameters["spots"], parameters["genes"]
    tables, spent = [], []
    for number in range(parameters["measured"]):
        item = make_cohort([spots], genes, dim=1, seed=number).items[0]
        names = item.section.genes
        panel = GenePanel(tuple(names.tolist() if names is not None else ()))
        counts = panel.counts(item.section)
        rng = np.random.default_rng(number)
        noise = rng.normal(0, 3, (spots, genes)).astype(np.float32)
        prediction = Prediction(
            log1p_cpm(counts.counts) + noise,
            pearson_residuals(counts.counts) + noise,
            np.full(spots, 1000, np.float32),
        )
        del noise
        total = np.asarray(counts.counts.sum(axis=0), float).ravel() + 1

        def judge(prediction=prediction, counts=counts, item=item, total=total):  # type: ignore[no-untyped-def]
            evidence = section_evidence(prediction, counts, item.section.xy_um, total / total.sum())
            return evidence, _scores(prediction, counts, total)

        (evidence, depth), seconds = time_of(judge)
        spent.append(seconds)
        tables.append(
            pd.DataFrame(
                {
                    "section_id": f"S{number}",
                    "gene": panel.genes,
                    "depth_only_pcc_composition": depth,
                    "coverage": 0.9,
                    "pcc_composition": evidence.pcc_partial,
                    **evidence.columns(),
                }
            )
        )
    patients = {f"S{i}": f"P{i}" for i in range(len(tables))}
    _, verdict = time_of(lambda: judge_genes(pd.concat(tables), patients, patients, nominal=0.9))
    section = scaled(added(*spent), 1 / len(spent))
    return {
        "spots": spots,
        "genes": genes,
        "measured": len(spent),
        "per_section": section,
        "verdict": verdict,
        "all": added(scaled(section, SECTIONS), verdict),
        "peak_gb": peak_memory_gb(),
    }


def _scores(prediction: Any, counts: Any, total: np.ndarray) -> np.ndarray:
    """The model's scores and depth's, as a fold computes them; depth's composition PCC is returned."""
    from hespotex.evaluation.baselines import depth_only
    from hespotex.evaluation.scores import Targets, score_section

    abundant = np.argsort(-total)[:200]
    args = (Targets.of(counts.counts, counts.measured), abundant)
    score_section(prediction.log1p, prediction.composition, *args, nan_as_zero=False, in_units=True)
    depth = depth_only(counts.counts)
    return score_section(depth, depth, *args, nan_as_zero=False, in_units=False).pcc_composition


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    r = found["sections"]
    minutes = {k: v / 60 for k, v in r["all"].items()}
    how = (
        "measured"
        if r["measured"] == SECTIONS
        else f"{r['measured']} sections measured, times {SECTIONS / r['measured']:g}"
    )
    rows = (
        Row(
            f"evaluate {SECTIONS} sections x {r['spots']:,} spots x {r['genes']:,} genes, {context.threads} cores",
            f"{minutes['wall_s']:.1f} min wall, {minutes['core_s']:.1f} core-min",
            "",
            f"< {BAR_MINUTES:g} min",
            minutes["wall_s"] < BAR_MINUTES,
            f"null, bootstrap, ceiling, Moran, SSIM, scores of model and depth, verdict over sections; {how}",
        ),
        Row("  peak memory", f"{r['peak_gb']:.1f} GB", "", f"< {BAR_GB:g} GB", r["peak_gb"] < BAR_GB,
            "counts and predictions of one section at a time, as a run holds them"),
    )  # fmt: skip
    return [Table("Evaluation", ("what", "ours", "reference", "bar"), rows)]
