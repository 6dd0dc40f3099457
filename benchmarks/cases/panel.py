"""Which genes are predicted: genes that reach A to C by the rule of the panel, with the time and memory that it takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.data import C, machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import peak_memory_gb, timed

NAME = "panel"
DATA = {"her2st": C, "mob": ("MOB4", "MOB9")}
RULES = {
    "variable": ["panel.kind=hvg"],
    "10": ["panel.min_spot_fraction=0.10"],
    "5": ["panel.min_spot_fraction=0.05"],
    "1": ["panel.min_spot_fraction=0.01"],
}
# Named in every text on HER2+ breast cancer, and not among the most variable genes.
WANTED = ("ERBB2", "KRT19", "COL1A1", "CD74", "IGKC")
_WHERE = {
    "her2st": "her2st C2, C3, C4 left out in turn (the same patient in training)",
    "mob": "olfactory bulb, animals left out in turn",
}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {
        f"{data}-{rule}": {"data": data, "rule": rule}
        for data in DATA
        if context.has(data)
        for rule in RULES
    }


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import RunConfig
    from hespotex.pipeline import cross_validate, encode, read_sections
    from hespotex.progress import Silent

    data, config = parameters["data"], RunConfig.from_values({}, RULES[parameters["rule"]])
    where, folder = machine(context), context.work / "panel"
    manifest, ids = context.data / data / "sections.csv", DATA[data]
    encode(read_sections(manifest, ids, Silent()), config, where, Silent())  # the features, once
    shutil.rmtree(folder, ignore_errors=True)
    with timed() as spent:
        found = cross_validate(manifest, folder, config=config, sections=ids, machine=where)
    predicted = {gene for path in folder.glob("predictions/*.h5ad") for gene in _genes(path)}
    shutil.rmtree(folder, ignore_errors=True)
    scope = found.metrics["scope"]
    return {
        "scope": scope,
        "grades": dict(found.metrics["by_scope"][scope]["grades"]),
        "n_genes": len(predicted),
        "wanted": [gene for gene in WANTED if gene in predicted],
        "spent": spent.as_dict(),
        "peak_gb": peak_memory_gb(),
    }


def _genes(path: Any) -> list[str]:
    from hespotex.export.h5ad_chunks import stored_genes

    return list(stored_genes(path))


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    for part, r in found.items():
        data, _, rule = part.partition("-")
        asked = "the 1,000 most variable of a section" if rule == "variable" else "all"
        share = "10" if rule == "variable" else rule
        grades = r["grades"]
        good = sum(grades.get(grade, 0) for grade in "ABC")
        rows.append(
            Row(
                f"{_WHERE[data]}: {asked} seen in {share} % of the training spots",
                f"{r['n_genes']:,} genes, {good:,} graded A to C ({grades.get('A', 0):,} A, {grades.get('B', 0):,} B, "
                f"{grades.get('C', 0):,} C)",
                f"{r['spent']['wall_s']:.0f} s wall, {r['spent']['core_s']:.0f} core-s, {r['peak_gb']:.2f} GB",
                note=f"with {', '.join(r['wanted'])}" if r["wanted"] else "",
            )
        )
    notes = (
        "Genes: of all folds together. Everything that cross-validate does, with features at hand; memory is the peak of the "
        "whole process.",
    )
    return [
        Table(
            "Which genes are predicted",
            ("rule of the panel", "genes", "cost", "bar"),
            tuple(rows),
            notes,
        )
    ]
