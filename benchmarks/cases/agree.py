"""Adjacent sections C2, C3, C4: predicted by a model of another patient, B4, and beside it by models that trained on one another."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed

NAME = "agree"
SECTIONS = ("C2", "C3", "C4")
PAIRS = ("C2:C3", "C3:C4", "C2:C4")


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    if not context.has("her2st"):
        return {}
    return {"other_patient": {"trained_on": "B4"}, "trained_on_it": {"trained_on": "sections"}}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.analysis.agree import agree, summary
    from hespotex.analysis.common_maps import COMPOSITION
    from hespotex.config import RunConfig
    from hespotex.pipeline import cross_validate, evaluate, train

    where, trained_on = machine(context), str(parameters["trained_on"])
    folder = context.work / NAME / trained_on
    shutil.rmtree(folder, ignore_errors=True)
    manifest = context.data / "her2st" / "sections.csv"
    with timed() as spent:
        if trained_on == "sections":
            cross_validate(
                manifest, folder / "run", sections=SECTIONS, machine=where,
                config=RunConfig.model_validate({"folds": {"by": "section"}}),
            )  # fmt: skip
        else:
            model = folder / "model.hespotex"
            train(manifest, model, sections=[trained_on], validate=False, machine=where)
            evaluate(model, manifest, folder / "run", sections=SECTIONS, machine=where)
        table = summary(agree(folder / "run", folder / "out", pairs=PAIRS))
    table = table[table["scale"] == COMPOSITION]
    rows = [
        {
            "pair": f"{row['section_a']}:{row['section_b']}",
            "what": str(row["what"]),
            "pcc": float(row["pcc"]),
            "specificity": None if row["specificity"] != row["specificity"] else row["specificity"],
            "n_genes": int(row["n_genes"]),
            "beyond_null": int(row["beyond_null"]),
            "trained": str(row["trained"]),
            "fit": [float(row[name]) for name in ("dice", "correlation", "detail", "lead")],
        }
        for row in table.to_dict("records")
    ]
    shutil.rmtree(folder)
    return {"rows": rows, **spent.as_dict()}


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    if not found:
        return []
    sides = {name: f["rows"] for name, f in found.items()}
    kinds = list(dict.fromkeys(row["what"] for rows in sides.values() for row in rows))
    rows = [
        Row(what, _said(sides.get("other_patient", ()), what, "pcc"),
            _said(sides.get("trained_on_it", ()), what, "pcc"))
        for what in kinds
    ]  # fmt: skip
    for what in ("predicted A / predicted B", "ridge A / ridge B"):
        rows.append(
            Row(f"specificity of {what}", *(
                _said(sides.get(side, ()), what, "specificity")
                for side in ("other_patient", "trained_on_it")
            ))
        )  # fmt: skip
    numbers = {
        f"{side} {row['pair']}": "/".join(f"{v:.2f}" for v in row["fit"])
        + f", {row['n_genes']} genes"
        for side, of in sides.items()
        for row in of
        if row["what"] == "predicted A / predicted B"
    }
    marks = [row["trained"] for row in sides.get("trained_on_it", ())]
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
