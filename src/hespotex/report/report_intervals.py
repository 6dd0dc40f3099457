"""Texts of the report and the model card on intervals of composition, from a run's records; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.evaluation import trust
from hespotex.evaluation.regions import SIZES
from hespotex.evaluation.trust import LEVEL
from hespotex.export.h5ad import StoredPrediction
from hespotex.report.report_tables import text
from hespotex.storage.metrics import Metrics

Row = dict[str, Any]

NO_INTERVALS: Final = f"{trust.NO_INTERVALS[0].upper()}{trust.NO_INTERVALS[1:]}."


def region_rows(metrics: Metrics) -> list[Row]:
    """Coverage seen by whose section and size of region: one cell a stated level, with the lowest and highest section."""
    rows: dict[tuple[str, int], Row] = {}
    for row in metrics.region_calibration:
        said = {"where": row.where, "region": region_name(row.spots), "cells": []}
        of_size = rows.setdefault((row.where, row.spots), said)
        of_size["cells"].append({"value": f"{row.observed:.1%}", "span": row.span})
    return list(rows.values())


def region_levels(metrics: Metrics) -> list[str]:
    """Stated coverages, the headings of `region_rows`."""
    levels = {row.nominal for row in metrics.region_calibration}
    return [f"{level:.0%}" for level in sorted(levels)]


def region_name(spots: int) -> str:
    """A region in words."""
    return "a spot" if spots == 1 else f"{spots} spots"


def spread_lines(metrics: Metrics) -> list[str]:
    """Whether the ensemble's spread follows the error, one sentence a section that says something."""
    return [
        f"Section {section.section_id}: median {text(found.median, 3)}; above 0 in {found.n_above:,}, below 0 in "
        f"{found.n_below:,} of {found.n_genes:,} genes (FDR 5 % on either side, spots taken as independent)."
        for section in metrics.sections
        if (found := section.spread_spearman).n_genes
    ]


def half_width_text(section: StoredPrediction, gene: int) -> str:
    """How far a gene's interval of composition reaches, by size of region; empty without intervals."""
    widths = section.extras.half_width
    if widths is None or not np.isfinite(widths[:, gene]).any():
        return ""
    known = [
        f"±{widths[row, gene]:.2f} for {region_name(size)}"
        for row, size in enumerate(SIZES)
        if np.isfinite(widths[row, gene])
    ]
    return f"{LEVEL:.0%} interval of composition: {', '.join(known)}"


def median_half_widths(tables: Sequence[npt.NDArray[np.float32]]) -> list[str]:
    """The median gene's half width by size of region, in words.

    Args:
        tables: (S, G) of each section's prediction that has them.
    """
    widths = np.concatenate(list(tables), axis=1) if tables else np.zeros((len(SIZES), 0))
    return [
        f"±{np.nanmedian(row):.2f} for {region_name(size)}"
        for size, row in zip(SIZES, widths, strict=True)
        if np.isfinite(row).any()
    ]


def calibration_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """For whom the intervals of predictions say nothing, one sentence each; scored runs say it of every fold."""
    notes = dict.fromkeys(str(record.get("inner_note") or "") for record in records)
    return [f"{note[0].upper()}{note[1:]}." for note in notes if note]
