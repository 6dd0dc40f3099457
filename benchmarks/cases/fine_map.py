"""A bare slide on a lattice of 16 um: time and memory of 165,000 spots, sizes on the disk, kills and resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases.slides import FORMATS, kill_and_resume, kills_row, open_model, peak_gb
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from benchmarks.slides import MPP, made

NAME = "fine_map"
PITCH_UM = 16.0
BAR_S, BAR_GB = 900.0, 4.0
_GENES = 500
# 13,000 px of 0.5 um are the 6.5 mm of a Visium HD section; the other one shows the same in a minute.
_SIDES = {False: (2_000,), True: (2_000, 13_000)}
_KILLS = {False: 3, True: 20}
_KILLED_SIDE = 700


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {
        f"side-{px:05d}": {"what": "predict", "side_px": px} for px in _SIDES[context.full]
    }
    found["kills"] = {"what": "kills", "side_px": _KILLED_SIDE, "kills": _KILLS[context.full]}
    return found


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    folder, side = context.work / NAME, parameters["side_px"]
    slide = made(folder / f"sheet-{side}.tif", "sheet", side)
    model = made(folder / f"genes-{_GENES}.hespotex", "area-model", _GENES)
    out = folder / f"out-{side}"
    shutil.rmtree(out, ignore_errors=True)
    try:
        task = _task(slide, side, folder)
        if parameters["what"] == "kills":
            found = kill_and_resume(model, task, out, parameters["kills"], context)
        else:
            found = _predict(model, task, out, context)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return {**parameters, **found}


def _task(slide: Path, side: int, folder: Path) -> Any:
    """The whole sheet, from border to border; its genes were tested on nobody."""
    from hespotex.predicting import SlideOptions, SlideTask

    corners = [[0, 0], [side, 0], [side, side], [0, side], [0, 0]]
    outline = folder / f"outline-{side}.geojson"
    outline.write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    options = SlideOptions(
        mpp=MPP, pitch_um=PITCH_UM, tissue=outline, all_genes=True, formats=FORMATS
    )
    return SlideTask("slide", slide, options)


def _predict(model: Path, task: Any, out: Path, context: Context) -> dict[str, Any]:
    """File to files."""
    from hespotex.predicting import predict_slide

    predictor = open_model(model, context)
    before = peak_gb()
    with timed() as whole:
        result = predict_slide(predictor, task, out)
    return {
        "spots": result.n_spots,
        "genes": len(predictor.bundle.genes),
        "peak_gb": peak_gb(),
        "peak_before_gb": before,
        "whole": whole.as_dict(),
        "stages_s": dict(result.seconds),
        "bytes": {name: _size(Path(path)) for name, path in result.paths.items()},
    }


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(p.stat().st_size for p in files if p.is_file())


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    rows = []
    for r in (r for r in found.values() if r["what"] == "predict"):
        large = r["side_px"] == _SIDES[True][-1]
        core = r["whole"]["core_s"]
        rows += [
            Row(
                f"{r['side_px']:,} px, {r['spots']:,} spots of 16 um, {r['genes']} genes, file to files, {context.threads} threads",
                f"{r['whole']['wall_s']:.0f} s ({core:.0f} core-s)",
                f"{1e3 * core / r['spots']:.2f} core-ms a spot",
                f"< {BAR_S:.0f} s" if large else "",
                r["whole"]["wall_s"] < BAR_S if large else None,
                ", ".join(f"{k} {v:.1f} s" for k, v in r["stages_s"].items()),
            ),
            Row(
                "  peak memory",
                f"{r['peak_gb']:.2f} GB",
                f"{r['peak_before_gb']:.2f} GB before the slide is opened",
                f"< {BAR_GB:g} GB",
                r["peak_gb"] < BAR_GB,
            ),
            Row(
                "  on the disk",
                ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in r["bytes"].items()),
                "",
                "",
                None,
            ),
        ]
    if "kills" in found:
        rows.append(kills_row(found["kills"]))
    notes = (
        "A painted pyramid of 0.5 um per pixel, tissue from border to border; the model reads by area and is offline. "
        "Time holds decoding, features, prediction, the h5ad, an overview, GeoJSON, Parquet, SpatialData and OME-TIFF.",
    )
    return [
        Table("Fine maps of bare slides", ("what", "ours", "beside", "bar"), tuple(rows), notes)
    ]
