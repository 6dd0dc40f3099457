"""Features that were too dear: a fifth scale, several orientations, smooth windows; pairs between subjects beside C left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import pairs, trial_cells, trial_shell
from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed

NAME = "trials"
# The default's sides, and a fifth.
SIDES_UM = (77.2, 154.5, 309.0, 617.9, 1235.8)
_DEFAULT = "four scales"
# Cells around a patch in the trials of windows: what is left of the borders stands beside in the table.
_HALO = 4
_MORE_SEEDS = (1, 2)
_PARTS = ("patches", "seeds", "turns", "windows", "area", "shell", "shell_seeds")
_LABELS = {
    "patches": "by patches",
    "seeds": "by patches, mean of seeds 1 and 2",
    "turns": "by patches, mean over turned patches",
    "windows": f"patches with {_HALO} cells around them",
    "area": "by area",
    "shell": "SHELL",
    "shell_seeds": "SHELL, mean of seeds 1 and 2",
}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    if not (context.has("her2st") and context.has("mob") and context.golden.is_dir()):
        return {}
    found = [name for name in _PARTS if not name.startswith("shell") or trial_shell.weights_file()]
    return {name: {"what": name} for name in found}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from benchmarks.ablation.run import load

    known, abundant = load(context.data.parent, machine(context))
    made = {
        "patches": _scales,
        "seeds": _scales,
        "turns": _turns,
        "windows": _windows,
        "area": _area,
        "shell": _shell,
        "shell_seeds": _shell,
    }[parameters["what"]]
    seeds = _MORE_SEEDS if parameters["what"].endswith("seeds") else (0,)
    with timed() as spent:
        scores = {
            name: _mean([pairs.fold_scores(cut, {name: cut}, abundant, s)[name] for s in seeds])
            for name, values in made(context)
            for cut in [{n: replace(k, features=values[n]) for n, k in known.items()}]
        }
    return {"scores": scores, "depth": pairs.depth_scores(known, abundant), **spent.as_dict()}


def _mean(scores: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        fold: {s: float(np.mean([each[fold][s] for each in scores])) for s in pairs.SCORES}
        for fold in scores[0]
    }


Variants = Iterator[tuple[str, Mapping[str, Any]]]


def _scales(context: Context) -> Variants:
    five = _cells(context, SIDES_UM, 0)["square"]
    yield _DEFAULT, {n: f[:, :4] for n, f in five.items()}
    yield "and a fifth of 1,236 um", five
    yield "1,236 in place of 618 um", {n: f[:, [0, 1, 2, 4]] for n, f in five.items()}


def _turns(context: Context) -> Variants:
    upright = _cells(context, SIDES_UM, 0)["square"]
    total = {n: f[:, :4].astype(np.float64) for n, f in upright.items()}
    for quarters, name in ((1, "upright and a quarter"), (2, ""), (3, "all four quarters")):
        for section, values in _cells(context, SIDES_UM[:4], 0, quarters)["square"].items():
            total[section] += values
        if name:
            yield name, {n: (f / (quarters + 1)).astype(np.float32) for n, f in total.items()}


def _windows(context: Context) -> Variants:
    forms = _cells(context, SIDES_UM[:4], _HALO)
    yield from forms.items()
    beside = {
        n: np.concatenate([f, forms["gauss 1"][n]], axis=1) for n, f in forms["square"].items()
    }
    yield "square and gauss 1 beside each other", beside


def _area(context: Context) -> Variants:
    """Features of the product."""
    from hespotex.config import EncoderConfig, PatchConfig, RunConfig
    from hespotex.progress import Silent
    from hespotex.stages import encode

    made = []
    for sides in (None, SIDES_UM[-1:]):
        config = RunConfig(
            encoder=EncoderConfig(reading="area"), patches=PatchConfig(sides_um=sides)
        )
        cohorts = [encode(read, config, machine(context), Silent()) for read in _read(context)]
        made.append({i.section.section_id: i.features for c in cohorts for i in c.items})
    four, fifth = made
    yield _DEFAULT, four
    yield (
        "and a fifth of 1,236 um",
        {n: np.concatenate([f, fifth[n]], axis=1) for n, f in four.items()},
    )


def _shell(context: Context) -> Variants:
    folder = machine(context).cache
    assert folder is not None
    own = {
        s.section_id: trial_shell.features(s, SIDES_UM[:4], folder / "trials", context.threads)
        for read in _read(context)
        for s in read
    }
    yield "its stages, four scales", own
    ours = _cells(context, SIDES_UM, 0)["square"]
    yield (
        "its stages beside the default's",
        {n: np.concatenate([f[:, :4], own[n]], axis=2) for n, f in ours.items()},
    )


def _cells(
    context: Context,
    sides_um: Sequence[float],
    halo: int,
    quarters: int = 0,
) -> dict[str, dict[str, Any]]:
    """Features of all sections, by the form of the window."""
    from benchmarks.data import warm_encoder

    encoder, cache = warm_encoder(context), machine(context).cache
    assert cache is not None
    found: dict[str, dict[str, Any]] = {}
    for section in (s for read in _read(context) for s in read):
        of_forms = trial_cells.features(
            section, encoder, sides_um, halo, quarters, cache / "trials"
        )
        for form, values in of_forms.items():
            found.setdefault(form, {})[section.section_id] = values
    return found


def _read(context: Context) -> list[Any]:
    from hespotex.progress import Silent
    from hespotex.stages import read_sections

    return [
        read_sections(context.data / folder / "sections.csv", None, Silent())
        for folder in ("her2st", "mob")
    ]


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    if "patches" not in found:
        return []
    base = found["patches"]["scores"][_DEFAULT]
    rows = [
        _row(f"{_LABELS[part]}: {name}", scores, base)
        for part in _PARTS
        if part in found
        for name, scores in found[part]["scores"].items()
    ]
    depth = found["patches"]["depth"]
    rows.append(_row("measured depth alone (an oracle)", depth, depth))
    folds = ", ".join(pairs.FOLDS)
    return [
        Table(
            "Features that were too dear",
            ("features", f"log1p: {folds}", f"composition: {folds}", "between subjects; C2 to C4"),
            tuple(rows),
            (
                "Default model, seed 0, fixed panels; composition is on the 200 most abundant genes. The last column: means "
                "over the four pairs between subjects and over C2, C3, C4 left out, log1p and composition, less those of "
                "four scales by patches.",
            ),
        )
    ]


def _row(what: str, scores: Mapping[str, Any], base: Mapping[str, Any]) -> Row:
    columns = [" ".join(f"{scores[f][s]:.3f}" for f in pairs.FOLDS) for s in pairs.SCORES]
    within = tuple(f for f in pairs.FOLDS if f not in pairs.BETWEEN)
    gaps = [
        "{:+.4f} {:+.4f}".format(
            *(pairs.mean_over(scores, s, folds) - pairs.mean_over(base, s, folds) for s in pairs.SCORES)
        )
        for folds in (pairs.BETWEEN, within)
    ]  # fmt: skip
    return Row(what, *columns, "; ".join(gaps))
