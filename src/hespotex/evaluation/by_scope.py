"""Evidence by kind of held-out section: judged apart, kept in the model file, asked for one slide; pure.

A section tells of other patients if no section of its patient was in training; else it tells of that patient alone.
The two kinds are never pooled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import counted
from hespotex.evaluation import run_tables
from hespotex.evaluation.claims import (
    BETWEEN,
    EVIDENCE,
    NOT_VALIDATED,
    OF_OLD_VERSION,
    TABLE_COLUMNS,
    WITHIN,
    Claims,
    Patient,
    Scope,
    Tables,
    decide,
)
from hespotex.evaluation.evidence import FDR, judge_genes
from hespotex.evaluation.grades import count_grades
from hespotex.genes.gene_sets import GeneSet
from hespotex.models.bundle import Bundle
from hespotex.storage.metrics import Evidence, EvidenceTables, HeldGrade, ScopeSummary, Validation

# Fields of `Evidence` that hold tables of `record_tables`.
GENES: Final = "gene_evidence"
SETS: Final = "gene_set_evidence"
LEVELS: Final = "level_grades"  # level grade of each gene, of no kind
SCHEMA_VERSION: Final = 1

Judged = Mapping[Scope, pd.DataFrame]


def judge_by_scope(
    genes: pd.DataFrame,
    patients: Mapping[str, str],
    owners: Mapping[str, str],
    *,
    nominal: float,
    trained_on: Mapping[str, Collection[str]] | None = None,
) -> dict[Scope, pd.DataFrame]:
    """`judge_genes` of each kind of held-out section by itself; a kind without sections is left out.

    Args: as of `judge_genes`.
    """
    found: dict[Scope, pd.DataFrame] = {}
    scopes = _scope_of_rows(genes, patients)
    for scope in (BETWEEN, WITHIN):
        rows = genes[scopes == scope]
        if len(rows):
            found[scope] = judge_genes(
                rows, patients, owners, nominal=nominal, trained_on=trained_on
            )
    return found


def scope_of(patient: str) -> Scope:
    """For whom the evidence of a held-out section holds; `patient` is empty where its patient was in training."""
    return BETWEEN if patient else WITHIN


def _scope_of_rows(genes: pd.DataFrame, patients: Mapping[str, str]) -> pd.Series:
    return genes[keys.SECTION_ID].map({s: scope_of(p) for s, p in patients.items()})


def main_scope(judged: Judged) -> Scope:
    """The kind that a run's headline is about: between patients where there is any such section."""
    return BETWEEN if BETWEEN in judged else WITHIN


def with_evidence(
    genes: pd.DataFrame, judged: Judged, patients: Mapping[str, str], name: str = run_tables.GENE
) -> pd.DataFrame:
    """Rows of genes.csv (or gene_sets.csv) with the verdict of their own kind of section."""
    rows = genes.assign(**{keys.SCOPE: _scope_of_rows(genes, patients)})
    verdicts = pd.concat([table.assign(**{keys.SCOPE: scope}) for scope, table in judged.items()])
    # That of all sections together, where the section's own has the name.
    own = {keys.CEILING_SHARE: run_tables.GENE_CEILING_SHARE} if keys.CEILING_SHARE in rows else {}
    verdicts = verdicts.drop(columns=keys.N_SECTIONS).rename(columns=own)
    return rows.merge(verdicts, on=[name, keys.SCOPE], how="left")


def summarise_scope(table: pd.DataFrame) -> ScopeSummary:
    """What metrics.json says of one kind of held-out section."""
    words = table[keys.EVIDENCE].to_numpy(dtype=str)
    return ScopeSummary(
        grades=count_grades(table[keys.GRADE].to_numpy(dtype=str)),
        evidence={word: int((words == word).sum()) for word in EVIDENCE},
        n_tested=int((table[keys.N_SECTIONS] > 0).sum()),
        n_significant=int((table[keys.Q_VALUE] <= FDR).sum()),
        n_sections=int(table[keys.N_SECTIONS].max()),
        n_patients=int(table[keys.N_PATIENTS].max()),
    )


def headline(judged: Judged, patients: Mapping[str, str]) -> str:
    """The one sentence that every report begins with: what was found, and for whom it holds.

    Args:
        patients: by section, as of `judge_genes`.
    """
    scope = main_scope(judged)
    sections = [s for s, p in patients.items() if scope_of(p) == scope]
    summary = summarise_scope(judged[scope])
    tested, found = summary.n_tested, summary.n_significant
    number = f"{found:,} of {tested:,} genes are" if found else "No gene is"
    tail = "" if found else f" ({tested:,} tested)"
    where = counted(len(sections), "held-out section")
    if scope == BETWEEN:
        n = len({patients[s] for s in sections})
        whose = f" of {counted(n, 'patient')} outside the training"
        caution = " Evidence of one patient says little of the next." if n == 1 else ""
    else:
        whose = ""
        caution = (
            " Sections of the same patients were, or may have been, in training: this says nothing about another "
            "patient."
        )
    return (
        f"{number} predicted better than a smooth random map beyond depth{tail}, FDR {FDR:.0%}, {where}{whose}."
        f"{caution}"
    )


