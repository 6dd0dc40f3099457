"""Peak memory of every reader on 100,000 spots x 18,000 genes, each in a process of its own.

    python benchmarks/reader_memory.py [--spots N] [--genes N] [--share 0.05] [reader ...]

The counts are drawn, written in the reader's format and read back; the total count has to agree.
Printed: what lies on the disk, peak resident memory of the reading process, what the libraries alone
take, seconds of CPU.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_BLOCK = 1000
LIMIT_MB = 2000


def blocks(n: int, g: int, share: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(indptr from 0, indices, data) of 1,000 spots at a time."""
    rng = np.random.default_rng(0)
    for start in range(0, n, _BLOCK):
        rows = min(_BLOCK, n - start)
        seen = rng.random((rows, g), dtype=np.float32) < share
        _, columns = np.nonzero(seen)
        indptr = np.concatenate([[0], np.cumsum(seen.sum(axis=1))])
        yield indptr, columns.astype(np.int64), rng.integers(1, 9, len(columns), dtype=np.int32)


def positions(n: int) -> pd.DataFrame:
    y, x = np.divmod(np.arange(n), 320)
    names = [f"BC{i:09d}-1" for i in range(n)]
    return pd.DataFrame(
        {"barcode": names, "in_tissue": 1, "array_row": y, "array_col": x,
         "pxl_row_in_fullres": 200.0 * y, "pxl_col_in_fullres": 200.0 * x}
    )  # fmt: skip


def write_spatial(folder: Path, n: int) -> None:
    spatial = folder / "spatial"
    spatial.mkdir(parents=True)
    positions(n).to_csv(spatial / "tissue_positions.csv", index=False)
    factors = {"spot_diameter_fullres": 130.0, "tissue_hires_scalef": 0.1}
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))


def compressed(group: Any, n: int, g: int, share: float, value: str, index: str) -> int:
    """data, indices, indptr in an HDF5 group; the total count."""
    data = group.create_dataset("data", (0,), value, maxshape=(None,), chunks=(2**20,))
    indices = group.create_dataset("indices", (0,), index, maxshape=(None,), chunks=(2**20,))
    indptr, total = [np.zeros(1, dtype=np.int64)], 0
    for starts, columns, values in blocks(n, g, share):
        at, end = len(data), len(data) + len(values)
        data.resize((end,)), indices.resize((end,))
        data[at:end], indices[at:end] = values, columns
        indptr.append(starts[1:] + at)
        total += int(values.sum())
    group["indptr"] = np.concatenate(indptr)
    return total


def space_ranger_h5(folder: Path, n: int, g: int, share: float) -> int:
    import h5py

    write_spatial(folder, n)
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        total = compressed(group, n, g, share, "i4", "i8")
        group["barcodes"] = positions(n)["barcode"].to_numpy(dtype="S")
        group["shape"] = np.array([g, n])
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i}" for i in range(g)], dtype="S")
        features["name"] = np.array([f"GENE{i}" for i in range(g)], dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * g, dtype="S")
    return total


def space_ranger_mtx(folder: Path, n: int, g: int, share: float) -> int:
    write_spatial(folder, n)
    matrix = folder / "filtered_feature_bc_matrix"
    matrix.mkdir()
    lines = "".join(f"ENSG{i}\tGENE{i}\tGene Expression\n" for i in range(g))
    (matrix / "features.tsv.gz").write_bytes(gzip.compress(lines.encode()))
    names = "\n".join(positions(n)["barcode"])
    (matrix / "barcodes.tsv.gz").write_bytes(gzip.compress(names.encode()))
    n_entries = sum(len(values) for _, _, values in blocks(n, g, share))
    total, row = 0, 0
    with gzip.open(matrix / "matrix.mtx.gz", "wb", compresslevel=1) as file:
        file.write(b"%%MatrixMarket matrix coordinate integer general\n%made\n")
        file.write(f"{g} {n} {n_entries}\n".encode())
        for starts, columns, values in blocks(n, g, share):
            rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts)) + row
            frame = pd.DataFrame({"f": columns + 1, "b": rows + 1, "v": values})
            file.write(frame.to_csv(sep=" ", header=False, index=False).encode())
            total, row = total + int(values.sum()), row + len(starts) - 1
    return total


