"""What a bare slide costs by patches and by area, every 16 um and every 100 um: her2st C2 in one run."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.data import machine, panel
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed

NAME = "lattice_price"
FEWER, MORE = 20.0, 1.25
_TRAIN, _SECTION = ("C3", "C4"), "C2"
# Spots that are encoded by patches of the lattice of 16 um, spread over it.
_SAMPLE = 400


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {_SECTION: {"data": "her2st"}} if context.has("her2st") else {}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import RunConfig
    from hespotex.pipeline import train
    from hespotex.predicting import open_predictor
    from hespotex.sections.manifest import read_manifest

    folder = context.work / NAME
    shutil.rmtree(folder, ignore_errors=True)
    manifest = context.data / parameters["data"] / "sections.csv"
    config = RunConfig(seed=0).with_genes((panel(context, "her2st") or [])[:500])
    model = train(
        manifest, folder / "model.hespotex", config=config, sections=_TRAIN, validate=False,
        machine=machine(context),
    )  # fmt: skip
    predictor = open_predictor(model, machine(context))
    (row,) = read_manifest(manifest, [_SECTION]).rows
    found: dict[str, Any] = {"model_reads": predictor.plan.reading, "load": os.getloadavg()[1]}
    for pitch in (16.0, 100.0):
        for reading in ("area", "patches"):
            if (pitch, reading) == (16.0, "patches"):
                found["16-patches"] = _sampled(predictor, row, folder / "sample")
                continue
            found[f"{pitch:g}-{reading}"] = _predicted(
                predictor, row, pitch, reading, folder / f"{pitch:g}-{reading}"
            )
    found["load_after"] = os.getloadavg()[1]
    return found


def _task(row: Any, pitch: float, reading: str) -> Any:
    from hespotex.config import InputChoices
    from hespotex.predicting import SlideOptions, SlideTask
    from hespotex.sections.section import read_section

    mpp = read_section(row, InputChoices()).geometry.mpp
    options = SlideOptions(mpp=mpp, pitch_um=pitch, all_genes=True, reading=reading)
    return SlideTask(_SECTION, row.slide, options)


def _predicted(predictor: Any, row: Any, pitch: float, reading: str, out: Path) -> dict[str, float]:
    """The whole of predict, file to files, and what of it were decoding and encoding."""
    from hespotex.predicting import one_slide, predict_slide

    spent, encode = [0.0], one_slide.encode_slide

    def measured(*args: Any, **more: Any) -> int:
        started = time.process_time()
        n_bad = encode(*args, **more)
        spent[0] += time.process_time() - started
        return n_bad

    with mock.patch.object(one_slide, "encode_slide", measured), timed() as whole:
        result = predict_slide(predictor, _task(row, pitch, reading), out)
    return {
        "spots": result.n_spots,
        "core_s": whole.as_dict()["core_s"],
        "wall_s": whole.as_dict()["wall_s"],
        "encode_core_s": spent[0],
    }


def _sampled(predictor: Any, row: Any, out: Path) -> dict[str, float]:
    """Core-seconds of the features of some spots by patches."""
    from hespotex.features.encode import encode_batches
    from hespotex.predicting.layout import lay_out
    from hespotex.slide import open_slide

    task = _task(row, 16.0, "patches")
    with open_slide(task.slide, mpp=task.options.mpp) as slide:
        section = lay_out(slide, task, predictor.bundle).section
        slide.thumbnail(512)  # decoded before the clock starts
        xy = section.xy_px0[:: max(1, section.n_spots // _SAMPLE)]
        plan = predictor.plan_of(task)
        started = time.process_time()
        for _ in encode_batches(slide, xy, predictor.encoder, plan, section.geometry.mpp):
            pass
    return {"spots": len(xy), "encode_core_s": time.process_time() - started}


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    if _SECTION not in found:
        return []
    r = found[_SECTION]
    fine, sample = r["16-area"], r["16-patches"]
    by_area = fine["core_s"] / fine["spots"]
    # What follows the features is the same for both.
    rest = (fine["core_s"] - fine["encode_core_s"]) / fine["spots"]
    by_patches = sample["encode_core_s"] / sample["spots"] + rest
    rows = [
        Row(
            f"every 16 um, {fine['spots']:,.0f} spots, whole predict by area",
            f"{1e3 * by_area:.2f} core-ms a spot",
            f"{1e3 * by_patches:.1f} by patches, extrapolated from {sample['spots']:,.0f} spots: {by_patches / by_area:.1f}x",
            f">= {FEWER:g}x fewer",
            by_patches >= FEWER * by_area,
            f"features alone {1e3 * fine['encode_core_s'] / fine['spots']:.2f} and "
            f"{1e3 * sample['encode_core_s'] / sample['spots']:.1f}",
        )
    ]
    chosen = r[f"100-{r['model_reads']}"]
    other = r["100-area" if r["model_reads"] == "patches" else "100-patches"]
    rows += [
        Row(
            f"every 100 um, {chosen['spots']:,.0f} spots, by {r['model_reads']}, as the model of auto reads",
            f"{chosen['core_s']:.1f} core-s",
            f"{other['core_s']:.1f} by the other reading",
            "the cheaper one",
            chosen["core_s"] <= other["core_s"],
            "before auto, patches were read here",
        ),
        Row(
            "  beside decoding and encoding alone",
            f"{chosen['core_s'] / chosen['encode_core_s']:.2f}x",
            f"{chosen['encode_core_s']:.1f} core-s",
            f"<= {MORE:g}x",
            chosen["core_s"] <= MORE * chosen["encode_core_s"],
        ),
    ]
    notes = (
        f"her2st C2 as a bare slide; a model of C3 and C4, 500 genes, offline encoder, {context.threads} threads; load before and "
        f"after {r['load']:.1f}, {r['load_after']:.1f}. By patches at 16 um: features of a sample, what follows as by area.",
    )
    return [
        Table(
            "Price of a lattice: one slide by patches and by area",
            ("what", "ours", "beside", "bar"),
            tuple(rows),
            notes,
        )
    ]
