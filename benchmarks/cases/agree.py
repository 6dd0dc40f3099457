"""Adjacent sections C2, C3, C4: predicted by a model of another patient, B4, and beside it by models that trained on one another."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed

if TYPE_CHECKING:
    from hespotex.analysis.agree import PairResult

NAME = "agree"
SECTIONS = ("C2", "C3", "C4")
OTHER, SAME = "other_patient", "trained_on_it"
PAIRS = ("C2:C3", "C3:C4", "C2:C4")


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {"her2st": {"trained_on": "B4"}} if context.has("her2st") else {}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.analysis.agree import agree
    from hespotex.config import RunConfig
    from hespotex.pipeline import cross_validate, evaluate, train

    where, folder = machine(context), context.work / NAME
    shutil.rmtree(folder, ignore_errors=True)
    manifest, model = context.data / "her2st" / "sections.csv", folder / "model.hespotex"
    found: dict[str, list[PairResult]] = {}
    with timed() as spent:
        train(manifest, model, sections=[parameters["trained_on"]], validate=False, machine=where)
        evaluate(model, manifest, folder / OTHER, sections=SECTIONS, machine=where)
        by_section = RunConfig.model_validate({"folds": {"by": "section"}})
        cross_validate(manifest, folder / SAME, sections=SECTIONS, config=by_section, machine=where)
        for name in (OTHER, SAME):
            found[name] = agree(folder / name, folder / f"{name}_agree", pairs=PAIRS)
    shutil.rmtree(folder)
    genes = set.intersection(*(set(r.table["gene"]) for rs in found.values() for r in rs))
    return {"sides": {name: _rows(rs, genes) for name, rs in found.items()}, **spent.as_dict()}


def _rows(results: Sequence[PairResult], genes: set[str]) -> list[dict[str, Any]]:
    """Composition of the genes that all pairs of both runs hold."""
    from hespotex.analysis.agree import summary
    from hespotex.analysis.common_maps import COMPOSITION

    table = summary([replace(r, table=r.table[r.table["gene"].isin(genes)]) for r in results])
    return [
        {
            "pair": f"{row['section_a']}:{row['section_b']}",
            "what": str(row["what"]),
            "pcc": float(row["pcc"]),
            "specificity": None if np.isnan(row["specificity"]) else float(row["specificity"]),
            "n_genes": int(row["n_genes"]),
            "trained": str(row["trained"]),
            "fit": [float(row[name]) for name in ("dice", "correlation", "detail", "lead")],
        }
        for row in table[table["scale"] == COMPOSITION].to_dict("records")
    ]


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    if not found:
        return []
    sides = found["her2st"]["sides"]
    kinds = list(dict.fromkeys(row["what"] for rows in sides.values() for row in rows))
    rows = [
        Row(what, _said(sides[OTHER], what, "pcc"),
            _said(sides[SAME], what, "pcc"))
        for what in kinds
    ]  # fmt: skip
    for what in ("predicted A / predicted B", "ridge A / ridge B"):
        rows.append(
            Row(f"specificity of {what}", *(
                _said(sides[side], what, "specificity")
                for side in (OTHER, SAME)
            ))
        )  # fmt: skip
    numbers = {
        f"{side} {row['pair']}": "/".join(f"{v:.2f}" for v in row["fit"])
        + f", {row['n_genes']} genes"
        for side, of in sides.items()
        for row in of
        if row["what"] == "predicted A / predicted B"
    }
    marks = [row["trained"] for row in sides[SAME]]
    notes = (
        f"Mean composition PCC over genes, {', '.join(PAIRS)}.",
        f"The right is marked `trained on it` in {sum(map(bool, marks))} of {len(marks)} rows: its consistency is no evidence.",
        "Dice, correlation, detail and lead: "
        + "; ".join(f"{k} {v}" for k, v in numbers.items())
        + ".",
    )
    title = "Agreement of adjacent sections"
    return [Table(title, ("compared", "model of B4", "cross-validated by section", "bar"), tuple(rows), notes)]  # fmt: skip


def _said(rows: Sequence[Mapping[str, Any]], what: str, name: str) -> str:
    values = [row[name] for row in rows if row["what"] == what]
    return " ".join(f"{v:.3f}" for v in values if v is not None)
