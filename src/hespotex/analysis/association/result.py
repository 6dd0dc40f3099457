"""What an analysis of a cohort finds: tables, sentences, pictures; and how they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from hespotex import keys
from hespotex.plots import style
from hespotex.storage.atomic import atomic_path, write_json
from hespotex.storage.clock import versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FDR: Final = 0.05
RESEARCH_SENTENCE: Final = "Research use only: not for diagnosis or treatment."


@dataclass(frozen=True)
class Picture:
    """A figure of an analysis.

    Attributes:
        name: of the file, without its ending.
        figure: drawn.
        caption: what it shows.
    """

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Association:
    """One analysis.

    Attributes:
        kind: bulk, group or survival.
        title: of the page.
        first: the sentences that are to be read before any number.
        findings: the result in sentences.
        table: one row a feature, best first.
        tables: others, by name of their file.
        numbers: what the sentences rest on, for association.json.
        pictures: in the order of the page.
        dropped: what was left out: `what`, `name`, `why`.
        n_patients: that were tested.
    """

    kind: str
    title: str
    first: tuple[str, ...]
    findings: tuple[str, ...]
    table: pd.DataFrame
    numbers: Mapping[str, Any]
    dropped: pd.DataFrame
    n_patients: int
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()


def write_association(found: Association, out: Path) -> dict[str, Path]:
    """Write tables, pictures and association.json; the paths by label.

    Raises:
        RunError: a file cannot be written.
    """
    paths = {"features": out / "features.csv", "left out": out / "dropped.csv"}
    _csv(paths["features"], found.table)
    _csv(paths["left out"], found.dropped)
    for name, table in found.tables.items():
        paths[name] = out / f"{name}.csv"
        _csv(paths[name], table)
    for picture in found.pictures:
        style.save_figure(picture.figure, out / f"{picture.name}.png")
    paths["numbers"] = out / "association.json"
    write_json(
        paths["numbers"],
        {
            "kind": found.kind,
            "use": keys.RESEARCH_USE,
            "n_patients": found.n_patients,
            "read_first": list(found.first),
            "findings": list(found.findings),
            **found.numbers,
            "n_dropped": drop_counts(found.dropped),
            "versions": versions(),
        },
    )
    return paths


def drop_counts(dropped: pd.DataFrame) -> dict[str, int]:
    """How many of what were left out, and why."""
    return dict(Counter(f"{row.what}: {row.why}" for row in dropped.itertuples()))


def _csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.assign(use=keys.RESEARCH_USE).to_csv(
            temporary, index=False, float_format="%.6g", errors="backslashreplace"
        )


def discoveries(table: pd.DataFrame, of: str, column: str = "q_value") -> str:
    """How many features of either kind are found, in words."""
    said: list[str] = []
    for kind, rows in table.groupby("kind", sort=False):
        n, tested = int((rows[column] <= FDR).sum()), int(rows[column].notna().sum())
        said.append(f"{n:,} of {tested:,} {kind}s {of} at a false discovery rate of {FDR:.0%}")
    return "; ".join(said) + "."


def best_first(table: pd.DataFrame, by: Sequence[str], ascending: Sequence[bool]) -> pd.DataFrame:
    """Rows in order, ties as they were."""
    return table.sort_values(list(by), ascending=list(ascending), kind="stable").reset_index(
        drop=True
    )
