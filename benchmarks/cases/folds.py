"""Three folds from images to scores, nothing encoded before, beside the reference's way, which encodes in every epoch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.data import C, machine, panel, published_sections, three_sections, warm_encoder
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import added, peak_memory_gb, ratio, scaled, timed
from benchmarks.published_cost import published_fit, reference_encoder

NAME = "folds"
BAR = 60.0
EPOCHS = 30  # in each of which the reference encodes every patch
FOLDS = len(C)


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    if not (context.has("her2st") and panel(context, "her2st")):
        return {}
    return {"her2st": {"sections": list(C), "sample": 512 if context.full else 96}}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import RunConfig
    from hespotex.pipeline import cross_validate

    cold = context.work / "cold"
    shutil.rmtree(cold, ignore_errors=True)
    where = machine(context, cold / "cache")
    with timed() as converting:
        warm_encoder(context, cold / "cache")
    config = RunConfig(seed=0).with_genes(panel(context, "her2st") or [])
    with timed() as spent:
        cross_validate(
            context.data / "her2st" / "sections.csv",
            cold / "run",
            config=config,
            sections=parameters["sections"],
            score_nan_as_zero=True,
            machine=where,
        )
    record = json.loads((cold / "run" / "run.json").read_text(encoding="utf-8"))
    peak = peak_memory_gb()
    cohort, config, _ = three_sections(context)
    spots = sum(item.section.n_spots for item in cohort.items)
    encoder = reference_encoder(parameters["sample"])
    training = published_sections(cohort, config)[1:]
    fit, how = published_fit(training, full=context.full)
    shutil.rmtree(cold, ignore_errors=True)
    encoding = scaled(encoder["per_patch"], EPOCHS * FOLDS * spots)
    reference = added(encoding, scaled(fit, FOLDS))
    return {
        "spots": spots,
        "ours": spent.as_dict(),
        "stages_s": record["seconds"],
        "peak_gb": peak,
        "converting_the_engine": converting.as_dict(),
        "reference_encoder": encoder,
        "reference_encoding": encoding,
        "reference_fit": fit,
        "reference_fit_how": how,
        "reference": reference,
        "ratio": ratio(reference, spent.as_dict()),
    }


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    r = found["her2st"]
    stages = r["stages_s"]
    work = sum(stages.get(name, 0.0) for name in ("read", "encode", "fit", "predict", "score"))
    lean = r["reference"]["wall_s"] / work
    per_patch = r["reference_encoder"]["per_patch"]
    rows = (
        Row(
            f"three folds from images to files and report, her2st C, {r['spots']} spots, {context.threads} cores",
            f"{r['ours']['wall_s']:.0f} s wall, {r['ours']['core_s']:.0f} core-s: {r['ratio']['counts']:.0f}x",
            f"{r['reference']['wall_s'] / 60:.0f} min wall, {r['reference']['core_s'] / 60:.0f} core-min",
            f">= {BAR:g}x",
            r["ratio"]["counts"] >= BAR,
            f"everything of ours, calibration, evidence, pictures and report too; {r['ratio']['wall']:.0f}x by wall, "
            f"{r['ratio']['core']:.0f}x by core time, the smaller counts",
        ),
        Row(
            "the stages that the reference has as well: read, encode, fit, predict, score",
            f"{work:.0f} s wall: {lean:.0f}x",
            "",
            "",
        ),
        *(Row(f"  stage {name}", f"{seconds:.1f} s wall") for name, seconds in stages.items()),
        Row(
            "  in no stage: starting, and the report",
            f"{r['ours']['wall_s'] - sum(stages.values()):.1f} s wall",
        ),
        Row(
            "converting the encoder's engine, once a machine",
            f"{r['converting_the_engine']['wall_s']:.1f} s wall",
        ),
    )
    notes = (
        f"Reference, extrapolated: {EPOCHS} epochs x {FOLDS} folds x {r['spots']} patches x "
        f"{per_patch['wall_s'] * 1e3:.0f} ms wall ({per_patch['core_s'] * 1e3:.0f} ms core; measured on "
        f"{r['reference_encoder']['patches']} patches, {r['reference_encoder']['network']}) + {FOLDS} x "
        f"{r['reference_fit']['wall_s']:.0f} s wall of published training ({r['reference_fit_how']}). "
        "Its reading, cropping and scoring are left out, in its favour.",
    )
    return [Table("From images to scores", ("what", "ours", "reference", "bar"), rows, notes)]
