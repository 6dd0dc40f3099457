"""Accuracy of the default where patches are encoded one by one, and where they are put together from cells of the slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import pairs
from benchmarks.cases import accuracy
from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table

NAME = "reading"
READINGS = ("patches", "area")
_SCORES = ("log1p", "composition_abundant")
# By area, no score may be lower by more than this, and their means must be this near.
WORST, MEAN = 0.015, 0.005


# Fitted by one reading and predicted by another, or both mixed: the part that tells these, and whose features they take.
MIXED = "mixed"
_BY_AREA = ("C2", "B4", "MOB4")
_VARIANTS: Mapping[str, str] = {
    "patches": "by patches",
    "area": "all four scales by area",
    "widest": "the two widest by area",
    "sections": f"{', '.join(_BY_AREA)} by area, the others by patches",
    "to_area": "fitted by patches, predicted by area",
    "to_patches": "fitted by area, predicted by patches",
}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    of_splits = accuracy.parts(context)
    found: dict[str, Mapping[str, Any]] = {
        f"{name}-{reading}": {**parameters, "reading": reading}
        for name, parameters in of_splits.items()
        for reading in READINGS
    }
    if len(of_splits) == len(accuracy.SPLITS):
        found[MIXED] = {"what": MIXED}
    return found


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    return _mixed(context) if parameters.get("what") == MIXED else accuracy.run(parameters, context)


def _mixed(context: Context) -> dict[str, Any]:
    """Scores of each fold, by whose features a model is fitted on and whose it predicts from."""
    from benchmarks.ablation.run import load

    shared, where = context.data.parent, machine(context)
    patches, abundant = load(shared, where, "patches")
    area, _ = load(shared, where, "area")
    widest = {
        name: replace(
            s, features=np.concatenate([s.features[:, :2], area[name].features[:, 2:]], axis=1)
        )
        for name, s in patches.items()
    }
    some = {name: (area if name in _BY_AREA else patches)[name] for name in patches}
    fits = [
        (patches, {"patches": patches, "to_area": area}),
        (area, {"area": area, "to_patches": patches}),
        (widest, {"widest": widest}),
        (some, {"sections": some}),
    ]
    found = [pairs.fold_scores(train, held_out, abundant) for train, held_out in fits]
    return {name: scores for each in found for name, scores in each.items()}


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    rows, gaps = [], {score: [] for score in _SCORES}
    for name in accuracy.SPLITS:
        if any(f"{name}-{reading}" not in found for reading in READINGS):
            continue
        patches, area = (found[f"{name}-{reading}"]["ours"] for reading in READINGS)
        for score in _SCORES:
            gap = area[score] - patches[score]
            gaps[score].append(gap)
            rows.append(
                Row(
                    f"{name}: {accuracy.label(score)}",
                    f"{area[score]:.3f}",
                    f"{patches[score]:.3f} by patches",
                    f">= {-WORST:g} of it",
                    gap >= -WORST,
                    f"{gap:+.3f}",
                )
            )
    for score, values in gaps.items():
        if values:
            mean = sum(values) / len(values)
            rows.append(
                Row(f"mean difference: {accuracy.label(score)}", f"{mean:+.4f}", "", f"+- {MEAN:g}", abs(mean) <= MEAN)
            )  # fmt: skip
    made = [
        Table(
            "Patches put together from cells of the slide, or encoded one by one",
            ("score", "by area", "beside", "asked for"),
            tuple(rows),
            (
                "Fixed panels, seed 0; composition is a gene's part of all counts of a spot, on the 200 most abundant genes.",
            ),
        )
    ]
    return [*made, _table_of_mixed(found[MIXED])] if MIXED in found else made


def _table_of_mixed(found: Mapping[str, Any]) -> Table:
    rows = []
    for name, label in _VARIANTS.items():
        for which in pairs.SCORES:
            gaps = [
                found[name][fold][which] - found["patches"][fold][which] for fold in pairs.FOLDS
            ]
            mean, worst = float(np.mean(gaps)), min(gaps)
            rows.append(
                Row(
                    f"{label}: {which}",
                    " ".join(f"{found[name][fold][which]:.3f}" for fold in pairs.FOLDS),
                    "" if name == "patches" else f"mean {mean:+.4f}, worst {worst:+.3f}",
                    "" if name == "patches" else f"+- {MEAN:g}, >= {-WORST:g}",
                    None if name == "patches" else abs(mean) <= MEAN and worst >= -WORST,
                )
            )
    notes = (
        "The default model is fitted and scored beside the product, on features of whole sections; composition is on the 200 "
        "most abundant genes. The same panels and seed as above.",
    )
    columns = ("features", ", ".join(pairs.FOLDS), "less patches", "asked for")
    return Table("Readings of a model and of a section", columns, tuple(rows), notes)
