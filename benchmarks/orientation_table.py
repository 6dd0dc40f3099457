"""Which wrong orientations and scales `hespotex inspect` recognises on the real sections.

Every fault is written into a spot file (or the manifest's row) and inspected from there, as a user's
files would be. Prints a Markdown table: fault x section.

    python benchmarks/orientation_table.py ../shared/data/her2st/sections.csv ../shared/data/mob/sections.csv
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hespotex.config import InputChoices
from hespotex.geometry import ORIENTATIONS, orient
from hespotex.inspection.inspect import inspect_row
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import ManifestRow
from hespotex.slide import open_slide

Move = Callable[[np.ndarray, tuple[int, int]], np.ndarray]

_UNDONE_BY = {
    "turned by 90 degrees clockwise": "turned by 90 degrees counter-clockwise",
    "turned by 90 degrees counter-clockwise": "turned by 90 degrees clockwise",
}
_SCALES: dict[str, Callable[[tuple[int, int]], float]] = {
    "in pixels of the hires copy (2,000 px)": lambda size: 2000 / max(size),
    "in pixels of the lowres copy (600 px)": lambda size: 600 / max(size),
    "x 0.5": lambda _: 0.5,
    "x 0.25": lambda _: 0.25,
    "x 0.1": lambda _: 0.1,
    "x 2": lambda _: 2.0,
    "x 10": lambda _: 10.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifests", nargs="+", type=Path)
    rows = [row for m in parser.parse_args().manifests for row in read_manifest(m).rows]
    table: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            for fault, cell in _cells(row, Path(folder)):
                table.setdefault(fault, {})[row.section_id] = cell
    ids = [row.section_id for row in rows]
    print(f"| fault | {' | '.join(ids)} |")
    print(f"|---|{'---|' * len(ids)}")
    for fault, cells in table.items():
        print(f"| {fault} | {' | '.join(cells[i] for i in ids)} |")


def _cells(row: ManifestRow, folder: Path) -> list[tuple[str, str]]:
    assert row.slide is not None
    with open_slide(row.slide) as slide:
        size = (slide.width_px0, slide.height_px0)
    found = [("none", _verdict(row, ""))]
    for name in list(ORIENTATIONS)[1:]:
        moved = _moved(row, folder, lambda xy, name=name: orient(xy, name, size))
        found.append((name, _verdict(moved, _UNDONE_BY.get(name, name))))
    for name, factor in _SCALES.items():
        f = factor(size)
        moved = _moved(row, folder, lambda xy, f=f: xy * f)
        found.append((f"positions {name}", _verdict(moved, f"multiplied by {1 / f:.4g}")))
    shift = np.array(size) / 8
    moved = _moved(row, folder, lambda xy: xy - shift)
    found.append(("positions moved by an eighth of the image", _verdict(moved, "moved by")))
    for name, factor in (("2", 2.0), ("10", 10.0)):
        item = inspect_row(row, InputChoices())[0]
        wrong = replace(row, mpp=item.facts["mpp"] * factor)
        found.append((f"mpp in the manifest x {name}", _verdict(wrong, "")))
    return found


def _moved(row: ManifestRow, folder: Path, move: Callable[[np.ndarray], np.ndarray]) -> ManifestRow:
    assert row.spots is not None
    spots = pd.read_csv(row.spots, sep="\t")
    spots[["pixel_x", "pixel_y"]] = move(spots[["pixel_x", "pixel_y"]].to_numpy(float))
    path = folder / row.spots.name
    spots.to_csv(path, sep="\t", index=False)
    return replace(row, spots=path)


def _verdict(row: ManifestRow, correction: str) -> str:
    item, _ = inspect_row(row, InputChoices())
    about = [f for f in item.findings if f.topic in {"position", "reading"} and f.colour != "green"]
    text = " ".join(f"{f.found} {f.remedy}" for f in about)
    if item.verdict == "green":
        return "green"
    if correction and f"({correction}" in text:
        return f"{item.verdict}: named"
    if "if corrected (" in text:
        named = text.split("if corrected (")[1].split(")")[0]
        return f"{item.verdict}: {named}"
    if "sources of microns per pixel" in text:
        return f"{item.verdict}: sources differ"
    if "outside" in text:
        swapped = "swap them" in text and correction == "x and y swapped"
        return f"{item.verdict}: {'named' if swapped else 'outside the image'}"
    return f"{item.verdict}: undecidable"


if __name__ == "__main__":
    main()
