"""Cross-validation over three made sections of 16 um bins, file to files: time and peak memory by number of bins."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cases.slides import peak_gb
from benchmarks.fine_sections import write_cohort
from benchmarks.harness import Context, Row, Table, load
from benchmarks.measure import timed

NAME = "fine_training"
BAR_S, BAR_GB = 45 * 60.0, 6.0
# 6.5 mm are the 165,000 bins of a Visium HD section; the others show the slope.
_SIDES_UM = {False: (1600.0,), True: (1600.0, 3200.0, 6496.0)}
_GENES = 2000


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {f"side-{side:05.0f}": {"side_um": side} for side in _SIDES_UM[context.full]}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    import subprocess
    import sys

    from hespotex import pipeline
    from hespotex.config import Machine, RunConfig
    from hespotex.storage.run_record import RunRecord

    side, folder = parameters["side_um"], context.work / NAME
    cohort = folder / f"cohort-{side:.0f}"
    if not (cohort / "sections.csv").is_file():
        # In a process of its own, so that the peak memory of this one is that of the product.
        made = [
            sys.executable,
            "-m",
            "benchmarks.fine_sections",
            str(cohort),
            str(side),
            str(_GENES),
        ]
        subprocess.run(made, check=True)
    out, cache = folder / f"out-{side:.0f}", folder / f"cache-{side:.0f}"
    for path in (out, cache):
        shutil.rmtree(path, ignore_errors=True)
    config = RunConfig.from_values({"encoder": {"reading": "area"}})
    machine = Machine(device="cpu", threads=context.threads, cache=cache)
    before = load()
    try:
        with timed() as spent:
            found = pipeline.cross_validate(
                write_cohort(cohort, side, _GENES), out, config=config, machine=machine
            )
        seconds = RunRecord.read(out / "run.json").plain()["seconds"]
    finally:
        for path in (out, cache):
            shutil.rmtree(path, ignore_errors=True)
    return {
        "bins": next(s["n_squares"] for s in found.metrics["sizes"]),
        "squares": sum(s["n_spots"] for s in found.metrics["sections"]),
        "genes": max(fold["n_genes"] for fold in found.metrics["folds"]),
        "sizes": found.metrics["sizes"],
        "seconds": seconds,
        "peak_gb": peak_gb(),
        "load_before": before,
        **spent.as_dict(),
    }


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    rows = []
    largest = f"side-{_SIDES_UM[True][-1]:05.0f}"
    for name, r in found.items():
        rows += [
            Row(
                f"3 sections, {r['bins']:,} bins in {r['squares']:,} squares, {r['genes']:,} genes, {context.threads} threads",
                f"{r['wall_s'] / 60:.1f} min ({r['core_s']:.0f} core-s)",
                f"{1e3 * r['core_s'] / r['bins']:.2f} core-ms a bin",
                f"< {BAR_S / 60:.0f} min" if name == largest else "",
                r["wall_s"] < BAR_S if name == largest else None,
                ", ".join(f"{stage} {value:.0f} s" for stage, value in r["seconds"].items())
                + f"; load {r['load_before']:g} before",
            ),
            Row(
                "  peak memory",
                f"{r['peak_gb']:.2f} GB",
                "",
                f"< {BAR_GB:g} GB",
                r["peak_gb"] < BAR_GB,
            ),
        ]
        for scored in r["sizes"]:
            model, ridge = (
                scored["scores"][who]["pcc_composition_abundant200"] for who in ("model", "ridge")
            )
            ceiling = scored["ceiling"]["pcc_composition_abundant200"]
            rows.append(
                Row(
                    f"  composition PCC at {scored['size_um']:g} um{', fitted' if scored['n_fitted'] else ''}",
                    f"{model:.3f}",
                    f"ridge {ridge:.3f}, ceiling {ceiling:.3f}",
                )
            )
    return [
        Table(
            "Cross-validation on a fine lattice",
            ("what", "found", "beside", "bar"),
            tuple(rows),
            (
                "Painted sections, about 70 counts a bin; area reading; wall times of a busy machine are not ours alone.",
            ),
        )
    ]
