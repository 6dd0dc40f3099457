"""Training on a set like HEST-1k: 10, 50 and 200 sections x 2,500 spots x 5,000 genes from files, features given, one fit.

The quick sizes are a fiftieth of it (250 spots, 1,000 genes), with a fiftieth of the memory in which counts and features may stand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Context, Row, Table
from benchmarks.hest_like import write_hest_like
from benchmarks.measure import peak_memory_gb, timed

NAME = "scale"
BAR_GB: Final = 16.0
BAR_SPOT: Final = 1.2
_SECTIONS = (10, 50, 200)
_SIZES = {
    False: {"spots": 250, "genes": 1000, "dim": 128},
    True: {"spots": 2500, "genes": 5000, "dim": 1024},
}
_EVERY_S: Final = 0.2
_FIFTIETH: Final = 50


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    sizes = _SIZES[context.full]
    return {f"sections-{n:03d}": {"sections": n, **sizes} for n in _SECTIONS}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import Machine, RunConfig
    from hespotex.models.bundle import read_model
    from hespotex.pipeline import train
    from hespotex.storage import spill

    if not context.full:
        spill.BUDGET //= _FIFTIETH
    # Beside the work of other cases, since the sections of a smaller set are those of a larger one.
    folder = context.work / f"hest-like-{parameters['genes']}"
    sizes = {k: parameters[k] for k in ("spots", "genes", "dim")}
    manifest = write_hest_like(folder, parameters["sections"], **sizes)
    out = folder / f"model-{parameters['sections']}.hespotex"
    out.unlink(missing_ok=True)
    config = RunConfig.from_values({"trust": {"calibrate": False}})
    before = peak_memory_gb()
    with timed() as spent, _own_memory() as most:
        train(manifest, out, config=config, validate=False,
              machine=Machine("cpu", context.threads, folder / "cache"))  # fmt: skip
    bundle = read_model(out)
    size = out.stat().st_size / 1e9
    out.unlink()
    return {
        "spots": parameters["sections"] * parameters["spots"],
        "genes": len(bundle.genes),
        "counts_gb": sum(p.stat().st_size for p in (folder / "st").glob("*.h5ad")) / 1e9,
        "model_gb": size,
        "before_gb": before,
        "peak_gb": peak_memory_gb(),
        "own_gb": most[0],
        **spent.as_dict(),
    }


@contextmanager
def _own_memory() -> Iterator[list[float]]:
    """Largest memory of this process that no file stands behind, in 1e9 bytes: the rest the system may drop at any time."""
    most, ended = [0.0], threading.Event()
    status = Path("/proc/self/status")

    def watch() -> None:
        while not ended.wait(_EVERY_S) and status.is_file():
            lines = status.read_text(encoding="ascii").splitlines()
            found = [line for line in lines if line.startswith("RssAnon")]
            most[0] = max([most[0], *(int(line.split()[1]) * 1024 / 1e9 for line in found)])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    by_size = sorted(found.values(), key=lambda r: r["spots"])
    largest = by_size[-1]
    rows = [
        Row(
            f"{r['spots']:,} spots x {r['genes']:,} genes, {context.threads} cores",
            f"{r['wall_s'] / 60:.1f} min wall, {r['core_s'] / 60:.1f} core-min",
            f"{1e3 * r['core_s'] / r['spots']:.2f} core-ms a spot",
            "",
            None,
            f"peak {r['peak_gb']:.1f} GB, of it {r['own_gb']:.1f} GB that no file stands behind",
        )
        for r in by_size
    ]
    rows.append(
        Row(f"  peak memory of the largest, {largest['spots']:,} spots", f"{largest['peak_gb']:.1f} GB", "",
            f"< {BAR_GB:g} GB", largest["peak_gb"] < BAR_GB, "mapped files counted in")
    )  # fmt: skip
    if len(by_size) > 1:
        first, second = (r["core_s"] / r["spots"] for r in by_size[:2])
        rows.append(
            Row(f"  core time of a spot, {by_size[1]['spots']:,} spots over {by_size[0]['spots']:,}",
                f"{second / first:.2f}x", "", f"<= {BAR_SPOT:g}x", second / first <= BAR_SPOT,
                "networks take 800 steps at most, however many the spots")
        )  # fmt: skip
    return [Table("Training on a set like HEST-1k", ("what", "ours", "a spot", "bar"), tuple(rows))]
