"""The first part of the report: the claims of every section, in words, counts and a table of genes; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.evaluation import run_tables
from hespotex.evaluation.claims import EVIDENCE, NONE, Claims
from hespotex.evaluation.grades import UNGRADED
from hespotex.export.claim_words import best_first

Row = dict[str, Any]
OfSection = tuple[str, Claims]

_MOST_LINES: Final = 6
_DIFFERS: Final = "by section"
_WORDS: Final = (keys.GRADE, keys.EVIDENCE, keys.SCOPE)
_NUMBERS: Final = (
    keys.N_PATIENTS, keys.N_SECTIONS, keys.SCORE, keys.Q_VALUE, keys.CEILING_SHARE,
)  # fmt: skip


def claim_lines(sections: Sequence[OfSection]) -> list[Row]:
    """One line where the same holds of all sections, else one for every sentence, with the sections it holds for.

    Flagged spots are counted over the sections of a line.
    """
    alike: dict[str, list[OfSection]] = {}
    for name, claims in sections:
        alike.setdefault(replace(claims, n_flagged=0).sentence(), []).append((name, claims))
    lines = []
    for owners in alike.values():
        names = "" if len(alike) == 1 else ", ".join(name for name, _ in owners) + ": "
        claims = owners[0][1]
        n_flagged, n_spots = (
            sum(getattr(c, name) for _, c in owners) for name in ("n_flagged", "n_spots")
        )
        told = replace(claims, n_flagged=n_flagged, n_spots=n_spots).sentence()
        lines.append({"text": names + told, "alarm": claims.scope == NONE})
    if len(lines) > _MOST_LINES:
        more = len(lines) - _MOST_LINES
        rest = {"text": f"{more:,} more such lines: see the table of slides below.", "alarm": False}
        lines = [*lines[:_MOST_LINES], rest]
    return lines


def evidence_tiles(sections: Sequence[OfSection]) -> list[Row]:
    """How many genes have each of the four words of evidence; empty where sections differ: their table says it."""
    counts = [claims.counts() for _, claims in sections]
    if not counts or any(c != counts[0] for c in counts):
        return []
    return [
        {
            "value": f"{counts[0][word]:,}",
            "name": f"{'gene' if counts[0][word] == 1 else 'genes'} {word}",
            "note": _note(word, sections),
        }
        for word in EVIDENCE
    ]


def _note(word: str, sections: Sequence[OfSection]) -> str:
    """How many of the predicted genes have each grade."""
    grades = sections[0][1].panel_grades
    if word != "predicted" or any(claims.panel_grades != grades for _, claims in sections):
        return ""
    return " · ".join(f"{grades[g]:,} {g}" for g in "ABC" if grades.get(g))


def evidence_cells(claims: Claims) -> list[str]:
    """The four counts of one section, for its row in the table of slides."""
    return [f"{n:,}" for n in claims.counts().values()]


def claimed_genes(sections: Sequence[tuple[np.ndarray[Any, Any], Claims]]) -> pd.DataFrame:
    """One row a gene that is predicted somewhere, best first: grade, evidence and the numbers they rest on.

    A word that is not the same in every section with the gene is `by section`; numbers are those of the first section
    with a score. A column in which nothing is known is left out.

    Args:
        sections: names of the genes, and what is claimed of them.
    """
    frames = [
        pd.DataFrame({run_tables.GENE: names.astype(object), **claims.columns()}).iloc[
            best_first(claims)
        ]
        for names, claims in sections
    ]
    if not frames:
        return pd.DataFrame({run_tables.GENE: []})
    every = pd.concat(frames, ignore_index=True)
    grouped = every.groupby(run_tables.GENE, sort=False)
    table = pd.DataFrame({run_tables.GENE: list(grouped.groups)})
    for name in _WORDS:
        words = grouped[name].unique().to_numpy()
        table[name] = [w[0] if len(w) == 1 else _DIFFERS for w in words]
    scored = (
        every[np.isfinite(every[keys.SCORE])]
        .drop_duplicates(run_tables.GENE)
        .set_index(run_tables.GENE)
    )
    for name in _NUMBERS:
        table[name] = scored[name].reindex(table[run_tables.GENE]).to_numpy(np.float64)
    known = [n for n in _NUMBERS if np.isfinite(table[n]).any()]
    graded = [keys.GRADE] if (table[keys.GRADE] != UNGRADED).any() else []
    return table[[run_tables.GENE, *graded, keys.EVIDENCE, keys.SCOPE, *known]]
