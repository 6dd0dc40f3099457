"""Coverage of the intervals: nominal beside what is seen on sections that nobody calibrated on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.cases.accuracy import SPLITS
from benchmarks.data import machine, panel
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from benchmarks.synthetic import make_cohort

NAME = "coverage"
LEVELS = ("0.5", "0.8", "0.9", "0.95")
BAR_POINTS = 2.0
_WHERE = {
    "C-left-out": "same patient: C2, C3, C4 left out in turn",
    "C-to-B4": "another patient: C to B4",
    "B4-to-C": "another patient: B4 to C",
    "MOB4-to-MOB9": "another animal: MOB4 to MOB9",
    "MOB9-to-MOB4": "another animal: MOB9 to MOB4",
    "exchangeable": "exchangeable: made sections of one kind",
}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    real = {
        name: {"data": data, "train": list(train), "held_out": list(held_out)}
        for name, (data, train, held_out) in SPLITS.items()
        if context.has(data) and panel(context, data)
    }
    size = {
        "seeds": 100 if context.full else 50,
        "train": 5,
        "held_out": 6,
        "spots": 200,
        "genes": 200,
    }
    return {"exchangeable": size, **real}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    with timed() as spent:
        seen = (
            _on_real(parameters, context) if "data" in parameters else _on_made(parameters, context)
        )
    table = np.array([[row[level] for level in LEVELS] for row in seen])
    # Sections of one seed share their calibration: a seed is one unit.
    units = table.reshape(parameters.get("seeds", len(table)), -1, len(LEVELS)).mean(axis=1)
    error = units.std(axis=0, ddof=1) / np.sqrt(len(units)) if len(units) > 1 else [0.0] * 4
    return {
        "error": dict(zip(LEVELS, map(float, error), strict=True)),
        "seen": dict(zip(LEVELS, table.mean(axis=0).tolist(), strict=True)),
        "lowest": dict(zip(LEVELS, table.min(axis=0).tolist(), strict=True)),
        "highest": dict(zip(LEVELS, table.max(axis=0).tolist(), strict=True)),
        "sections": len(seen),
        **spent.as_dict(),
    }


def _on_real(parameters: Mapping[str, Any], context: Context) -> list[dict[str, float]]:
    from hespotex.config import RunConfig
    from hespotex.pipeline import cross_validate, evaluate, train

    data, where = parameters["data"], machine(context)
    config = RunConfig(seed=0).with_genes(panel(context, data) or [])
    manifest = context.data / data / "sections.csv"
    folder = context.work / NAME / "-".join([*parameters["train"], "to", *parameters["held_out"]])
    shutil.rmtree(folder, ignore_errors=True)
    held_out = parameters["held_out"]
    if not parameters["train"]:
        result = cross_validate(manifest, folder, config=config, sections=held_out, machine=where)
    else:
        model = train(
            manifest, folder / "model.hespotex", config=config, sections=parameters["train"],
            validate=False, machine=where,
        )  # fmt: skip
        result = evaluate(model, manifest, folder / "run", sections=held_out, machine=where)
    return [section["coverage"] for section in result.metrics["sections"]]


def _on_made(parameters: Mapping[str, Any], context: Context) -> list[dict[str, float]]:
    from hespotex.config import RunConfig
    from hespotex.sections.splits import Fold
    from hespotex.validation.cross_validation import run_fold

    n_train, n_all = parameters["train"], parameters["train"] + parameters["held_out"]
    seen = []
    for seed in range(parameters["seeds"]):
        cohort = make_cohort([parameters["spots"]] * n_all, parameters["genes"], dim=16, seed=seed)
        names = cohort.items[0].section.genes
        config = RunConfig(seed=seed).with_genes([] if names is None else names.tolist())
        ids = [item.section.section_id for item in cohort.items]
        outcome = run_fold(
            cohort,
            Fold(tuple(ids[n_train:]), tuple(ids[:n_train])),
            config,
            machine=machine(context),
        )
        for held in outcome.held_out:
            assert held.coverage is not None
            seen.append(dict(zip(LEVELS, held.coverage.mean(axis=1).tolist(), strict=True)))
    return seen


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    for name, r in found.items():
        seen = " / ".join(f"{r['seen'][level]:.1%}" for level in LEVELS)
        span = ", ".join(
            f"{r['lowest'][level]:.0%} to {r['highest'][level]:.0%}" for level in LEVELS
        )
        exchangeable = name == "exchangeable"
        if exchangeable:
            seen += " +- " + " / ".join(f"{r['error'][level]:.1%}" for level in LEVELS)
        beyond = max(
            abs(r["seen"][level] - float(level)) - 2 * r["error"][level] for level in LEVELS
        )
        rows.append(
            Row(
                _WHERE[name],
                seen,
                f"{r['sections']} section{'' if r['sections'] == 1 else 's'}: {span}",
                f"within {BAR_POINTS:g} points + 2 errors" if exchangeable else "",
                100 * beyond <= BAR_POINTS if exchangeable else None,
            )
        )
    notes = (
        "Share of measured log1p values inside the interval, mean over genes, then sections; intervals calibrated on left-out "
        "training sections (blocks where there is one). +- is the standard error over seeds. Coverage is promised for exchangeable sections alone.",
    )
    return [
        Table(
            "Coverage",
            ("sections", "nominal 50 / 80 / 90 / 95 %", "single sections", "bar"),
            tuple(rows),
            notes,
        )
    ]