def held_grades(genes: pd.DataFrame, judged: Judged) -> list[HeldGrade]:
    """How the grades of a model's own validation hold on new sections, by the kind of evidence, best grade first.

    Args:
        genes: rows of genes.csv with `pcc_composition`, and `model_grade_<scope>` of every kind that the model has.
    """
    rows = []
    for seen, table in judged.items():
        here = genes[genes[keys.SCOPE] == seen]
        merged = here.merge(
            table[[run_tables.GENE, keys.Q_VALUE, keys.N_SECTIONS]].rename(
                columns={keys.Q_VALUE: "_q"}
            ),
            on=run_tables.GENE,
        )
        for scope in (BETWEEN, WITHIN):
            column = run_tables.model_grade(scope)
            if column not in merged:
                continue
            for grade, part in merged.groupby(column, sort=True):
                once = part.drop_duplicates(run_tables.GENE)
                tested = once[once[keys.N_SECTIONS] > 0]
                rows.append(
                    HeldGrade(
                        scope=scope,
                        seen=seen,
                        grade=str(grade),
                        n_genes=len(once),
                        n_tested=len(tested),
                        n_significant=int((tested["_q"] <= FDR).sum()),
                        pcc_composition=float(part[run_tables.PCC_COMPOSITION].mean()),
                    )
                )
    return rows


# ------------------------------------------------------------------------------------ in the model file


def record_tables(judged: Judged, name: str = run_tables.GENE) -> EvidenceTables:
    """Tables by kind as JSON-like values, for `Evidence`; NaN becomes None."""
    return {
        scope: {
            "names": table[name].astype(str).tolist(),
            **{column: _listed(table[column]) for column in TABLE_COLUMNS},
        }
        for scope, table in judged.items()
    }


def _listed(column: pd.Series) -> list[Any]:
    values = column.astype(object).where(column.notna(), None)
    return [v.item() if isinstance(v, np.generic) else v for v in values.tolist()]


def bundle_tables(bundle: Bundle, kind: str = GENES) -> Tables:
    """What a model's validation says of its genes (or gene sets), by kind; empty where it says nothing."""
    return tables_of(Evidence.model_validate(bundle.validation), kind)


def tables_of(evidence: Evidence, kind: str = GENES) -> Tables:
    """The tables that `record_tables` recorded under `kind`."""
    known: EvidenceTables = getattr(evidence, kind)
    tables: dict[Scope, pd.DataFrame] = {}
    for scope in (BETWEEN, WITHIN):
        if scope in known:
            columns = dict(known[scope])
            names = pd.Index(columns.pop("names"), dtype=object)
            table = pd.DataFrame({c: columns[c] for c in TABLE_COLUMNS}, index=names)
            numbers = [c for c in TABLE_COLUMNS if c not in (keys.GRADE, keys.EVIDENCE)]
            tables[scope] = table.astype(dict.fromkeys(numbers, np.float64))
    return tables


def bundle_claims(
    bundle: Bundle,
    patient: Patient,
    *,
    verdict: str | None = None,
    flagged: npt.NDArray[np.bool_] | None = None,
    sets: Sequence[str] | None = None,
) -> Claims:
    """What a model may claim of its genes, or of the gene sets of these names, on one slide; see `claims.decide`."""
    names, kind = (bundle.genes, GENES) if sets is None else (sets, SETS)
    return decide(
        names,
        bundle_tables(bundle, kind),
        patient,
        verdict=verdict,
        flagged=flagged,
        untested_because=why_untested(bundle),
    )


def why_untested(bundle: Bundle) -> str:
    """Why a model has no evidence, where it has none."""
    found = Validation.model_validate(bundle.validation)
    return OF_OLD_VERSION if found.grades and not found.evidence_schema else NOT_VALIDATED


def of_same_sets(bundle: Bundle, sets: Sequence[GeneSet]) -> EvidenceTables:
    """The evidence of a model's gene sets that are among these with the very same genes."""
    known = {s.name: frozenset(s.genes) for s in bundle.gene_sets}
    same = {s.name for s in sets if known.get(s.name) == frozenset(s.genes)}
    kept: EvidenceTables = {}
    for scope, columns in Evidence.model_validate(bundle.validation).gene_set_evidence.items():
        at = [k for k, name in enumerate(columns["names"]) if name in same]
        kept[scope] = {name: [values[k] for k in at] for name, values in columns.items()}
    return kept
