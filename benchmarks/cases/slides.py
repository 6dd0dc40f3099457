"""Slides without spots: peak memory against the slide's side, speed beside its parts and LazySlide, kills and resumes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Context, Row, Table
from benchmarks.measure import ratio, timed
from benchmarks.slides import MPP, made
from hespotex.storage.clock import StageClock

NAME = "slides"
BAR_GB, BAR_FLAT, BAR_FLOOR, BAR_LAZYSLIDE = 2.0, 1.15, 1.25, 3.0
PITCH_UM = 100.0
_GENES, _MANY_GENES = 300, 5_457
_SIDES = {
    False: [(_GENES, 2_000), (_GENES, 4_000)],
    True: [(_GENES, side) for side in (10_000, 20_000, 40_000)]
    + [(_MANY_GENES, side) for side in (10_000, 20_000, 40_000)],
}
_KILLS = {False: 3, True: 20}
_KILLED_CHUNK = 32
# The outline, the thumbnail and the overview cost the same on any slide: below this they outweigh the spots.
_DECIDING_SPOTS = 1_500
_SAMPLE_SPOTS = 96
_TILE_PX = 224
FORMATS = ("geojson", "parquet", "spatialdata", "ome-tiff")


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    side = 10_000 if context.full else 3_000
    found: dict[str, Mapping[str, Any]] = {
        f"memory-{genes}-{px:05d}": {"what": "memory", "genes": genes, "side_px": px}
        for genes, px in _SIDES[context.full]
    }
    found["lazyslide"] = {"what": "lazyslide", "side_px": side}
    side = 3_000 if context.full else 2_000
    found["kills"] = {"what": "kills", "side_px": side, "kills": _KILLS[context.full]}
    return found


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    folder, side = context.work / NAME, parameters["side_px"]
    slide = made(folder / f"side-{side}.tif", "slide", side)
    genes = parameters.get("genes", _GENES)
    model = made(folder / f"genes-{genes}.hespotex", "model", genes)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    try:
        if parameters["what"] == "memory":
            found = _predict(model, slide, out, context)
        elif parameters["what"] == "lazyslide":
            found = _beside_lazyslide(model, slide, out, context)
        else:
            task = _task(slide, formats=FORMATS)
            found = kill_and_resume(model, task, out, parameters["kills"], context)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return {**parameters, **found}


def open_model(model: Path, context: Context) -> Any:
    from hespotex.config import Machine
    from hespotex.predicting import open_predictor

    return open_predictor(model, Machine(device="cpu", threads=context.threads))


def _task(slide: Path, **options: Any) -> Any:
    from hespotex.predicting import SlideOptions, SlideTask

    return SlideTask(
        "slide", slide, SlideOptions(mpp=MPP, pitch_um=PITCH_UM, all_genes=True, **options)
    )


def _predict(model: Path, slide: Path, out: Path, context: Context) -> dict[str, Any]:
    """One slide from file to files, and its parts alone on a sample of the same spots."""
    from hespotex.features.patches import crop_patches
    from hespotex.predicting import predict_slide
    from hespotex.predicting.layout import lay_out
    from hespotex.slide import open_slide

    predictor, task = open_model(model, context), _task(slide)
    before = peak_gb()
    with timed() as whole:
        result = predict_slide(predictor, task, out)
    peak = peak_gb()
    with open_slide(slide, mpp=MPP) as opened:
        xy = lay_out(opened, task, predictor.bundle).section.xy_px0
    middle = max(0, len(xy) // 2 - _SAMPLE_SPOTS // 2)
    sample = xy[middle : middle + _SAMPLE_SPOTS]
    with open_slide(slide, mpp=MPP) as opened, timed() as decode:
        batches = [p for _, p in crop_patches(opened, sample, MPP, predictor.plan, 16)]
    size = predictor.plan.size_px
    with timed() as encode:
        for patches in batches:
            predictor.encoder.encode(patches.reshape(-1, size, size, 3))
    floor = (decode.core + encode.core) / len(sample) * result.n_spots / context.threads
    return {
        "spots": result.n_spots,
        "scales": len(predictor.plan.sides_um),
        "peak_gb": peak,
        "peak_before_gb": before,
        "whole": whole.as_dict(),
        "stages_s": dict(result.seconds),
        "decode_core_s_per_spot": decode.core / len(sample),
        "encode_core_s_per_spot": encode.core / len(sample),
        "floor_s": floor,
    }


def _beside_lazyslide(model: Path, slide: Path, out: Path, context: Context) -> dict[str, Any]:
    """Features of the same tiles with the same network, by LazySlide and by the first pass over a slide."""
    import torch
    from lazyslide.pp import find_tissues, tile_tissues
    from lazyslide.tl import feature_extraction
    from wsidata import open_wsi

    from hespotex.encoders import offline
    from hespotex.encoders.engine import normalise
    from hespotex.encoders.stages import StageStatistics
    from hespotex.features.patches import PatchPlan, reading_order
    from hespotex.predicting.encode import encode_slide
    from hespotex.predicting.store import FeatureStore
    from hespotex.slide import open_slide

    encoder = open_model(model, context).encoder
    wsi = open_wsi(str(slide), store=str(out / "lazyslide.zarr"))
    find_tissues(wsi)
    tile_tissues(wsi, _TILE_PX, mpp=MPP)
    network = StageStatistics(offline.build_model()).eval()
    to_input = normalise(encoder.mean, encoder.std, "cpu")

    def transform(tile: np.ndarray) -> torch.Tensor:
        return to_input(torch.from_numpy(np.ascontiguousarray(tile))[None])[0]

    network(torch.zeros(2, 3, _TILE_PX, _TILE_PX))  # the first batch allocates
    with timed() as theirs:
        expected = feature_extraction(
            wsi,
            network,
            transform=transform,
            device="cpu",
            pbar=False,
            return_features=True,
            key_added="features",
        )
    corners = wsi.shapes["tiles"].bounds[["minx", "miny"]].to_numpy()
    order = reading_order(corners + _TILE_PX / 2)
    xy = (corners + _TILE_PX / 2)[order]
    store = FeatureStore(out / "features", len(xy))
    plan = PatchPlan((_TILE_PX * MPP,), _TILE_PX)
    with open_slide(slide, mpp=MPP) as opened, timed() as ours:
        encode_slide(opened, xy, MPP, encoder, plan, store, advance=lambda _n: None)
    found = np.concatenate([chunk.features[:, 0] for chunk in store])
    return {
        "tiles": len(xy),
        "lazyslide": theirs.as_dict(),
        "ours": ours.as_dict(),
        "ratio": ratio(theirs.as_dict(), ours.as_dict()),
        "largest_difference": float(np.abs(found - expected[order]).max()),
        "largest_value": float(np.abs(expected).max()),
    }


def kill_and_resume(
    model: Path, task: Any, out: Path, times: int, context: Context
) -> dict[str, Any]:
    """Kill -9 at random moments of a run until one survives, again and again; compare every file."""
    from hespotex.predicting import store

    store.CHUNK_SPOTS = _KILLED_CHUNK  # type: ignore[misc]  # so that a small slide has many
    rng = random.Random(0)
    started = time.monotonic()
    with _predicting(model, task, out / "whole", context) as child:
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("the uninterrupted prediction failed")
    took = time.monotonic() - started
    whole = _files(out / "whole")
    cut, killed, finished, wrong = out / "cut", 0, 0, []
    moments = []
    while killed < times or finished == 0:
        moment = rng.uniform(0, took)
        with _predicting(model, task, cut, context) as child:
            if killed < times:
                time.sleep(moment)
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError("a resumed prediction failed")
        if os.WIFSIGNALED(status):
            killed += 1
            moments.append(round(moment, 2))
            # A final name holds the whole file or nothing; what is half-made has a name of its own.
            half = _files(cut, hidden=False)
            wrong += [name for name, content in half.items() if content != whole.get(name)]
        else:
            finished += 1
            wrong += [n for n in whole.keys() | _files(cut) if whole.get(n) != _files(cut).get(n)]
            shutil.rmtree(cut, ignore_errors=True)
    return {
        "files": sorted({name.split("/")[0] for name in whole}),
        "killed": killed,
        "moments_s": moments,
        "series": finished,
        "wrong": sorted(set(wrong)),
        "uninterrupted_s": took,
    }


@contextmanager
def _predicting(model: Path, task: Any, out: Path, context: Context) -> Iterator[int]:
    """The id of a process that predicts; everything is imported before it is forked."""
    from hespotex import predicting as slide_prediction

    child = os.fork()
    if child == 0:
        code = 1
        try:
            slide_prediction.predict_slide(open_model(model, context), task, out)
            code = 0
        except BaseException:  # noqa: BLE001 - a forked child says what went wrong and ends
            traceback.print_exc()
        finally:
            os._exit(code)
    yield child


def _files(out: Path, *, hidden: bool = True) -> dict[str, bytes]:
    """Content by name of everything in predictions/ and figures/."""
    found = {}
    for folder in (out / "predictions", out / "figures"):
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and (hidden or not name.startswith(".")):
                found[name] = path.read_bytes()
    return found


def peak_gb() -> float:
    return float(StageClock().summary()["peak_memory_mib"]) * 2**20 / 1e9


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    rows = []
    for genes in sorted({r["genes"] for r in found.values() if r["what"] == "memory"}):
        rows += _memory_rows([r for r in found.values() if r.get("genes") == genes], context)
    if "lazyslide" in found:
        rows += _lazyslide_rows(found["lazyslide"], context)
    if "kills" in found:
        rows.append(kills_row(found["kills"]))
    notes = (
        "Slides are painted pyramids at 0.5 um per pixel, a disc of tissue 90 % of the side wide, spots every 100 um; the "
        "peak is of the whole process, interpreter, libraries, encoder and model included. Decode and encode alone: "
        f"core seconds of {_SAMPLE_SPOTS} spots in the same process; the floor is their sum over all spots and cores.",
    )
    return [Table("Slides without spots", ("what", "ours", "beside", "bar"), tuple(rows), notes)]


def kills_row(r: Mapping[str, Any]) -> Row:
    """What `kill_and_resume` found."""
    return Row(
        f"kill -9 at {r['killed']} random moments, then run again "
        f"({r['series']} runs finished, {len(r['files'])} outputs, chunks of {_KILLED_CHUNK} spots)",
        "all equal, no half-written file" if not r["wrong"] else ", ".join(r["wrong"]),
        f"uninterrupted {r['uninterrupted_s']:.1f} s",
        "bit for bit",
        not r["wrong"],
    )


def _memory_rows(points: list[dict[str, Any]], context: Context) -> list[Row]:
    points = sorted(points, key=lambda r: r["side_px"])
    genes = points[0]["genes"]
    sides = " / ".join(f"{r['side_px']:,}" for r in points)
    peaks = [r["peak_gb"] for r in points]
    growth = peaks[-1] / peaks[0]
    rows = [
        Row(
            f"peak memory, {sides} px a side, {genes:,} genes",
            " / ".join(f"{p:.2f}" for p in peaks) + " GB",
            f"{points[-1]['peak_before_gb']:.2f} GB before the slide is opened",
            f"< {BAR_GB:g} GB",
            max(peaks) < BAR_GB,
        ),
        Row(
            f"  the largest slide over the smallest ({points[0]['spots']:,} to {points[-1]['spots']:,} spots)",
            f"{growth:.2f}x",
            f"{points[-1]['side_px'] ** 2 / points[0]['side_px'] ** 2:.0f}x the pixels",
            f"<= {BAR_FLAT:g}x",
            growth <= BAR_FLAT,
        ),
    ]
    for r in points:
        decode, encode = r["decode_core_s_per_spot"], r["encode_core_s_per_spot"]
        over = r["whole"]["wall_s"] / r["floor_s"]
        rows.append(
            Row(
                f"{r['side_px']:,} px, {r['spots']:,} spots of {r['scales']} scales, {genes:,} genes, file to files",
                f"{r['spots'] / r['whole']['wall_s']:.1f} spots/s, {over:.2f}x the floor",
                f"decode alone {context.threads / decode:.0f}, encode alone {context.threads / encode:.1f} spots/s",
                f"<= {BAR_FLOOR:g}x" if r["spots"] >= _DECIDING_SPOTS else "",
                over <= BAR_FLOOR if r["spots"] >= _DECIDING_SPOTS else None,
                ", ".join(f"{k} {v:.1f} s" for k, v in r["stages_s"].items()),
            )
        )
    return rows


def _lazyslide_rows(r: dict[str, Any], context: Context) -> list[Row]:
    ours, theirs = r["tiles"] / r["ours"]["wall_s"], r["tiles"] / r["lazyslide"]["wall_s"]
    return [
        Row(
            f"features of {r['tiles']:,} tiles of {_TILE_PX} px, {r['side_px']:,} px slide, same network, {context.threads} cores",
            f"{ours:.1f} tiles/s: {r['ratio']['counts']:.1f}x",
            f"LazySlide feature_extraction {theirs:.1f} tiles/s",
            f">= {BAR_LAZYSLIDE:g}x",
            r["ratio"]["counts"] >= BAR_LAZYSLIDE,
            f"{r['ratio']['wall']:.1f}x by wall, {r['ratio']['core']:.1f}x by core time; the smaller counts",
        ),
        Row(
            "  largest difference of a feature",
            f"{r['largest_difference']:.1e}",
            f"largest feature {r['largest_value']:.1f}",
            "<= 1e-3",
            r["largest_difference"] <= 1e-3,
        ),
    ]
