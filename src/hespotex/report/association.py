"""The verb `associate`: one analysis of a cohort, its tables and pictures, and the page about it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic as time_now  # `time` is a column here
from typing import Any, Final

import pandas as pd

from hespotex import keys
from hespotex.analysis.association.bulk import against_bulk
from hespotex.analysis.association.bulk_table import Unit
from hespotex.analysis.association.groups import between_groups
from hespotex.analysis.association.patients import read_patients
from hespotex.analysis.association.result import (
    RESEARCH_SENTENCE,
    Association,
    drop_counts,
    write_association,
)
from hespotex.analysis.association.survival import check_lifelines, with_survival
from hespotex.errors import ConfigError
from hespotex.progress import Progress, heard
from hespotex.report.page import render_page
from hespotex.storage.atomic import atomic_path, check_writable

_ROWS: Final = 40
_PIXELS: Final = 84  # of an inch of a picture, so that letters are alike in all
_FIRST: Final = ("feature", "kind", keys.LEVEL_GRADE, keys.GRADE)  # columns of the page's table
_UNITS: Final = ("auto", "linear", "log")


@dataclass(frozen=True)
class AssociationResult:
    """What `associate` made.

    Attributes:
        paths: of what was written, by label.
        found: the analysis.
        seconds: that it took, by the clock.
    """

    paths: dict[str, Path]
    found: Association
    seconds: float = 0.0


def associate(
    cohort: str | Path,
    out: str | Path,
    *,
    bulk: str | Path | None = None,
    group: str | None = None,
    time: str | None = None,
    event: str | None = None,
    adjust: Sequence[str] = (),
    within: Sequence[str] = (),
    bulk_unit: Unit = "auto",
    with_unlike: bool = False,
    seed: int = 0,
    progress: Progress = None,
) -> AssociationResult:
    """Test a cohort over its patients, in exactly one of three ways; for research use only.

    Example:
        >>> associate("cohort/cohort.h5ad", "by_group", group="diagnosis", adjust=["age"])  # doctest: +SKIP

    Args:
        cohort: cohort.h5ad of `cohort`; slides of a patient become one row.
        out: folder for report.html, features.csv, dropped.csv, association.json and pictures.
        bulk: bulk RNA of the patients, genes x samples or the other way round.
        group: column of the cohort that names a group.
        time, event: columns of the time, and of 1 where the event happened and 0 where not.
        adjust: columns that are covariates.
        within: with `bulk`, columns whose strata are centred apart.
        bulk_unit: of the bulk values: `auto` looks at them, else `linear` or `log`.
        with_unlike: test slides that are unlike the training's, too.
        seed: of permutations, folds and bootstraps.
        progress: True draws bars, False says nothing, a `hespotex.Reporter` hears it; None draws bars where somebody looks.

    Raises:
        HESpotExError: none or two of the ways, or an input that does not fit; nothing is written then.
    """
    out, reporter, started = Path(out), heard(progress), time_now()
    survival = _check(bulk, group, time, event, within, bulk_unit)
    table = read_patients(Path(cohort), with_unlike=with_unlike, with_ridge=bulk is not None)
    if bulk is not None:
        found = against_bulk(
            table, Path(bulk), adjust=adjust, within=within, unit=bulk_unit, seed=seed
        )
    elif group is not None:
        found = between_groups(table, group, reporter, adjust=adjust, seed=seed)
    else:
        found = with_survival(table, *survival, reporter, adjust=adjust, seed=seed)
    check_writable(out)
    paths = write_association(found, out)
    paths["report"] = out / "report.html"
    with atomic_path(paths["report"]) as temporary:
        temporary.write_text(_page(found, out), encoding="utf-8")
    for sentence in found.first:
        reporter.warn(sentence)
    return AssociationResult(paths, found, time_now() - started)


def _check(
    bulk: str | Path | None,
    group: str | None,
    time: str | None,
    event: str | None,
    within: Sequence[str],
    unit: str,
) -> tuple[str, str]:
    """Options that belong together, before any file is read; the columns of time and event, empty where none are given."""
    ways = {
        "--bulk": bulk,
        "--group": group,
        "--time with --event": time if time is not None else event,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            expected=f"exactly one of {', '.join(ways)}", found=" and ".join(given) or "none of them",
            remedy="make one call for each",
        )  # fmt: skip
    if (time is None) != (event is None):
        raise ConfigError(
            expected="both --time and --event", found="--time alone" if event is None else "--event alone",
            remedy="name the column of times and that of events",
        )  # fmt: skip
    if within and bulk is None:
        raise ConfigError(
            expected="--within with --bulk", found=f"--within with {given[0]}", remedy="adjust for the column: --adjust",
        )  # fmt: skip
    if unit not in _UNITS:
        raise ConfigError(expected=f"--bulk-unit of {', '.join(_UNITS)}", found=f"{unit!r}")
    if time is None or event is None:
        return "", ""
    check_lifelines()
    return time, event


def _page(found: Association, out: Path) -> str:
    """The page as text; pictures are inside."""
    shown = found.table.head(_ROWS)
    # How many patients and events there are stands above the table.
    shown = shown[[*_FIRST, *(c for c in shown.columns if c not in (*_FIRST, "n_patients", "n_events"))]]  # fmt: skip
    pictures = [
        {
            "caption": p.caption,
            "width": round(_PIXELS * p.figure.get_size_inches()[0]),
            "data": base64.b64encode((out / f"{p.name}.png").read_bytes()).decode(),
        }
        for p in found.pictures
    ]
    return render_page(
        "association.html.j2",
        title=found.title,
        research=RESEARCH_SENTENCE,
        first=found.first,
        findings=found.findings,
        pictures=pictures,
        columns=list(shown.columns),
        rows=[[_cell(v) for v in row] for row in shown.itertuples(index=False)],
        n_features=f"{len(found.table):,}",
        n_patients=f"{found.n_patients:,}",
        dropped={why: f"{n:,}" for why, n in drop_counts(found.dropped).items()},
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.3g}".replace("-", "−")
    return str(value)
