"""Painted diagnoses: patients told apart, the structure found, no finding without it, the scanner named, and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import peak_memory_gb, timed
from hespotex.analysis.localize.bags import Bag, Bags, patient_folds, write_bags
from hespotex.analysis.localize.compare import map_auroc, site_sentence
from hespotex.analysis.localize.evidence import (
    ENOUGH,
    LEVEL,
    auroc,
    patient_labels,
    patient_margins,
    run_null,
    spot_map,
)
from hespotex.analysis.localize.nested import nested_pass
from hespotex.analysis.localize.reduce import reduce_folds
from hespotex.datasets.diagnoses import WITH, diagnosis_plan
from hespotex.datasets.simulated import simulated_sections
from hespotex.datasets.tissue import FOCUS

NAME = "localize"
# A spot counts as structure where so much of it is.
_COVERED = 0.3


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    every = 199 if context.full else 39
    found: dict[str, Mapping[str, Any]] = {
        "structure": {"share": 0.05, "seed": 31, "permutations": every},
        "confounded": {"share": 0.05, "seed": 32, "confounded": True},
    }
    for seed in range(40 if context.full else 4):
        # 39 permutations are enough to say whether p is at most 5 %.
        found[f"null-{seed}"] = {"share": 0.0, "seed": 100 + seed, "permutations": 39}
    if context.full:
        found["null time"] = {"patients": 40, "spots": 500, "permutations": 199}
        found["pass time"] = {"patients": 200, "spots": 2_000, "permutations": 0}
    return found


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    machine(context)
    with TemporaryDirectory() as folder:
        if "patients" in parameters:
            bags, focus = _noise(Path(folder), parameters), None
        else:
            bags, focus = _painted(Path(folder), parameters)
        if parameters.get("confounded"):
            sentence, same = site_sentence(bags)
            return {"sentence": sentence, "same": same}
        n = int(parameters["permutations"])
        with timed() as spent:
            reduced, near = reduce_folds(bags, patient_folds(bags)), bags.neighbours()
            seen = nested_pass(reduced, bags.labels[None], near)
            null = None
            if n:
                inputs, passes = {"features": reduced}, {"features": seen}
                # Without a structure it is asked whether there is a finding, which so many that reach it rule out.
                enough = ENOUGH if parameters.get("share") else round(LEVEL * (n + 1))
                if focus is None:  # for time alone: all of them
                    enough = n + 1
                null = run_null(inputs, passes, near, permutations=n, enough=enough)
        true = patient_labels(bags, bags.labels)
        found = {
            "auroc": auroc(patient_margins(bags, seen.margin[0]), true),
            "p": null.p_value if null else 1.0,
            "permutations": len(null.permuted) if null else 0,
            "peak_gb": round(peak_memory_gb(), 2),
            **spent.as_dict(),
        }
        if null is not None and focus is not None and parameters["share"]:
            more = [nested_pass(reduced, bags.labels[None], near, seed=k) for k in (1, 2)]
            drawn = spot_map([seen, *more], null, np.ones(len(focus), bool))
            own = np.repeat(
                [s.label == WITH for s in bags.slides], [s.n_spots for s in bags.slides]
            )
            found |= {
                "map_auroc": map_auroc(drawn.z[own], focus[own]),
                "shown": int(drawn.shown[own].sum()),
                "shown_on_structure": int((drawn.shown & focus)[own].sum()),
                "structure": int(focus[own].sum()),
                "spots": int(own.sum()),
            }
        return found


def _painted(folder: Path, parameters: Mapping[str, Any]) -> tuple[Bags, np.ndarray]:
    """Bags of simulated features, and (N,) where the structure is."""
    plan = diagnosis_plan(
        seed=int(parameters["seed"]), share=float(parameters["share"]),
        confounded=bool(parameters.get("confounded")), side_um=1200.0,
    )  # fmt: skip
    slides, values, focus = [], [], []
    for of, encoded in zip(plan.patients, simulated_sections(plan), strict=True):
        section = encoded.section
        xy_um = section.xy_px0 * section.geometry.mpp
        slides.append(Bag(section.section_id, of.name, of.label, xy_um, of.scanner))
        values.append(encoded.features.reshape(section.n_spots, -1))
        area = plan.section(len(focus), 0, picture=False).arrays.area
        focus.append(
            area[:, FOCUS] > _COVERED if area.shape[1] > FOCUS else np.zeros(len(area), bool)
        )
    return write_bags(folder, slides, values), np.concatenate(focus)


def _noise(folder: Path, parameters: Mapping[str, Any]) -> Bags:
    """Slides of noise, for time alone."""
    n, rng = int(parameters["spots"]), np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(n)))
    xy = np.stack(np.divmod(np.arange(n), side), axis=1) * 100.0
    slides = [Bag(f"S{k}", f"P{k}", "ab"[k % 2], xy) for k in range(int(parameters["patients"]))]
    values = (rng.normal(size=(n, 512)).astype(np.float32) for _ in slides)
    return write_bags(folder, slides, values)


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    if at := found.get("structure"):
        shown = f"{at['shown_on_structure']} of {at['shown']} spots drawn lie on it; it has {at['structure']} of {at['spots']}"
        rows += [
            Row("patients told apart, AUROC", f"{at['auroc']:.2f}", f"p = {at['p']:.3f}", ">= 0.9", at["auroc"] >= 0.9),
            Row("map against the structure, AUROC", f"{at['map_auroc']:.2f}", shown, ">= 0.85", at["map_auroc"] >= 0.85),
        ]  # fmt: skip
    nulls = [at for name, at in found.items() if name.startswith("null-")]
    if nulls:
        wrong = sum(at["p"] <= 0.05 for at in nulls)
        rows.append(
            Row("findings without a structure", f"{wrong} of {len(nulls)}", "", "at most 5 of 40", wrong <= len(nulls) / 8)
        )  # fmt: skip
    if at := found.get("confounded"):
        rows.append(
            Row(
                "a scanner a diagnosis",
                "named" if at["same"] else "missed",
                "",
                "named",
                at["same"],
            )
        )
    for name, bar in (("null time", None), ("pass time", 600.0)):
        if at := found.get(name):
            met = None if bar is None else at["wall_s"] <= bar and at["peak_gb"] <= 3.0
            rows.append(
                Row(name, f"{at['wall_s']:.0f} s", f"{at['core_s']:.0f} s of a core, {at['peak_gb']:.1f} GB",
                    "printed" if bar is None else f"{bar:.0f} s, 3 GB", met)
            )  # fmt: skip
    return (
        [Table("Painted diagnoses", ("what", "found", "beside", "bar"), tuple(rows))]
        if rows
        else []
    )
