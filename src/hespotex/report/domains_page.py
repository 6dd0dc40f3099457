"""domains.html with its pictures, and outlines for QuPath."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex.analysis.domain_files import stability_table
from hespotex.analysis.domain_markers import DESCRIPTIVE
from hespotex.analysis.domains import Domains, domain_name, summary
from hespotex.export.domain_geojson import write_domain_outlines
from hespotex.plots.domain_colours import PALETTE, colours_of
from hespotex.plots.domain_pictures import ROWS, Column, plot_domains
from hespotex.plots.style import save_figure
from hespotex.report import report_tables as tables
from hespotex.report.page import render_page
from hespotex.storage.atomic import atomic_path
from hespotex.storage.safe_names import safe_paths

_MOST_PAGES: Final = 6
_MARKERS: Final = 8
_TITLES: Final = {
    "composition": "predicted composition",
    "features": "encoder features",
    "measured": "measured counts",
}


def write_pages(found: Domains, out: Path) -> dict[str, Path]:
    """Write figures/overview.png (and overview_2.png, ... of more than four sections), geojson/ and domains.html.

    Pictures and outlines of an earlier call that this one does not write are taken away.

    Returns:
        The paths by label.

    Raises:
        RunError: a file cannot be written.
    """
    path = out / "domains.html"
    earlier = path.exists()
    pictures = _write_pictures(found, out / "figures")
    stems = safe_paths(out / "geojson", found.files, "")
    outlines = [p for name, stem in stems.items() for p in _write_outlines(found, name, stem)]
    if earlier:
        _take_away(out / "figures", r"overview_\d+\.png", pictures)
        _take_away(
            out / "geojson", rf".+_({'|'.join(_TITLES)})\.geojson", outlines, b"domains from "
        )
    with atomic_path(path) as temporary:
        temporary.write_text(_render(found, pictures), encoding="utf-8")
    return {"report": path, "overview": pictures[0], "QuPath": out / "geojson"}


def _take_away(folder: Path, pattern: str, written: Sequence[Path], has: bytes = b"") -> None:
    """Files of this name that were not written now and hold these bytes."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if re.fullmatch(pattern, path.name) and path not in written and has in path.read_bytes():
            path.unlink()


def _write_pictures(found: Domains, folder: Path) -> list[Path]:
    columns = _columns(found)
    options = found.options
    said = (
        f"Spots of one colour in a column are one domain on every section. Smoothed over {options.length_um:g} µm, standardised "
        f"{'over all sections' if options.keep_levels else 'inside each section'}. Domains describe; no p-value stands behind them."
    )
    files, paths = list(found.files.values()), []
    for page, start in enumerate(range(0, len(files), ROWS)):
        path = folder / ("overview.png" if page == 0 else f"overview_{page + 1}.png")
        sections = [f.spots for f in files[start : start + ROWS]]
        save_figure(plot_domains(sections, columns, said), path)
        paths.append(path)
    return paths


def _columns(found: Domains) -> list[Column]:
    made = []
    for column, words in found.known.items():
        names = sorted({w for v in words.values() for w in v.tolist() if w is not None})
        if len(names) > len(PALETTE):
            continue
        place = {name: k for k, name in enumerate(names)}
        numbers = {
            s: np.array([-1 if w is None else place[w] for w in v.tolist()], np.int32)
            for s, v in words.items()
        }
        made.append(Column(f"labels: {column}", dict(enumerate(names)), numbers))
    for source, of in found.labels.items():
        shown = {k: domain_name(k) for k in found.numbers(source)}
        made.append(Column(_TITLES[source], shown, of))
    return made


def _write_outlines(found: Domains, section: str, stem: Path) -> list[Path]:
    file, paths = found.files[section], []
    for source, of in found.labels.items():
        if section not in of:
            continue
        n = 1 + max(found.numbers(source), default=-1)
        about = f"domains from {_TITLES[source]}; {file.claims.verdict or 'no verdict on the slide'}. {DESCRIPTIVE}"
        paths.append(stem.with_name(f"{stem.name}_{source}.geojson"))
        write_domain_outlines(
            paths[-1],
            file.spots,
            of[section],
            [domain_name(k) for k in range(n)],
            colours_of(n),
            about,
        )
    return paths


def _render(found: Domains, pictures: list[Path]) -> str:
    shown = pictures[:_MOST_PAGES]
    hidden = len(pictures) - len(shown)
    tried = stability_table(found)
    return render_page(
        "domains.html.j2",
        summary=summary(found),
        notes=found.notes,
        pictures=[base64.b64encode(p.read_bytes()).decode() for p in shown],
        hidden=f"{hidden} more pictures lie in figures/." if hidden else "",
        scores=[
            [r["source"], r["compared"], r["section"], tables.text(r["ari"], 3), tables.text(r["nmi"], 3), f"{r['n_spots']:,}", r["mark"]]
            for r in found.scores.to_dict("records")
        ],
        stability=[
            [r["source"], r["n"], tables.text(r["ari_mean"], 3), tables.text(r["ari_least"], 3), tables.text(r["ari_most"], 3), "taken" if r["chosen"] else ""]
            for r in tried.to_dict("records")
        ],
        descriptive=DESCRIPTIVE,
        markers=_markers(found.markers),
    )  # fmt: skip


def _markers(table: pd.DataFrame) -> list[list[str]]:
    rows: list[list[str]] = []
    if table.empty:
        return rows
    for (source, domain), group in table.groupby(["source", "domain"], sort=False):
        genes = "; ".join(_gene(r) for r in group.head(_MARKERS).to_dict("records"))
        rows.append([str(source), str(domain), genes])
    return rows


def _gene(row: Mapping[Any, Any]) -> str:
    measured = row["measured_difference"]
    beside = "" if math.isnan(measured) else f", measured {measured:+.2f}"
    grade = (
        f"grade {row['grade']}, {str(row['scope']).replace('_', ' ')}"
        if row["evidence"] == "predicted"
        else row["evidence"]
    )
    return f"{row['gene']} {row['difference']:+.2f}{beside}, {grade}"
