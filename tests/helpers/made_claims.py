"""Claims and tables of evidence for tests, with few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from hespotex.evaluation.by_scope import GENES, SCHEMA_VERSION, record_tables
from hespotex.evaluation.claims import BETWEEN, TABLE_COLUMNS, Claims, Scope, decide
from hespotex.storage.metrics import Evidence

EVIDENCE_OF = dict.fromkeys("ABC", "predicted") | {"D": "not shown", "ungraded": "untested"}


def evidence_table(
    grades: Mapping[str, str],
    *,
    n_patients: int = 2,
    n_sections: int = 3,
    evidence: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """What held-out sections of one kind say of genes, by gene; scores fall by 0.01 from gene to gene."""
    words = evidence or {}
    rows = [
        {
            "grade": grade,
            "evidence": words.get(gene, EVIDENCE_OF[grade]),
            "n_patients": n_patients * (grade != "ungraded"),
            "n_sections": n_sections * (grade != "ungraded"),
            "score": 0.5 - 0.01 * j,
            "score_lower": 0.3 - 0.01 * j,
            "score_upper": 0.7 - 0.01 * j,
            "q_value": 0.001 * (j + 1),
            "ceiling_share": 0.8 - 0.01 * j,
        }
        for j, (gene, grade) in enumerate(grades.items())
    ]
    table = pd.DataFrame(rows, index=pd.Index(list(grades), dtype=object))
    assert set(table) == set(TABLE_COLUMNS)
    return table


def claims_of(
    grades: Sequence[str], *, scope: Scope = BETWEEN, verdict: str | None = None
) -> Claims:
    """Claims of genes with these grades on a slide of a new patient (within: of the training's)."""
    names = {f"{j}": grade for j, grade in enumerate(grades)}
    table = evidence_table(names, n_patients=2 * (scope == BETWEEN))
    patient = "new" if scope == BETWEEN else "same"
    return decide(list(names), {scope: table}, patient, verdict=verdict)  # type: ignore[arg-type]


def validation_of(
    grades: Mapping[str, str], *, scope: Scope = BETWEEN, kind: str = GENES
) -> dict[str, object]:
    """What a model file keeps of a validation that found these grades by this kind of held-out section."""
    table = evidence_table(grades, n_patients=2 * (scope == BETWEEN))
    named = table.assign(gene=table.index)
    return Evidence(evidence_schema=SCHEMA_VERSION, **{kind: record_tables({scope: named})}).plain()
