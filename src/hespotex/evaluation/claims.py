"""The rule of what may be claimed of genes on one slide: which evidence applies, what is written, in words; pure.

Evidence comes from held-out sections of two kinds, which are kept apart. No section of the patient was in training
(`between_patients`), or other sections of the same patient were (`within_patient`). A slide of a training patient may use
both kinds, any other slide the first alone. A slide that is unlike the training slides may use none. A gene without
evidence for the slide is `untested` and carries no grade. The same rule holds for gene sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import counted
from hespotex.evaluation.grades import UNGRADED

Evidence = Literal["predicted", "not shown", "plainly not predicted", "untested"]
Scope = Literal["between_patients", "within_patient", "none"]
Patient = Literal["same", "new", "unknown"]
Tables = Mapping[Scope, pd.DataFrame]

EVIDENCE: Final[tuple[Evidence, ...]] = (
    "predicted", "not shown", "plainly not predicted", "untested",
)  # fmt: skip
BETWEEN: Final[Scope] = "between_patients"
WITHIN: Final[Scope] = "within_patient"
NONE: Final[Scope] = "none"
UNTESTED: Final[Evidence] = "untested"
# Ids (in lower case) that name nobody.
UNKNOWN_PATIENTS: Final = frozenset({"", "unknown"})
SCORE: Final = "mean over held-out sections of the PCC of composition given measured depth"

NOT_VALIDATED: Final = "the model was never validated"
OF_OLD_VERSION: Final = "it was graded by hespotex 0.1.0, which did not note what a grade rests on"

# What is known of a gene, and what stands there where nothing is.
_NOTHING: Final[Mapping[str, Any]] = {
    keys.GRADE: UNGRADED,
    keys.EVIDENCE: UNTESTED,
    keys.SCOPE: NONE,
    keys.N_PATIENTS: 0,
    keys.N_SECTIONS: 0,
    keys.SCORE: np.nan,
    keys.SCORE_LOWER: np.nan,
    keys.SCORE_UPPER: np.nan,
    keys.Q_VALUE: np.nan,
    keys.CEILING_SHARE: np.nan,
}
_WORDS: Final = (keys.GRADE, keys.EVIDENCE, keys.SCOPE)
_WHOM: Final[Mapping[Patient, str]] = {
    "same": "this patient",
    "new": "this patient",
    "unknown": "this slide, whose patient is not known",
}
TABLE_COLUMNS: Final = tuple(name for name in _NOTHING if name != keys.SCOPE)


@dataclass(frozen=True)
class Claims:
    """What may be claimed of G genes (or gene sets) on one slide.

    The first ten are arrays (G,), and columns of `var` by the names in `keys`; NaN or 0 where nothing is known.

    Attributes:
        grade: A, B, C, D or ungraded.
        evidence: the grade in words, see `Evidence`.
        gene_scope: which kind of held-out sections a gene's grade rests on.
        n_patients: held-out patients with a score of whom no section was in training; 0 within patients.
        n_sections: held-out sections with a score.
        score: see `SCORE`; it is what the grade rests on.
        score_lower, score_upper: ends of its 95 % interval.
        q_value: false discovery rate at which the gene is found.
        ceiling_share: score as part of what counting noise leaves to a perfect prediction.
        scope: which kind of evidence applies to this slide.
        patient: of the slide: one of the training's, another one, or not known (which counts as another one).
        verdict: whether the slide is like the training slides; None where the model cannot tell.
        n_spots: of the slide; 0 where not said.
        n_flagged: spots that are unlike the training's: nothing is claimed there.
        tested_patients: held-out patients, with no section in training, that any gene rests on.
        tested_sections: held-out sections that any gene rests on.
        reason: why genes are untested; empty where none is.
        found_here: the grades were found by the very run that wrote the prediction, on its own held-out sections.
        panel: how many of the model's genes have each word of evidence, also where fewer genes are held here.
        panel_grades: the same by grade.
    """

    grade: npt.NDArray[np.str_]
    evidence: npt.NDArray[np.str_]
    gene_scope: npt.NDArray[np.str_]
    n_patients: npt.NDArray[np.int_]
    n_sections: npt.NDArray[np.int_]
    score: npt.NDArray[np.float64]
    score_lower: npt.NDArray[np.float64]
    score_upper: npt.NDArray[np.float64]
    q_value: npt.NDArray[np.float64]
    ceiling_share: npt.NDArray[np.float64]
    scope: Scope = NONE
    patient: Patient = "unknown"
    verdict: str | None = None
    n_spots: int = 0
    n_flagged: int = 0
    tested_patients: int = 0
    tested_sections: int = 0
    reason: str = ""
    found_here: bool = False
    panel: Mapping[str, int] = field(default_factory=dict)
    panel_grades: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.grade)

    @property
    def suspended(self) -> bool:
        """Whether the slide is unlike the training slides, so that no grade of the model holds on it."""
        return is_unlike(self.verdict)

    def counts(self) -> dict[str, int]:
        """How many of the model's genes have each of the four words of evidence, in the order of `EVIDENCE`."""
        found = self.panel or _count(self.evidence)
        return {word: int(found.get(word, 0)) for word in EVIDENCE}

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by the names of their columns in `var`."""
        return dict(zip(_NOTHING, (getattr(self, name) for name in _ARRAYS), strict=True))

    def subset(self, columns: npt.NDArray[np.intp] | Sequence[int]) -> Claims:
        """Only these genes, in the given order; what holds for the slide and the panel stays."""
        at = np.asarray(columns, dtype=np.intp)
        return replace(self, **{name: getattr(self, name)[at] for name in _ARRAYS})

    def written(self, *, untested: bool = False, all_genes: bool = False) -> npt.NDArray[np.bool_]:
        """(G,) whether a prediction writes the gene: grades A to C; on request those without evidence for this slide, or all."""
        if all_genes:
            return np.ones(len(self), bool)
        kept = self.evidence == "predicted"
        return np.asarray(kept | (self.evidence == UNTESTED) if untested else kept)

    def sentence(self, noun: str = "gene") -> str:
        """The sentence that a pathologist reads first; it holds for this slide, whatever its patient, verdict and model.

        Args:
            noun: what is claimed, `gene` or `gene set`.
        """
        counts = self.counts()
        n = sum(counts.values())
        if self.suspended:
            return (
                f"This slide is {_unlike(self.verdict)}: the model's grades do not hold on it, and nothing is "
                f"claimed of its {n:,} {noun}s."
            )
        if self.scope == NONE:
            return f"No {noun} is tested for {_WHOM[self.patient]}: {self.reason}.{self._flagged()}"
        k = counts["predicted"]
        number = f"{k:,} of {n:,} {noun}s are" if k else f"None of {n:,} {noun}s is"
        first = f"{number} predicted {self._where()}, tested on {self._tested_on()}."
        if self.found_here:
            first = f"Found by this run on its held-out sections, this one among them: {first[0].lower()}{first[1:]}"
        rest = "; ".join(f"{word}: {counts[word]:,}" for word in EVIDENCE[1:])
        return f"{first} {rest[0].upper()}{rest[1:]}.{self._whose()}{self._flagged()}"

    def _where(self) -> str:
        if self.scope == WITHIN:
            return "for other sections of the training patients"
        return "for a patient outside the training"

    def _tested_on(self) -> str:
        sections = counted(self.tested_sections, "section")
        if self.scope == WITHIN:
            return f"{sections} of theirs: this says nothing about another patient"
        return f"{counted(self.tested_patients, 'held-out patient')} ({sections})"

    def _whose(self) -> str:
        if self.scope == BETWEEN and self.patient == "unknown" and not self.found_here:
            return " The patient of this slide is not known and counts as outside the training."
        return ""

    def _flagged(self) -> str:
        if not self.n_flagged:
            return ""
        return (
            f" {self.n_flagged:,} of {counted(self.n_spots, 'spot')} {'is' if self.n_flagged == 1 else 'are'} flagged "
            "as unlike the training: nothing is claimed there."
        )


_ARRAYS: Final = tuple(f.name for f in fields(Claims))[: len(_NOTHING)]


def is_unlike(verdict: str | None) -> bool:
    """Whether a verdict suspends the grades."""
    return verdict is not None and verdict.startswith("unlike")


def decide(
    names: Sequence[str],
    tables: Tables,
    patient: Patient,
    *,
    verdict: str | None = None,
    flagged: npt.NDArray[np.bool_] | None = None,
    untested_because: str = NOT_VALIDATED,
) -> Claims:
    """Which evidence applies to every gene on one slide.

    Args:
        names: (G,) of the genes of the panel, or of the gene sets.
        tables: by kind, what its held-out sections say: one row a gene (index), columns `TABLE_COLUMNS`.
        patient: whose slide it is; unknown counts as new.
        verdict: whether the slide is like the training slides; None: nothing says that it is not.
        flagged: (n,) spots that are unlike those of the training.
        untested_because: why there are no tables, where there are none.
    """
    usable: tuple[Scope, ...] = () if is_unlike(verdict) else _usable(patient)
    index = pd.Index(list(names), dtype=object)
    found = {name: np.full(len(index), value) for name, value in _NOTHING.items()}
    found |= {name: np.full(len(index), _NOTHING[name], object) for name in _WORDS}
    for scope in usable:
        table = tables.get(scope)
        if table is None:
            continue
        rows = table.reindex(index)
        known = rows[keys.GRADE].notna() & (rows[keys.GRADE] != UNGRADED)
        free = known.to_numpy() & (found[keys.SCOPE] == NONE)
        for name in TABLE_COLUMNS:
            found[name][free] = rows[name].to_numpy()[free]
        found[keys.SCOPE][free] = scope
    claims = _of_columns(found)
    scopes = [s for s in usable if (claims.gene_scope == s).any()]
    return replace(
        claims,
        scope=scopes[0] if scopes else NONE,
        patient=patient,
        verdict=verdict,
        n_spots=0 if flagged is None else len(flagged),
        n_flagged=0 if flagged is None else int(flagged.sum()),
        tested_patients=int(claims.n_patients.max(initial=0)),
        tested_sections=int(claims.n_sections.max(initial=0)),
        reason=_why(claims, tables, untested_because, verdict),
        panel=_count(claims.evidence),
        panel_grades=_count(claims.grade),
    )


def evidence_words(
    grade: npt.NDArray[np.str_], plain: npt.NDArray[np.bool_]
) -> npt.NDArray[np.object_]:
    """(G,) grades in words; `plain` tells which of the D are plainly not predicted."""
    cases = [plain, np.isin(grade, ("A", "B", "C")), grade == UNGRADED]
    words = np.asarray(["plainly not predicted", "predicted", UNTESTED], object)
    return np.asarray(np.select(cases, list(words), default="not shown"), object)


def untested(n_genes: int, reason: str, *, verdict: str | None = None) -> Claims:
    """Claims where nothing is known of any of so many genes."""
    names = [str(j) for j in range(n_genes)]
    return decide(names, {}, "unknown", verdict=verdict, untested_because=reason)


def from_columns(columns: Mapping[str, Any], **of_slide: Any) -> Claims:
    """Claims from columns as `Claims.columns` gives them, and what holds for the slide as a whole."""
    return replace(_of_columns(columns), **of_slide)


def _usable(patient: Patient) -> tuple[Scope, ...]:
    """Kinds of evidence that apply, the closest first."""
    return (WITHIN, BETWEEN) if patient == "same" else (BETWEEN,)


def _why(claims: Claims, tables: Tables, otherwise: str, verdict: str | None) -> str:
    """Why genes are untested; empty where none is."""
    if not (claims.evidence == UNTESTED).any():
        return ""
    if is_unlike(verdict):
        return f"the slide is {_unlike(verdict)}"
    if not any(_has_evidence(t) for t in tables.values()):
        return otherwise
    if (claims.evidence == UNTESTED).all():
        return "the model was tested on sections of its own training patients alone"
    return "no held-out section that applies here has a score of them"


def _has_evidence(table: pd.DataFrame) -> bool:
    return bool((table[keys.GRADE] != UNGRADED).any())


def _unlike(verdict: str | None) -> str:
    return f"unlike the training slides ({str(verdict).removeprefix('unlike').strip(': ')})"


def _of_columns(columns: Mapping[str, Any]) -> Claims:
    arrays: dict[str, Any] = {
        name: np.asarray(columns[column]).astype(type(_NOTHING[column]))
        for name, column in zip(_ARRAYS, _NOTHING, strict=True)
    }
    return Claims(**arrays)


def _count(words: npt.NDArray[np.str_]) -> dict[str, int]:
    found, n = np.unique(words, return_counts=True)
    return {str(word): int(k) for word, k in zip(found, n, strict=True)}
