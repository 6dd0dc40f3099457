"""Training again with another seed and another number of epochs: how many patches are encoded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data import machine, warm_encoder
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import time_of

NAME = "again"


def parts(_context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {"two-trainings": {"sections": 2}}


def _manifest(folder: Path, context: Context, sections: int) -> tuple[Path, list[str]]:
    from hespotex.datasets import make_cohort
    from hespotex.sections.manifest import read_manifest

    if context.has("her2st"):
        path = context.data / "her2st" / "sections.csv"
    else:
        path = make_cohort(folder / "cohort", seed=0)
    return path, [row.section_id for row in read_manifest(path).rows][:sections]


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import ModelConfig, RunConfig
    from hespotex.pipeline import train

    folder = context.work / "again"
    shutil.rmtree(folder, ignore_errors=True)
    manifest, ids = _manifest(folder, context, parameters["sections"])
    used = type(warm_encoder(context, folder / "cache"))
    where, counted, encode = machine(context, folder / "cache"), [0], used.encode

    def counting(self: Any, pixels: Any) -> Any:
        counted[0] += len(pixels)
        return encode(self, pixels)

    used.encode = counting
    found = {}
    try:
        for name, config in (
            ("first", RunConfig(seed=0)),
            ("other_seed", RunConfig(seed=1)),
            ("other_epochs", RunConfig(seed=0, model=ModelConfig(epochs=20))),
        ):
            counted[0] = 0
            out = folder / f"{name}.hespotex"
            _, spent = time_of(
                lambda config=config, out=out: train(
                    manifest, out, config=config, sections=ids, validate=False, machine=where
                )
            )
            found[name] = {"patches_encoded": counted[0], **spent}
    finally:
        used.encode = encode
    shutil.rmtree(folder, ignore_errors=True)
    return {"sections": ids, **found}


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    r = found["two-trainings"]
    more = r["other_seed"]["patches_encoded"] + r["other_epochs"]["patches_encoded"]
    row = Row(
        f"train on {', '.join(r['sections'])}, then with another seed, then with half the epochs",
        f"patches encoded: {r['first']['patches_encoded']:,}, then "
        f"{r['other_seed']['patches_encoded']}, then {r['other_epochs']['patches_encoded']}",
        "everything again",
        "none again",
        more == 0 and r["first"]["patches_encoded"] > 0,
        f"wall {r['first']['wall_s']:.0f} s, then {r['other_seed']['wall_s']:.0f} s, then {r['other_epochs']['wall_s']:.0f} s",
    )
    return [Table("Nothing encoded twice", ("what", "ours", "reference", "bar"), (row,))]