def h5ad(folder: Path, n: int, g: int, share: float, kind: str) -> int:
    import anndata as ad
    import h5py
    from scipy import sparse

    folder.mkdir(parents=True)
    table = positions(n).set_index("barcode")
    xy = table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
    empty = sparse.csr_matrix((n, g), dtype=np.float32) if kind != "dense" else None
    data = ad.AnnData(
        empty,
        obs=table[[]],
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(g)]),
        obsm={"spatial": xy},
    )
    data.write_h5ad(folder / "section.h5ad")
    with h5py.File(folder / "section.h5ad", "r+") as file:
        if kind != "dense":
            for name in ("data", "indices", "indptr"):
                del file["X"][name]
            return compressed(file["X"], n, g, share, "f4", "i4")
        stored = file.create_dataset(
            "X", (n, g), "f4", chunks=(100, g), compression="gzip", compression_opts=1
        )
        stored.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        total, row = 0, 0
        for starts, columns, values in blocks(n, g, share):
            rows = len(starts) - 1
            whole = np.zeros((rows, g), dtype=np.float32)
            whole[np.repeat(np.arange(rows), np.diff(starts)), columns] = values
            stored[row : row + rows] = whole
            total, row = total + int(values.sum()), row + rows
        return total


def legacy_st(folder: Path, n: int, g: int, share: float) -> int:
    folder.mkdir(parents=True)
    table = positions(n)
    spots = table[["array_col", "array_row", "pxl_col_in_fullres", "pxl_row_in_fullres"]]
    spots.set_axis(["x", "y", "pixel_x", "pixel_y"], axis=1).to_csv(
        folder / "spots.tsv", sep="\t", index=False
    )
    total, row = 0, 0
    with gzip.open(folder / "counts.tsv.gz", "wb", compresslevel=1) as file:
        file.write(("\t" + "\t".join(f"GENE{i}" for i in range(g)) + "\n").encode())
        for starts, columns, values in blocks(n, g, share):
            for i in range(len(starts) - 1):
                part = slice(starts[i], starts[i + 1])
                cells = np.full(2 * g, ord("\t"), dtype=np.uint8)
                cells[1::2] = ord("0")
                cells[2 * columns[part] + 1] += values[part].astype(np.uint8)
                y, x = divmod(row, 320)
                file.write(f"{x}x{y}".encode() + cells.tobytes() + b"\n")
                row += 1
            total += int(values.sum())
    return total


WRITERS: dict[str, tuple[str, Callable[[Path, int, int, float], int]]] = {
    "space_ranger h5": ("space_ranger", space_ranger_h5),
    "space_ranger mtx.gz": ("space_ranger", space_ranger_mtx),
    "h5ad sparse": ("h5ad", lambda *a: h5ad(*a, "csr")),
    "h5ad dense": ("h5ad", lambda *a: h5ad(*a, "dense")),
    "legacy_st tsv.gz": ("legacy_st", legacy_st),
}

_READ = """
import json, sys, time
from pathlib import Path
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots
import anndata, h5py, pandas, scipy.sparse, scipy.spatial
def peak(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1000
base = peak()
folder, kind = Path(sys.argv[1]), sys.argv[2]
source = {"space_ranger": SpotSource(expression=folder), "h5ad": SpotSource(expression=folder / "section.h5ad"),
          "legacy_st": SpotSource(expression=folder / "counts.tsv.gz", spots=folder / "spots.tsv")}[kind]
start = time.process_time()
table = read_spots(kind, source)
print(json.dumps([list(table.counts.shape), int(table.counts.nnz), int(table.counts.sum()), peak(), base,
                  time.process_time() - start]))
"""


def measure(name: str, n: int, g: int, share: float) -> dict[str, float]:
    """Write, read in a process of its own, compare."""
    kind, write = WRITERS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "sample"
        start = time.process_time()
        total = write(folder, n, g, share)
        made = time.process_time() - start
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
        done = subprocess.run(
            [sys.executable, "-c", _READ, str(folder), kind],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    shape, nnz, found, peak, base, seconds = json.loads(done.stdout.splitlines()[-1])
    if shape != [n, g] or found != total:
        raise SystemExit(f"{name}: wrote {n} x {g}, total {total}; read {shape}, total {found}")
    return {
        "counts": nnz,
        "disk_mb": size,
        "peak_mb": peak,
        "libraries_mb": base,
        "cpu_s": seconds,
        "write_s": made,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", choices=[[], *WRITERS], default=[])
    parser.add_argument("--spots", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=18_000)
    parser.add_argument("--share", type=float, default=0.05, help="of a spot's genes that are seen")
    args = parser.parse_args()
    print(f"{args.spots:,} spots x {args.genes:,} genes, {args.share:.0%} seen")
    print(
        "| reader | counts | file MB | peak MB | of it libraries | CPU s |\n|---|---|---|---|---|---|"
    )
    worst = 0.0
    for name in args.readers or WRITERS:
        row = measure(name, args.spots, args.genes, args.share)
        worst = max(worst, row["peak_mb"])
        print(
            f"| {name} | {row['counts']:,} | {row['disk_mb']:,.0f} | {row['peak_mb']:,.0f} | "
            f"{row['libraries_mb']:,.0f} | {row['cpu_s']:.1f} |",
            flush=True,
        )
    raise SystemExit(0 if worst < LIMIT_MB else f"above {LIMIT_MB} MB")


if __name__ == "__main__":
    main()
