"""Owns the benchmark of slides without spots: peak memory against the slide's side, speed beside its parts.

    python -m benchmarks.slide_memory --sides 4000                # quick
    python -m benchmarks.slide_memory --sides 10000 20000 40000 --genes 5457 --kills 20

Each side runs in a process of its own. `decode` and `encode` are the two parts alone, on a sample of the
same spots in the same process: wall time is compared with (decode + encode core-seconds) / cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MPP = 0.5
_TILE = 512
_PERIOD = 2048
_DOWNSAMPLES = (1, 4, 16)
_SAMPLE_SPOTS = 96


def write_slide(path: Path, side_px: int) -> None:
    """A tiled pyramidal TIFF: a disc of tissue, 90 % of the side wide, written tile by tile."""
    import tifffile

    pattern = _pattern()
    n_tiles = -(-side_px // _TILE)
    j, i = np.mgrid[:n_tiles, :n_tiles] + 0.5
    tissue = np.hypot(i - n_tiles / 2, j - n_tiles / 2) < 0.45 * n_tiles
    density = 1e4 / MPP
    temporary = path.with_suffix(".part")
    with tifffile.TiffWriter(temporary, bigtiff=True) as tiff:
        for level, down in enumerate(_DOWNSAMPLES):
            size = -(-side_px // down)
            tiff.write(
                _tiles(pattern[down], tissue, size, down),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(_TILE, _TILE),
                photometric="rgb",
                compression="jpeg",
                subfiletype=1 if level else 0,
                resolution=(density / down, density / down),
                resolutionunit="CENTIMETER",
            )
    temporary.replace(path)


def _pattern() -> dict[int, npt.NDArray[np.uint8]]:
    """One period of stroma with nuclei, at every downsample."""
    import cv2

    rng = np.random.default_rng(5)
    base = cv2.resize(
        rng.normal(size=(64, 64, 3)), (_PERIOD, _PERIOD), interpolation=cv2.INTER_CUBIC
    )
    image = np.array([212.0, 150.0, 190.0]) + 14 * base + rng.normal(0, 6, (_PERIOD, _PERIOD, 3))
    for x, y in rng.integers(0, _PERIOD, size=(9000, 2)).tolist():
        cv2.circle(image, (x, y), int(rng.integers(4, 9)), (96, 62, 140), -1)
    full = np.clip(image, 0, 255).astype(np.uint8)
    return {
        d: cv2.resize(full, (_PERIOD // d, _PERIOD // d), interpolation=cv2.INTER_AREA)
        for d in _DOWNSAMPLES
    }


def _tiles(
    pattern: npt.NDArray[np.uint8], tissue: npt.NDArray[np.bool_], size: int, down: int
) -> Iterator[npt.NDArray[np.uint8]]:
    n = -(-size // _TILE)
    period, last = len(pattern), len(tissue) - 1
    for j in range(n):
        rows = np.arange(j * _TILE, (j + 1) * _TILE)
        for i in range(n):
            columns = np.arange(i * _TILE, (i + 1) * _TILE)
            tile = pattern[np.ix_(rows % period, columns % period)].copy()
            places = [np.minimum(v * down // _TILE, last) for v in (rows, columns)]
            tile[~tissue[np.ix_(*places)]] = 243
            yield tile


def train_model(path: Path, n_genes: int, cache: Path) -> None:
    """A model over so many genes, fitted on a painted cohort."""
    from hespotex import pipeline
    from hespotex.config import Machine, RunConfig
    from hespotex.synthetic import make_cohort

    manifest = make_cohort(
        path.parent / f"cohort-{n_genes}", n_patients=2, n_genes=n_genes, side_um=1300.0
    )
    values = {"panel": {"kind": "all", "min_spot_fraction": 0.0}}
    config = RunConfig.from_values(values)
    pipeline.train(manifest, path, config=config, machine=Machine(device="cpu", cache=cache))


def run_one(model: Path, slide: Path, out: Path, threads: int | None) -> dict[str, Any]:
    """Predict one slide in this process; what it took, and its parts on a sample."""
    from hespotex.config import Machine
    from hespotex.patches import crop_patches
    from hespotex.slide import open_slide
    from hespotex.slide_prediction import SlideOptions, SlideTask, open_predictor, predict_slide
    from hespotex.slide_prediction.layout import lay_out

    predictor = open_predictor(model, Machine(device="cpu", threads=threads))
    task = SlideTask(slide.stem, slide, SlideOptions(mpp=MPP, pitch_um=100.0, all_genes=True))
    base = _peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    result = predict_slide(predictor, task, out)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = _peak_mib()
    with open_slide(slide, mpp=MPP) as opened:
        xy = lay_out(opened, task, predictor.bundle).section.xy_px0
    start = max(0, len(xy) // 2 - _SAMPLE_SPOTS // 2)
    sample = xy[start : start + _SAMPLE_SPOTS]
    with open_slide(slide, mpp=MPP) as opened:
        mark = time.process_time()
        batches = [p for _, p in crop_patches(opened, sample, MPP, predictor.plan, 16)]
        decode = (time.process_time() - mark) / len(sample)
    size, mark = predictor.plan.size_px, time.process_time()
    for patches in batches:
        predictor.encoder.encode(patches.reshape(-1, size, size, 3))
    encode = (time.process_time() - mark) / len(sample)
    cores = threads or len(os.sched_getaffinity(0))
    return {
        "spots": result.n_spots,
        "genes": len(predictor.bundle.genes),
        "peak_mib": peak,
        "peak_before_mib": base,
        "wall_s": wall,
        "cpu_s": cpu,
        "stages_s": dict(result.seconds),
        "decode_cpu_s_per_spot": decode,
        "encode_cpu_s_per_spot": encode,
        "spots_per_s": result.n_spots / wall,
        "wall_over_floor": wall / ((decode + encode) * result.n_spots / cores),
    }


def kill_and_resume(command: list[str], out: Path, whole: bytes, times: int, wall_s: float) -> int:
    """Kill at random moments until a run survives; how many of `times` such series end equal."""
    rng, equal = random.Random(0), 0
    for _ in range(times):
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, wall_s))
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        equal += next((out / "predictions").glob("*.h5ad")).read_bytes() == whole
    return equal


def _peak_mib() -> float:
    """Peak of this process alone: ru_maxrss of a child starts at its parent's, Linux keeps it over exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[4000])
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/results/work/slides"))
    parser.add_argument("--one", nargs=3, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_one(*given.one, given.threads)))
        return
    given.work.mkdir(parents=True, exist_ok=True)
    model = given.work / f"genes-{given.genes}.hespotex"
    if not model.exists():
        train_model(model, given.genes, given.work / "cache")
    for side in given.sides:
        slide, out = given.work / f"side-{side}.tif", given.work / f"out-{side}"
        if not slide.exists():
            write_slide(slide, side)
        shutil.rmtree(out, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "benchmarks.slide_memory",
            "--one",
            str(model),
            str(slide),
            str(out),
        ]
        command += ["--threads", str(given.threads)] if given.threads else []
        found = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        )
        if given.kills:
            whole = next((out / "predictions").glob("*.h5ad")).read_bytes()
            equal = kill_and_resume(command, out, whole, given.kills, found["wall_s"])
            found["equal_after_kill"] = f"{equal} of {given.kills}"
        print(json.dumps({"side_px": side, **found}, indent=1))
    print("peak memory is of the whole process: interpreter, libraries, encoder and model included")


if __name__ == "__main__":
    main()
