"""The viewer on a slide of 40,000 px and 60,000 spots x 5,457 genes: first picture, genes, tiles, memory, frames."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

from benchmarks.data import machine
from benchmarks.harness import TESTS, Context, Row, Table
from benchmarks.measure import timed
from benchmarks.slides import MPP, write_slide
from hespotex.evaluation.trust import Extras
from hespotex.export.h5ad_chunks import Chunk, write_prediction_by_chunks
from hespotex.geometry import Geometry
from hespotex.sections.section import Section

NAME = "viewer"
_ASKED = 20
_TILES = 100
_ROWS = 512
# Spots are drawn, and every tile that the window shows.
_PAINTED = "!app.pending && app.panes[0].values && [...app.panes[0].tiles.kept.values()].every(tile => tile.there)"


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {"slide": {"side_px": 40_000, "n_spots": 60_000, "n_genes": 5_457}}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    machine(context)
    with tempfile.TemporaryDirectory() as name, timed() as spent:
        folder = Path(name)
        side = int(parameters["side_px"])
        write_slide(folder / "S1.tif", side)
        _write_prediction(folder / "S1.h5ad", side, int(parameters["n_spots"]), int(parameters["n_genes"]))  # fmt: skip
        found = _measure(folder, side, int(parameters["n_genes"]))
    return {**found, **spent.as_dict()}


def _write_prediction(path: Path, side: int, n: int, n_genes: int) -> None:
    columns = int(np.ceil(np.sqrt(n)))
    pitch = 0.9 * side / columns
    row, column = np.divmod(np.arange(n), columns)
    section = Section(
        section_id="S1",
        patient_id="P",
        slide=None,
        geometry=Geometry(mpp=MPP, spot_pitch_um=pitch * MPP, spot_diameter_um=0.55 * pitch * MPP),
        barcodes=np.array([f"s{i}" for i in range(n)]),
        xy_px0=0.05 * side + pitch * np.stack([column + 0.5, row + 0.5], axis=1),
        counts=None,
        genes=None,
    )
    rng = np.random.default_rng(0)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, n, _ROWS):
            rows = slice(start, min(start + _ROWS, n))
            size = (rows.stop - rows.start, n_genes)
            yield rows, {"composition": rng.standard_normal(size, np.float32)}

    genes = [f"G{j}" for j in range(n_genes)]
    write_prediction_by_chunks(path, section=section, genes=genes, depth=np.ones(n, np.float32), extras=Extras(),
                               chunks=chunks(), thumbnail=None, provenance={})  # fmt: skip


def _measure(folder: Path, side: int, n_genes: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "hespotex", "view", str(folder / "S1.h5ad"), "--slides", str(folder / "S1.tif"), "--no-browser"]  # fmt: skip
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            address_s = time.perf_counter() - started
            found = _in_browser(address, n_genes)
            _seconds(address, "slide/0")
            genes = [_seconds(address, f"slide/0/values?show=composition&gene=G{137 * k % n_genes}") for k in range(_ASKED)]  # fmt: skip
            rng = np.random.default_rng(1)
            zoom = int(np.ceil(np.log2(side / 256)))
            tiles = [
                _seconds(address, f"slide/0/tile/{z}/{x}/{y}")
                for z in (zoom, zoom - 2)
                for x, y in rng.integers(0, int(side / 256 / 2 ** (zoom - z)), (_TILES // 2, 2))
            ]
            status = Path(f"/proc/{server.pid}/status")
            peak = None
            if status.exists():
                (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
                peak = int(line.split()[1]) / 1024
        finally:
            server.terminate()
    return {
        **found,
        "address_s": address_s,
        "gene_ms": [1e3 * s for s in genes],
        "tile_ms": [1e3 * s for s in tiles],
        "peak_mib": peak,
    }


def _seconds(address: str, path: str) -> float:
    started = time.perf_counter()
    with urlopen(address + path) as answer:
        answer.read()
    return time.perf_counter() - started


def _in_browser(address: str, n_genes: int) -> dict[str, Any]:
    """Seconds to the first picture, ms to switch a gene, ms a frame of software rendering; empty without Chromium."""
    sys.path.insert(0, TESTS)
    from helpers.in_browser import HERE, chromium, until

    if not HERE:
        return {}
    with chromium() as browser:
        page = browser.new_page()
        started = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("body[data-ready]", timeout=120_000)
        until(page, _PAINTED)
        first = time.perf_counter() - started
        switch = page.evaluate(
            "async N => { const all = []; for (let k = 1; k < 11; k++) { await app.active.set({ gene: 'G' + ((91 * k) % N) }); all.push(app.active.took) } return all }",
            n_genes,
        )
        frames = page.evaluate(
            "async () => { const all = []; for (let k = 0; k < 20; k++) { const t = performance.now(); app.panes[0].zoomAt(300, 300, k % 2 ? 0.8 : 1.25);"
            " await new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r))); all.push(performance.now() - t) } return all }"
        )
    return {"first_s": first, "switch_ms": switch, "frame_ms": frames}


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    if "slide" not in found:
        return []
    r = found["slide"]
    rows = []
    if "address_s" in r:
        rows.append(Row("the command's start to its address", f"{r['address_s']:.1f} s"))
    if "first_s" in r:
        rows += [
            Row(
                "first picture in Chromium: spots, and all tiles under them",
                f"{r['first_s']:.1f} s",
                bar="2 s",
                met=r["first_s"] < 2,
            ),
            _row("a gene, from request to data in the browser", r["switch_ms"], 50, 200.0),
            _row("a frame, software rendering", r["frame_ms"], 50, None),
        ]
    rows += [_row("a gene, from the server", r["gene_ms"], 50, 100.0), _row("a tile", r["tile_ms"], 95, 100.0)]  # fmt: skip
    if r["peak_mib"] is not None:
        rows.append(Row("peak memory of the server", f"{r['peak_mib']:.0f} MiB", bar="500 MB", met=r["peak_mib"] * 1.048576 < 500))  # fmt: skip
    columns = ("what", "found", "", "bar")
    return [Table("Viewer: 40,000 px, 60,000 spots x 5,457 genes", columns, tuple(rows))]


def _row(what: str, values: Sequence[float], percentile: int, bar: float | None) -> Row:
    value = float(np.percentile(values, percentile))
    name = "median" if percentile == 50 else f"p{percentile}"
    return Row(
        f"{what} ({name} of {len(values)})",
        f"{value:.0f} ms",
        bar="" if bar is None else f"{bar:.0f} ms",
        met=None if bar is None else value < bar,
    )
