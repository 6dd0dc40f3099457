"""Gene sets in the report: one row a set, mean over the held-out sections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.evaluation import run_tables
from hespotex.genes.gene_sets import left_out_sentence
from hespotex.results.set_outputs import read_sets
from hespotex.storage.metrics import SetsSummary
from hespotex.storage.run_folder import RunDir

_MEANS = (
    run_tables.PCC_COMPOSITION,
    run_tables.DEPTH_PCC_COMPOSITION,
    run_tables.PCC_PARTIAL,
    keys.CEILING_SHARE,
    keys.Q_VALUE,
)


def set_section(run: RunDir, of_sets: SetsSummary | None) -> dict[str, Any] | None:
    """What the page's section on gene sets shows; None for a run without gene sets."""
    if of_sets is None:
        return None
    table = read_sets(run)
    return {
        "headline": of_sets.headline or "No gene set has enough genes in the panel.",
        "note": of_sets.grade_note,
        "rows": [] if table.empty else _rows(table),
        "left_out": left_out_sentence(of_sets.left_out) if of_sets.left_out else "",
    }


def _rows(table: pd.DataFrame) -> list[list[str]]:
    """Best grade first, then the largest score given depth."""
    rows = []
    for name, part in table.groupby(run_tables.GENE_SET, sort=False):
        means = {c: float(part[c].mean()) if part[c].notna().any() else np.nan for c in _MEANS}
        genes = _span(part[run_tables.N_PANEL_GENES])
        cells = [str(name), str(part[keys.GRADE].iloc[0])]
        cells += [_number(means[c]) for c in _MEANS[:-1]]
        q_value = means[keys.Q_VALUE]
        cells += ["<0.001" if q_value < 0.001 else _number(q_value)]
        cells += [str(int(part[run_tables.PCC_PARTIAL].notna().sum()))]
        cells += [
            f"{genes} of {int(part[run_tables.N_LISTED].iloc[0])}",
            f"{part[run_tables.MEAN_COUNT].mean():.3g}",
        ]
        rows.append((cells[1], -np.nan_to_num(means[run_tables.PCC_PARTIAL], nan=-2.0), cells))
    return [cells for *_, cells in sorted(rows, key=lambda row: row[:2])]


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}".replace("-", "−")
