"""Claims on genes in words and as plain values, for pictures and for files of other tools; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import counted
from hespotex.evaluation.claims import BETWEEN, UNTESTED, WITHIN, Claims
from hespotex.export.claims_store import claim_record, unclaimed

if TYPE_CHECKING:
    from hespotex.export.h5ad import StoredPrediction

# In the record of a prediction whose section the model was fitted on.
TRAINING_NOTE: Final = "training_note"
_ORDER: Final = ("A", "B", "C", "D", "ungraded")
_FOR: Final = {
    BETWEEN: "for a patient outside the training",
    WITHIN: "for the training patients alone",
}


def claims_of(section: StoredPrediction) -> Claims:
    """The claims of a prediction; nothing is claimed where it carries none."""
    found = section.extras.claims
    if found is not None:
        return found
    graded = section.extras.grades is not None
    return unclaimed(section.record, len(section.genes), graded=graded)


def first_sentence(section: StoredPrediction) -> str:
    """The first sentence: that the model was fitted on this very section, where it was; then the claims."""
    told, note = claims_of(section).sentence(), str(section.record.get(TRAINING_NOTE) or "")
    return f"{note[0].upper()}{note[1:]}. {told}" if note else told


def short(claims: Claims, place: int) -> str:
    """A gene's grade, or why it has none: a few words for a title."""
    evidence = str(claims.evidence[place])
    if evidence != "predicted":
        return evidence
    alone = ", training patients alone" if claims.gene_scope[place] == WITHIN else ""
    return f"grade {claims.grade[place]}{alone}"


def long(claims: Claims, place: int) -> str:
    """A sentence on a gene with all numbers that its grade rests on."""
    evidence, scope = str(claims.evidence[place]), str(claims.gene_scope[place])
    if evidence == UNTESTED:
        why = f": {claims.reason}" if claims.reason else ""
        return f"{UNTESTED.capitalize()}{why}."
    sections = counted(int(claims.n_sections[place]), "section")
    where = (
        f"{counted(int(claims.n_patients[place]), 'held-out patient')}, {sections}"
        if scope == BETWEEN
        else sections
    )
    grade = f" (grade {claims.grade[place]})" if evidence == "predicted" else ""
    return (
        f"{evidence.capitalize()}{grade} {_FOR[scope]}: PCC given depth {_value(claims.score[place])}"  # type: ignore[index]
        f"{_span(claims, place)} over {where}; q {_q(claims.q_value[place])}; "
        f"{_value(claims.ceiling_share[place])} of its ceiling."
    )


def mark(claims: Claims, place: int) -> str:
    """The mark behind a gene's name in files that show nothing else of it; empty for a gene that is predicted."""
    evidence = str(claims.evidence[place])
    return "" if evidence == "predicted" else f", {evidence}"


def flagged_text(flagged: npt.NDArray[np.bool_]) -> str:
    """How many spots are unlike the training's, in numbers: a share would round a few of many to none."""
    n, of = int(np.sum(flagged)), counted(len(flagged), "spot")
    return f"{n:,} of {of} {'is' if n == 1 else 'are'} flagged" if n else f"None of {of} is flagged"


def as_record(claims: Claims, genes: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Claims as JSON values: of the slide, and under `genes` of each of these genes."""
    columns = claims.columns()
    of_genes = {
        str(gene): {name: _plain(values[j]) for name, values in columns.items()}
        for j, gene in enumerate(genes)
    }
    return {**{k: _plain(v) for k, v in claim_record(claims).items()}, "genes": of_genes}


def best_first(
    claims: Claims, order: npt.NDArray[np.floating[Any]] | None = None
) -> npt.NDArray[np.intp]:
    """Places of all genes: best grade first, in a grade by score, then by `order` (large first), then as they are."""
    rank = np.array([_ORDER.index(str(g)) for g in claims.grade], dtype=np.intp)
    score = np.where(np.isfinite(claims.score), -claims.score, np.inf)
    last = np.zeros(len(rank)) if order is None else -np.asarray(order, dtype=np.float64)
    return np.asarray(np.lexsort((last, score, rank)), dtype=np.intp)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _value(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "–"


def _span(claims: Claims, place: int) -> str:
    low, high = claims.score_lower[place], claims.score_upper[place]
    return f" [{_value(low)}, {_value(high)}]" if np.isfinite([low, high]).all() else ""


def _q(value: float) -> str:
    if not np.isfinite(value):
        return _value(value)
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
