"""Which genes are predicted: genes that reach A to C by the rule of the panel, with the time and memory that it takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.data import C, machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import peak_memory_gb, timed

NAME = "panel"
DATA = {
    "her2st": ("her2st", C),
    "patients": ("her2st", ("B4", *C)),
    "mob": ("mob", ("MOB4", "MOB9")),
}
RULES = {
    "variable": ["panel.kind=hvg"],
    "10": ["panel.min_spot_fraction=0.10"],
    "5": ["panel.min_spot_fraction=0.05"],
    "1": ["panel.min_spot_fraction=0.01"],
}
# Named in every text on HER2+ breast cancer, and not among the most variable genes.
WANTED = ("ERBB2", "KRT19", "COL1A1", "CD74", "IGKC")
SCORES = ("pcc_log1p_mean", "pcc_composition_abundant200")
_WHERE = {
    "her2st": "her2st C2, C3, C4 left out in turn (the same patient in training)",
    "patients": "her2st B4 and C2, C3, C4, patients left out in turn",
    "mob": "olfactory bulb, animals left out in turn",
}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {
        f"{data}-{rule}": {"data": data, "rule": rule}
        for data, (folder, _) in DATA.items()
        if context.has(folder)
        for rule in RULES
        if data != "patients" or rule in {"variable", "10"}
    }


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import RunConfig
    from hespotex.pipeline import cross_validate
    from hespotex.progress import Silent
    from hespotex.stages import encode, read_sections

    name, ids = DATA[parameters["data"]]
    config = RunConfig.from_values({}, RULES[parameters["rule"]])
    where, folder = machine(context), context.work / "panel"
    manifest = context.data / name / "sections.csv"
    encode(read_sections(manifest, ids, Silent()), config, where, Silent())  # the features, once
    shutil.rmtree(folder, ignore_errors=True)
    with timed() as spent:
        found = cross_validate(manifest, folder, config=config, sections=ids, machine=where)
    predicted = {gene for path in folder.glob("predictions/*.h5ad") for gene in _genes(path)}
    shutil.rmtree(folder, ignore_errors=True)
    scope = found.metrics["scope"]
    return {
        "scope": scope,
        "scores": {
            predictor: {score: found.metrics["mean"][predictor][score] for score in SCORES}
            for predictor in ("model", "ridge")
        },
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
                f"log1p {_beside(r, SCORES[0])}, composition {_beside(r, SCORES[1])}",
                note=f"with {', '.join(r['wanted'])}" if r["wanted"] else "",
            )
        )
    notes = (
        "Mean PCC over genes (ridge on the same features): log1p of all, composition of the 200 most abundant. "
        "Genes: of all folds together. Everything that cross-validate does, with features at hand; memory is the peak of the "
        "whole process.",
    )
    return [
        Table(
            "Which genes are predicted",
            ("rule of the panel", "genes", "cost", "scores"),
            tuple(rows),
            notes,
        )
    ]


def _beside(result: Mapping[str, Any], score: str) -> str:
    scores = result["scores"]
    return f"{scores['model'][score]:.3f} ({scores['ridge'][score]:.3f})"
