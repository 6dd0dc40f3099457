"""What `localize` found, and its page; what an earlier call left in a folder."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex.analysis.association.result import RESEARCH_SENTENCE
from hespotex.errors import ConfigError, shorten
from hespotex.progress import Reporter
from hespotex.report.page import render_page
from hespotex.storage.atomic import atomic_path, check_writable, write_json

FINDING: Final = "finding"
NO_SIGNAL: Final = "no signal"
TOO_FEW: Final = "too few patients"
NO_EVIDENCE: Final = "no evidence"
CONFOUNDED: Final = "confounded"
MODEL_FILE: Final = "localize.safetensors"
_WORK: Final = ".localize"
_MOST_FIGURES: Final = 12
_MOST_ROWS: Final = 25
_NUMBERS: Final = "localize.json"
_FOLDERS: Final = ("figures", "geojson", "sections")
_FILES: Final = (
    "spots.parquet", "spots.h5ad", "genes.csv", "gene_sets.csv", "curves.csv", "curves.png", "gallery.png", "slides.csv",
    "report.html", MODEL_FILE, _NUMBERS,
)  # fmt: skip


@dataclass
class LocalizeResult:
    """What `localize` found.

    Attributes:
        evidence: finding, confounded, no signal, no evidence or too few patients; every output carries it.
        sentences: to be read first.
        p_value: of the best input, by permuting labels among patients; NaN where nothing was tested.
        permutations: how many were made.
        rows: of the table of inputs and baselines.
        n_shown: spots that pass; 0 without a map.
        paths: of what was written, by label.
        genes, sets: what is different in the drawn spots; None without a map, and without graded sets.
    """

    evidence: str
    sentences: list[str]
    p_value: float = float("nan")
    permutations: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    n_shown: int = 0
    paths: dict[str, Path] = field(default_factory=dict)
    genes: pd.DataFrame | None = None
    sets: pd.DataFrame | None = None


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A folder inside `out` for what is needed while a call goes on; where it fails, no new `out` is left.

    Raises:
        ConfigError: `out` holds something else than an earlier call's files.
        RunError: it cannot be written.
    """
    new, work = not out.exists(), out / _WORK
    check_writable(out)
    _check_own(out)
    try:
        shutil.rmtree(work, ignore_errors=True)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if new:
            with suppress(OSError):  # it holds what was asked for
                out.rmdir()


def _check_own(out: Path) -> None:
    there = {p.name for p in out.iterdir()}
    if there and not there & {_NUMBERS, _WORK}:  # a killed call leaves the second alone
        raise ConfigError(
            expected=f"an empty folder, or one of an earlier `localize`, at {out}",
            found=shorten(sorted(there), 3), remedy="choose another --out",
        )  # fmt: skip


def clear(out: Path) -> None:
    """Take away what an earlier call left: a map of then must not stand beside the words of now."""
    for name in _FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
    for name in _FILES:
        (out / name).unlink(missing_ok=True)


def _cells(table: pd.DataFrame) -> list[list[str]]:
    """Numbers with three digits, as text."""
    return [
        [
            ("–" if np.isnan(v) else f"{v:.3g}".replace("-", "−"))
            if isinstance(v, float)
            else str(v)
            for v in row
        ]
        for row in table.itertuples(index=False)
    ]


def write_page(
    result: LocalizeResult, out: Path, pictures: dict[str, Path], reporter: Reporter
) -> LocalizeResult:
    """report.html and localize.json; the result with their paths.

    Args:
        pictures: for the page, by caption.
        reporter: is warned where the evidence is no finding.
    """
    table = pd.DataFrame(result.rows)
    shown = list(pictures.items())[:_MOST_FIGURES]
    page = render_page(
        "localize.html.j2",
        research=RESEARCH_SENTENCE,
        evidence=result.evidence,
        alarm=result.evidence != FINDING,
        sentences=result.sentences,
        columns=list(table.columns),
        rows=table.to_numpy().tolist(),
        differences=[
            {"file": name, "columns": list(of.columns), "rows": _cells(of.head(_MOST_ROWS))}
            for name, of in (("genes.csv", result.genes), ("gene_sets.csv", result.sets))
            if of is not None and len(of)
        ],
        n_pictures=len(pictures),
        pictures=[
            {"caption": name, "data": base64.b64encode(path.read_bytes()).decode()}
            for name, path in shown
        ],
    )
    result.paths["report"] = out / "report.html"
    with atomic_path(result.paths["report"]) as temporary:
        temporary.write_text(page, encoding="utf-8")
    result.paths["numbers"] = out / _NUMBERS
    write_json(
        result.paths["numbers"],
        {
            "evidence": result.evidence, "p_value": result.p_value, "permutations": result.permutations,
            "n_shown": result.n_shown, "scores": result.rows, "sentences": result.sentences,
        },
    )  # fmt: skip
    if result.evidence != FINDING:
        reporter.warn(result.sentences[0])
    return result
