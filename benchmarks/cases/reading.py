"""Accuracy of the default where patches are encoded one by one, and where they are put together from cells of the slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cases import accuracy
from benchmarks.harness import Context, Row, Table

NAME = "reading"
READINGS = ("patches", "area")
_SCORES = ("log1p", "composition_abundant")
# By area, no score may be lower by more than this, and their means must be this near.
WORST, MEAN = 0.015, 0.005


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {
        f"{name}-{reading}": {**parameters, "reading": reading}
        for name, parameters in accuracy.parts(context).items()
        for reading in READINGS
    }


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    return accuracy.run(parameters, context)


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
    return [
        Table(
            "Patches put together from cells of the slide, or encoded one by one",
            ("score", "by area", "beside", "asked for"),
            tuple(rows),
            (
                "Fixed panels, seed 0; composition is a gene's part of all counts of a spot, on the 200 most abundant genes.",
            ),
        )
    ]
