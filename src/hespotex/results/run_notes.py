"""Sentences that every number of a scored run must carry, from its folds and their records."""

from __future__ import annotations

from collections.abc import Sequence

from hespotex.evaluation.bootstrap import FEWEST_SPOTS
from hespotex.sections.splits import Folds
from hespotex.storage.metrics import FoldRecord

# A panel's genes are seen in most tissue: a section that lacks more of them was filtered, or is of another kind.
_MANY_ABSENT = 0.1
_INNER = {
    "section": "each model was fitted on one patient, so intervals, out-of-distribution limits and searched values rest "
    "on left-out sections of that patient, and say nothing about another one",
    "blocks": "each model was fitted on one section, so intervals, out-of-distribution limits and searched values rest "
    "on spatial blocks of it with a gap, and say nothing about another section",
}


def run_notes(
    folds: Folds, records: Sequence[FoldRecord], *, score_nan_as_zero: bool = False
) -> list[str]:
    """On the folds, then on their inner folds, then on sections that say little, then on how means were made.

    Args:
        folds: of the run.
        records: of every fold.
        score_nan_as_zero: whether a PCC that does not exist counted as 0.
    """
    zero = (
        "a PCC that does not exist counts as 0 in every mean (--score-nan-as-zero)"
        if score_nan_as_zero
        else ""
    )
    found = (
        folds.note,
        *_inner(folds, records),
        _tiny(records),
        _partly_measured(records),
        _absent(records),
        _squares(records),
        zero,
    )
    return [n for n in found if n]


def _inner(folds: Folds, records: Sequence[FoldRecord]) -> list[str]:
    """One sentence for each kind of inner folds that limits intervals, whatever the number of folds.

    Where the folds' own note says that a patient was in training, left-out sections of that patient are said.
    """
    found = []
    for kind, text in _INNER.items():
        limited = [r for r in records if r.inner_note and r.inner_kind == kind]
        if not limited or (kind == "section" and folds.note):
            continue
        if len(limited) == 1:
            found.append(f"held out {', '.join(limited[0].held_out)}: {limited[0].inner_note}")
        else:
            held_out = "; ".join(", ".join(r.held_out) for r in limited)
            found.append(f"held out in turn {held_out}: {text}")
    return found


def _tiny(records: Sequence[FoldRecord]) -> str:
    few = [s.section_id for r in records for s in r.sections if s.n_spots < FEWEST_SPOTS]
    if not few:
        return ""
    return (
        f"fewer than {FEWEST_SPOTS} spots in {', '.join(few)}: scores there are mostly chance and have no interval, "
        "and weigh in every mean as those of other sections do"
    )


def _partly_measured(records: Sequence[FoldRecord]) -> str:
    parts = [
        f"{s.section_id} ({r.n_genes - s.n_unmeasured_genes:,} of {r.n_genes:,})"
        for r in records
        for s in r.sections
        if s.n_unmeasured_genes
    ]
    if not parts:
        return ""
    return (
        f"not every gene of the panel was measured in {', '.join(parts)}: scores there are over those that were, and do "
        "not compare with scores over the whole panel"
    )


def _absent(records: Sequence[FoldRecord]) -> str:
    parts = [
        f"{s.section_id} ({s.n_absent_genes:,} of {r.n_genes:,})"
        for r in records
        for s in r.sections
        if s.n_absent_genes > _MANY_ABSENT * r.n_genes
    ]
    if not parts:
        return ""
    return (
        f"many genes of the panel are absent from the tables of {', '.join(parts)} and count as 0 in every spot there; if "
        "genes were left out of a table, set missing_genes to unmeasured"
    )


def _squares(records: Sequence[FoldRecord]) -> str:
    """At which size fine bins were scored, where they were summed."""
    sections: dict[str, list[str]] = {}
    for section in (s for r in records for s in r.sections if s.sizes):
        own = next((size for size in section.sizes if size.n_fitted), section.sizes[0])
        if own.size_um > 1.01 * section.sizes[0].size_um:
            text = f"bins {section.sizes[0].size_um:g} um apart are summed into squares of {own.size_um:g} um"
            sections.setdefault(text, []).append(section.section_id)
    found = [f"{text} in {', '.join(ids)}" for text, ids in sections.items()]
    return f"{'; '.join(found)}: scores, null and grades are of these" if found else ""
