"""Genes that a table holds no count of although others hold many: not looked for, or taken out; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.inspection.findings import Finding
from hespotex.sections.section import Section

# Expected counts of a gene; which part of the genes with so many has to be unseen, and how many of them at least.
# Chance alone leaves 30 expected counts unseen in 1 of 10^13 tables. Patients differ: up to 0.5 % of such genes were
# unseen in another breast tumour (28 of 6,228), none of those with 1,000, and of a small panel a few genes are more.
# Tissues differ more; a probe set lacks mitochondrial genes or several percent of all.
_RULES: Final = ((30.0, 0.10, 5), (30.0, 0.02, 50), (1000.0, 0.05, 10))
_NAMED: Final = 3
# A probe set lacks genes and has few of its own; as a part of those that it lacks.
_NAMES: Final = 0.5


@dataclass(frozen=True)
class _Table:
    section: Section
    totals: npt.NDArray[np.float64]
    held: npt.NDArray[np.bool_]

    @property
    def asks(self) -> bool:
        """Whether it is not known what an unseen gene means here."""
        return self.section.missing_genes == "zero" and not self.section.missing_genes_stated


def unseen_findings(sections: Sequence[Section]) -> list[Finding]:
    """Tables that lack genes which the others hold often: a probe set, or genes that were filtered away.

    An unseen gene counts as 0 in every spot, which is right where it was looked for and wrong where it was not. So
    the manifest has to say which. Nothing is decided by the counts: a section left out later may not decide how
    another one is read.

    Args:
        sections: with counts; their genes joined.
    """
    measured = [s for s in sections if s.counts is not None and s.genes is not None]
    if len(measured) < 2:
        return []
    genes = np.unique(np.concatenate([s.genes for s in measured if s.genes is not None]))
    tables = [_table(s, genes) for s in measured]
    return [f for k, table in enumerate(tables) if table.asks for f in _unseen(tables, k, genes)]


def _table(section: Section, genes: npt.NDArray[np.str_]) -> _Table:
    totals, held = np.zeros(len(genes)), np.zeros(len(genes), dtype=bool)
    if section.counts is not None and section.genes is not None:
        place = np.searchsorted(genes, section.genes)
        totals[place] = np.asarray(section.counts.sum(axis=0, dtype=np.float64)).ravel()
        held[place] = True
    return _Table(section, totals, held)


def _unseen(tables: Sequence[_Table], k: int, genes: npt.NDArray[np.str_]) -> list[Finding]:
    own, others = tables[k], [t for j, t in enumerate(tables) if j != k]
    held, here = np.stack([t.held for t in others]), np.zeros((len(others), len(genes)))
    for j, other in enumerate(others):
        shared = own.held & other.held
        in_own, in_other = own.totals[shared].sum(), other.totals[shared].sum()
        here[j] = other.totals * in_own / max(in_other, 1.0)
    # The mean over the tables that hold a gene: one bloody section alone tells little.
    expected = here.sum(axis=0) / np.maximum(held.sum(axis=0), 1)
    for limit, share, fewest in _RULES:
        often = expected >= limit
        unseen = often & (own.totals == 0)
        n, n_often = int(unseen.sum()), int(often.sum())
        if n >= max(fewest, share * n_often):
            break
    else:
        return []
    order = np.flatnonzero(unseen)[np.argsort(-expected[unseen], kind="stable")]
    named = ", ".join(genes[order[:_NAMED]].tolist())
    widest = others[int(here[:, unseen].sum(axis=1).argmax())].section.section_id
    alone = own.totals * ~held.any(axis=0)
    if int((alone >= limit).sum()) >= max(fewest, _NAMES * n):
        return [_other_names(own.section.section_id, n, named, genes, alone, limit)]
    return [
        Finding(
            own.section.section_id,
            "genes",
            "error",
            f"no count of {n:,} of the {n_often:,} genes that are frequent in other sections ({named}, ...; compare "
            f"{widest}), as of a probe set or a table that was filtered: they would count as 0 in every spot",
            "state the manifest's column missing_genes: unmeasured where they were not looked for, zero where they "
            "were and none was found",
        )
    ]


def _other_names(
    name: str,
    n: int,
    named: str,
    genes: npt.NDArray[np.str_],
    alone: npt.NDArray[np.float64],
    limit: float,
) -> Finding:
    """The finding on a table that lacks frequent genes and has other frequent ones that no other table has: names differ."""
    order = np.argsort(-alone, kind="stable")[:_NAMED]
    return Finding(
        name,
        "genes",
        "error",
        f"no count of {n:,} genes that are frequent in other sections ({named}, ...), and {int((alone >= limit).sum()):,} "
        f"frequent genes that no other section has ({', '.join(genes[order].tolist())}, ...): they may be the same "
        "genes under other names",
        "name the genes of all sections in one way; only where they truly are others, state the manifest's column "
        "missing_genes",
    )
