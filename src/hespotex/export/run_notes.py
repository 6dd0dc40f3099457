"""Owns the sentences that every number of a scored run must carry, from its folds and their records; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hespotex.evaluation.bootstrap import FEWEST_SPOTS
from hespotex.splits import Folds

# A panel's genes are seen in most tissue: a section that lacks more of them was filtered, or is of another kind.
_MANY_ABSENT = 0.1


def run_notes(
    folds: Folds, records: Sequence[Mapping[str, Any]], *, score_nan_as_zero: bool = False
) -> list[str]:
    """On the folds, then on their inner folds, then on sections that say little, then on how means were made.

    Args:
        folds: of the run.
        records: of every fold: held_out, n_genes, inner_note, sections.
        score_nan_as_zero: whether a PCC that does not exist counted as 0.
    """
    inner = [
        f"held out {', '.join(r['held_out'])}: {r['inner_note']}"
        for r in records
        if r["inner_note"]
    ]
    zero = (
        "a PCC that does not exist counts as 0 in every mean (--score-nan-as-zero)"
        if score_nan_as_zero
        else ""
    )
    found = (folds.note, *inner, _tiny(records), _partly_measured(records), _absent(records), zero)
    return [n for n in found if n]


def _tiny(records: Sequence[Mapping[str, Any]]) -> str:
    few = [s["section_id"] for r in records for s in r["sections"] if s["n_spots"] < FEWEST_SPOTS]
    if not few:
        return ""
    return (
        f"fewer than {FEWEST_SPOTS} spots in {', '.join(few)}: scores there are mostly chance and have no interval, "
        "and weigh in every mean as those of other sections do"
    )


def _partly_measured(records: Sequence[Mapping[str, Any]]) -> str:
    parts = [
        f"{s['section_id']} ({r['n_genes'] - s['n_unmeasured_genes']:,} of {r['n_genes']:,})"
        for r in records
        for s in r["sections"]
        if s["n_unmeasured_genes"]
    ]
    if not parts:
        return ""
    return (
        f"not every gene of the panel was measured in {', '.join(parts)}: scores there are over those that were, and do "
        "not compare with scores over the whole panel"
    )


def _absent(records: Sequence[Mapping[str, Any]]) -> str:
    parts = [
        f"{s['section_id']} ({s['n_absent_genes']:,} of {r['n_genes']:,})"
        for r in records
        for s in r["sections"]
        if s.get("n_absent_genes", 0) > _MANY_ABSENT * r["n_genes"]
    ]
    if not parts:
        return ""
    return (
        f"many genes of the panel are absent from the tables of {', '.join(parts)} and count as 0 in every spot there; if "
        "genes were left out of a table, set missing_genes to unmeasured"
    )
