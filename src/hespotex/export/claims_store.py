"""How claims lie in a prediction file: columns of var and entries of uns["hespotex"]; pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.claims import OF_OLD_VERSION, SCORE, Claims, from_columns, untested

if TYPE_CHECKING:
    from anndata import AnnData

_WORDS: Final = (keys.GRADE, keys.EVIDENCE, keys.SCOPE)
_NOTHING_NOTED: Final = "the file does not say what is known of them"


def claim_columns(claims: Claims) -> dict[str, Any]:
    """Columns of var, by name: words as categories, numbers as they are."""
    return {
        name: pd.Categorical(values.astype(object)) if name in _WORDS else values
        for name, values in claims.columns().items()
    }


def set_words(claims: Claims) -> dict[str, Any]:
    """What is claimed of gene sets, as columns of their table."""
    return {name: column for name, column in claim_columns(claims).items() if name in _WORDS}


def claim_record(claims: Claims) -> dict[str, Any]:
    """Entries of uns["hespotex"]: what holds for the prediction as a whole."""
    record = {
        keys.SENTENCE: claims.sentence(),
        keys.SCOPE: claims.scope,
        keys.PATIENT: claims.patient,
        keys.SUSPENDED: claims.suspended,
        keys.FOUND_HERE: claims.found_here,
        keys.OOD_VERDICT: claims.verdict,
        keys.EVIDENCE_COUNTS: claims.counts(),
        keys.GRADE_COUNTS: dict(claims.panel_grades),
        keys.TESTED_PATIENTS: claims.tested_patients,
        keys.TESTED_SECTIONS: claims.tested_sections,
        keys.N_FLAGGED: claims.n_flagged,
        keys.REASON: claims.reason or None,
        keys.SCORE_IS: SCORE,
    }
    return {name: value for name, value in record.items() if value is not None}


def record_in(uns: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """uns["hespotex"].

    Raises:
        RunError: there is none.
    """
    if keys.UNS not in uns:
        raise RunError(
            expected=f"a prediction of hespotex in {path}",
            found="an h5ad without uns['hespotex']",
            remedy="give a file from a run's predictions folder",
        )
    record: Mapping[str, Any] = uns[keys.UNS]
    return record


def read_claims(table: AnnData) -> Claims:
    """What a prediction file claims; nothing, of one that 0.1.0 wrote: its grades do not say what they rest on."""
    return claims_of(table.uns[keys.UNS], table.var, table.n_obs)


def claims_of(record: Mapping[str, Any], columns: pd.DataFrame, n_spots: int) -> Claims:
    """`read_claims` of uns["hespotex"], the table of genes and the number of spots."""
    verdict = record.get(keys.OOD_VERDICT)
    if not {keys.EVIDENCE, keys.SCOPE} <= set(columns) or keys.SCOPE not in record:
        return unclaimed(record, len(columns), graded=keys.GRADE in columns)
    return from_columns(
        {name: columns[name].to_numpy() for name in claim_names()},
        scope=str(record[keys.SCOPE]),
        patient=str(record[keys.PATIENT]),
        verdict=verdict,
        n_spots=n_spots,
        n_flagged=int(record[keys.N_FLAGGED]),
        tested_patients=int(record[keys.TESTED_PATIENTS]),
        tested_sections=int(record[keys.TESTED_SECTIONS]),
        reason=str(record.get(keys.REASON, "")),
        found_here=bool(record[keys.FOUND_HERE]),
        panel=_numbers(record[keys.EVIDENCE_COUNTS]),
        panel_grades=_numbers(record[keys.GRADE_COUNTS]),
    )


def unclaimed(record: Mapping[str, Any], n_genes: int, *, graded: bool) -> Claims:
    """Claims of a prediction that carries none: nothing, whatever its grades are.

    Args:
        record: uns["hespotex"].
        n_genes: that are held here.
        graded: whether there are grades that do not say what they rest on.
    """
    reason = OF_OLD_VERSION if graded else _NOTHING_NOTED
    n_panel = int(record.get("n_panel_genes", n_genes))
    whole = untested(n_panel, reason, verdict=record.get(keys.OOD_VERDICT))
    return whole.subset(np.zeros(n_genes, np.intp))


def claim_names() -> tuple[str, ...]:
    """Names of the columns that claims have in var."""
    return tuple(untested(0, "").columns())


def _numbers(counts: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(n) for name, n in counts.items()}
