"""Damaged files for every reader: an error of one line or a result, in 10 s and 2 GB; what a library does is named."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import TESTS, Context, Row, Table

NAME = "damaged_files"
N = 2000
_OF_A_LIBRARY = ("hang", "crash")


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    sys.path.insert(0, TESTS)
    from helpers.fuzzed_readers import READERS

    return {f"{i:02d}": {"reader": name, "n": N} for i, name in enumerate(READERS)}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    sys.path.insert(0, TESTS)
    from helpers.fuzzed_readers import READERS
    from helpers.fuzzing import Fuzzer, broken

    name = parameters["reader"]
    kept = context.work / "damaged" / name.replace(" ", "_").replace(",", "")
    fuzzer = Fuzzer([name], kept)
    try:
        whole = fuzzer.read_whole(name)
        findings = [fuzzer.run(name, seed) for seed in range(parameters["n"])]
    finally:
        fuzzer.close()
    bad = broken(findings, whole, every_cut=READERS[name].whole)
    return {
        "outcomes": dict(Counter(f.outcome for f in findings)),
        "same": sum(f.outcome == "read" and f.text == whole for f in findings),
        "broken": [
            {"outcome": f.outcome, "seed": f.seed, "done": f.done, "said": f.text} for f in bad
        ],
        "kept": str(Path("results") / kept.relative_to(context.work.parent.parent))
        if kept.exists()
        else "",
    }


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    names = {part: str(values["reader"]) for part, values in parts(context).items()}
    rows = []
    for part, result in sorted(found.items()):
        outcomes, bad = result["outcomes"], result["broken"]
        libraries = [b for b in bad if b["outcome"] in _OF_A_LIBRARY and "in our own" not in b["said"]]  # fmt: skip
        own = len(bad) - len(libraries)
        shown = "; ".join(f"{b['outcome']} {b['said']} (seed {b['seed']})" for b in bad[:3])
        rows.append(
            Row(
                names[part],
                f"{outcomes.get('refused', 0):,} refused, {outcomes.get('read', 0):,} read",
                f"{len(libraries)} hangs or crashes inside a library",
                "no other exception, no silent cut",
                own == 0,
                f"{shown}; inputs in {result['kept']}" if bad else "",
            )
        )
    title = f"Damaged files: {N:,} a reader, bytes cut, zeroed, swapped, turned, filled, repeated or dropped"
    return [Table(title, ("reader", "found", "of libraries", "asked for"), tuple(rows))]
