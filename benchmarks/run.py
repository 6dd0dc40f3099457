"""Accuracy, speed and memory beside the reference: runs what is missing, prints the tables, writes latest.json.

    python -m benchmarks.run [--full] [--only NAME ...] [--again] [--data FOLDER] [--threads N] [--list] [--markdown]
    python -m benchmarks.run --part CASE/PART

Every part of a case runs in a process of its own and is kept as soon as it is done: an interrupted run
goes on, and a part whose code and inputs have not changed is not run again. docs/performance.md says how
to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.cases import (
    accuracy,
    adapt,
    again,
    agree,
    agree_fine,
    coarse_copies,
    cohort,
    coverage,
    damaged_files,
    domains,
    encoding,
    evaluation,
    fine_map,
    fine_sides,
    fine_training,
    fine_truth,
    fit,
    folds,
    growth,
    largest,
    lattice_price,
    levels,
    localize,
    localize_tissue,
    nuclei,
    out_of_distribution,
    panel,
    reading,
    region_coverage,
    registration,
    scale,
    shown,
    simulated_truth,
    slides,
    trials,
    viewer,
)
from benchmarks.harness import Context, Table
from benchmarks.markdown import write_page
from hespotex.config.machine import usable_cores
from hespotex.storage.atomic import write_json
from hespotex.storage.content_keys import content_key

CASES = {
    case.NAME: case
    for case in (
        encoding,
        fit,
        folds,
        again,
        adapt,
        agree,
        slides,
        fine_map,
        fine_training,
        lattice_price,
        evaluation,
        growth,
        largest,
        scale,
        accuracy,
        coverage,
        region_coverage,
        out_of_distribution,
        coarse_copies,
        simulated_truth,
        levels,
        localize,
        localize_tissue,
        nuclei,
        shown,
        panel,
        reading,
        trials,
        fine_truth,
        fine_sides,
        damaged_files,
        cohort,
        registration,
        domains,
        agree_fine,
        viewer,
    )
}

# What numbers are worth: an hour on its own, so it is run by name (`make bench-trust`), or with everything else.
TRUST = (
    "coverage",
    "region_coverage",
    "out_of_distribution",
    "coarse_copies",
    "simulated_truth",
    "levels",
    "localize",
    "localize-tissue",
    "nuclei",
    "shown",
    "panel",
    "reading",
    "trials",
    "fine_truth",
    "fine_sides",
    "damaged_files",
    "cohort",
    "registration",
    "scale",
    "domains",
    "agree-fine",
    "adapt",
)


def main() -> int:
    """Run what is missing; 0 if every part was measured (bars may be missed all the same)."""
    options = _options()
    context = Context(options.full, options.data.resolve(), options.threads)
    if options.part:
        return _run_here(options.part, context)
    if options.markdown:
        print(write_page())
        return 0
    if options.list:
        for name, case in CASES.items():
            print(f"{name:12} {(case.__doc__ or '').splitlines()[0]}")
        return 0
    names = options.only or [n for n in CASES if context.full or n not in TRUST]
    started, failed = time.monotonic(), []
    records: dict[str, dict[str, dict[str, Any]]] = {}
    code, inputs = harness.code_key(), harness.input_key(context)
    described = harness.machine(context.threads)
    for name in names:
        parts = CASES[name].parts(context)
        if not parts:
            print(f"{name}: its data are not in {context.data}", flush=True)
        for part, parameters in parts.items():
            key = content_key(code, inputs, described["processor"], context.threads, context.mode, name, part,
                              dict(parameters))  # fmt: skip
            record = None if options.again else harness.stored(context, name, part, key)
            known = record is not None
            print(f"{name}/{part} {'is done' if known else '...'}", flush=True)
            record = record or harness.run_part(context, name, part, parameters, key)
            if record is None:
                failed.append(f"{name}/{part}")
            else:
                records.setdefault(name, {})[part] = record
    minutes = (time.monotonic() - started) / 60
    tables = [
        table
        for name in names
        if name in records
        for table in CASES[name].tables({p: r["result"] for p, r in records[name].items()}, context)
    ]
    _print(tables, described, context, minutes, failed)
    _write(options, context, described, records, tables, failed, minutes)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the stated sizes")
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="NAME")
    parser.add_argument("--again", action="store_true", help="run also what is done")
    parser.add_argument("--data", type=Path, default=harness.ROOT.parent / "shared" / "data")
    parser.add_argument("--threads", type=int, default=min(2, usable_cores()))
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument(
        "--markdown", action="store_true", help="latest.json into docs/performance.md"
    )
    parser.add_argument(
        "--part", metavar="CASE/PART", help="print what one part measures, and keep nothing"
    )
    return parser.parse_args()


def _run_here(which: str, context: Context) -> int:
    """In the process of a part: measure it, and leave the answer where the parent looks for it."""
    import torch

    torch.set_num_threads(context.threads)
    name, _, part = which.partition("/")
    parameters = CASES[name].parts(context)[part]
    result = CASES[name].run(parameters, context)
    answer = os.environ.get("BENCHMARK_ANSWER")
    if answer:
        write_json(Path(answer), result)
    else:
        print(json.dumps(result, indent=1))
    return 0


def _print(
    tables: list[Table],
    described: dict[str, Any],
    context: Context,
    minutes: float,
    failed: list[str],
) -> None:
    from rich.console import Console
    from rich.table import Table as Printed

    console = Console(width=200)
    console.print(
        f"{described['processor']}, {context.threads} of {described['cores']} cores, "
        f"{described['memory_gib']} GiB; {context.mode} sizes; this call took {minutes:.1f} min"
    )
    for table in tables:
        printed = Printed(title=table.title, title_justify="left", show_lines=False)
        for column in (*table.columns, "met"):
            printed.add_column(column, overflow="fold")
        for row in table.rows:
            met = {None: "", True: "yes", False: "NO"}[row.met]
            note = f"\n  {row.note}" if row.note else ""
            printed.add_row(row.what + note, row.found, row.beside, row.bar, met)
        console.print(printed)
        for note in table.notes:
            console.print(f"  {note}", highlight=False)
    if failed:
        console.print(f"failed: {', '.join(failed)}")


def _write(options, context, described, records, tables, failed, minutes) -> None:  # type: ignore[no-untyped-def]
    """latest.json: what was measured, where, with which commands; other cases' entries of this mode stay."""
    path = harness.RESULTS / "latest.json"
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        whole = {}
    entry = whole.get(context.mode, {})
    cases = entry.get("cases", {})
    for name in records:
        cases[name] = {
            "what": (CASES[name].__doc__ or "").splitlines()[0],
            "parts": records[name],
            "tables": [
                {
                    "title": t.title,
                    "columns": t.columns,
                    "notes": t.notes,
                    "rows": [vars(r) for r in t.rows],
                }
                for t in CASES[name].tables(
                    {p: r["result"] for p, r in records[name].items()}, context
                )
            ],
        }
    command = "make bench-full" if context.full else "make bench"
    whole[context.mode] = {
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="minutes"),
        "minutes_of_last_call": round(minutes, 1),
        "machine": described,
        "failed": failed,
        "cases": cases,
    }
    write_json(path, whole)
    print(f"written: {path.relative_to(harness.ROOT)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
