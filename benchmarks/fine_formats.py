"""Time, memory and size of the files of a fine map: made values, each format in a process of its own.

    python -m benchmarks.fine_formats SIDE GENES [--out FOLDER] [--formats h5ad,parquet,...]

A square of SIDE x SIDE spots 16 um apart. Values are random, so they compress worse than a prediction's. Memory is the
largest resident size beyond that before the file is begun, when the shown values, names and places are there already.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hespotex import keys
from hespotex.evaluation.trust import Extras
from hespotex.export.exporters import EXPORTERS, Wanted
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.h5ad_chunks import Chunk, write_prediction_by_chunks
from hespotex.geometry import Geometry
from hespotex.sections.section import Section

PITCH_UM, MPP = 16.0, 0.5
_CHUNK = 512
_FORMATS = ("h5ad", "parquet", "spatialdata", "ome-tiff", "geojson")


def main() -> int:
    """Print a row for each format."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("side", type=int)
    parser.add_argument("genes", type=int)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--formats", default=",".join(_FORMATS))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(measured(given.formats, given.side, given.genes, given.out))
        return 0
    print(f"{given.side**2:,} spots, {given.genes} genes, float16\n")
    print("| format | s | memory before, GB | beyond it, GB | file, MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=given.out) as folder:
        for name in given.formats.split(","):
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.fine_formats"]
            command += [str(given.side), str(given.genes)]
            command += ["--here", "--formats", name, "--out", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(done.stdout.strip().splitlines()[-1], flush=True)
    return 0


def measured(name: str, side: int, n_genes: int, out: Path) -> str:
    """One row: the file is written, measured and left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries are no memory of a file
        import spatialdata  # noqa: F401
        import tifffile  # noqa: F401
        from anndata.io import write_elem  # noqa: F401
        from pyarrow import parquet  # noqa: F401
    section = made_map(side, n_genes if name != "h5ad" else 1)
    before, start = _resident_gb(), time.perf_counter()
    if name == "h5ad":
        path = out / "made.h5ad"
        _write_h5ad(path, section, n_genes)
    else:
        exporter = EXPORTERS.find(name)
        if exporter is None:
            raise SystemExit(f"expected one of {', '.join(_FORMATS)}, found {name}")
        path = out / f"made{exporter.suffix}"
        genes = section.genes[: 10 if name == "ome-tiff" else None]
        exporter.write(path, section, Wanted(genes.tolist()))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files) / 1e6
    return f"| {name} | {seconds:.0f} | {before:.2f} | {max(peak - before, 0):.2f} | {size:,.0f} |"


def made_map(side: int, n_genes: int) -> StoredPrediction:
    """Random composition of a square lattice."""
    n = side**2
    row, column = np.divmod(np.arange(n), side)
    values, rng = np.empty((n, n_genes), np.float16), np.random.default_rng(0)
    for at in range(0, n, 65_536):
        values[at : at + 65_536] = rng.normal(size=(len(values[at : at + 65_536]), n_genes))
    return StoredPrediction(
        section_id="made",
        patient_id="made",
        genes=np.array([f"G{j}" for j in range(n_genes)]),
        barcodes=np.char.add(np.char.add(column.astype("U5"), "x"), row.astype("U5")),
        xy_px0=(np.column_stack([column, row]) + 0.5) * PITCH_UM / MPP,
        mpp=MPP,
        spot_diameter_um=PITCH_UM,
        log1p=None,
        composition=values,
        depth=np.ones(n, np.float32),
        measured=None,
        measured_counts=None,
        measured_depth=None,
        thumbnail=None,
        record={"spot_pitch_um": PITCH_UM},
    )


def _write_h5ad(path: Path, stored: StoredPrediction, n_genes: int) -> None:
    section = Section(
        "made", "made", None, Geometry(MPP, PITCH_UM, PITCH_UM), stored.barcodes, stored.xy_px0, None, None
    )  # fmt: skip

    def chunks() -> Iterator[Chunk]:
        rng = np.random.default_rng(0)
        for at in range(0, section.n_spots, _CHUNK):
            rows = slice(at, min(at + _CHUNK, section.n_spots))
            values = rng.normal(size=(rows.stop - at, n_genes)).astype(np.float16)
            yield rows, {keys.COMPOSITION: values}

    write_prediction_by_chunks(
        path,
        section=section,
        genes=[f"G{j}" for j in range(n_genes)],
        depth=stored.depth,
        extras=Extras(),
        chunks=chunks(),
        thumbnail=None,
        provenance={},
    )


def _resident_gb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9


if __name__ == "__main__":
    raise SystemExit(main())
