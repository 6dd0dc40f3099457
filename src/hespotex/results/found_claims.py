"""Grades that a run found, put into the predictions of its own held-out sections once all folds are judged."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.evaluation.by_scope import SETS, tables_of
from hespotex.evaluation.claims import Claims, decide
from hespotex.evaluation.grades import UNGRADED
from hespotex.export.claims_store import claim_columns, claim_record, set_words
from hespotex.storage.atomic import atomic_path, sweep_leftovers
from hespotex.storage.metrics import Evidence, SectionRecord
from hespotex.storage.run_folder import RunDir


def write_found_claims(run: RunDir, sections: Sequence[SectionRecord]) -> None:
    """Give every prediction of a cross-validation the grades that were found, marked as found on these sections.

    Args:
        run: holds evidence.json and predictions/.
        sections: records of the held-out sections.
    """
    evidence = Evidence.read(run.evidence_json)
    for record in sections:
        path = run.predictions / f"{record.section_id}.h5ad"
        sweep_leftovers(run.predictions, record.section_id)
        with atomic_path(path) as temporary:
            shutil.copyfile(path, temporary)
            _mark(temporary, record, evidence)


def _mark(path: Any, record: SectionRecord, evidence: Evidence) -> None:
    import h5py
    from anndata.io import read_elem, write_elem

    with h5py.File(path, "r+") as file:
        var, own = read_elem(file["var"]), read_elem(file[f"uns/{keys.UNS}"])
        obs = file["obs"]
        flagged = np.asarray(obs[keys.OOD]) if keys.OOD in obs else None
        claims = _found(var.index.tolist(), record, tables_of(evidence), flagged)
        for name, column in claim_columns(claims).items():
            var[name] = column
        known = evidence.level_grades
        var[keys.LEVEL_GRADE] = pd.Categorical([known.get(g, UNGRADED) for g in var.index])
        own = {k: v for k, v in own.items() if k != keys.REASON} | claim_record(claims)
        sets = own.get(keys.GENE_SETS)
        if sets is not None:
            of_sets = _found(sets.index.tolist(), record, tables_of(evidence, SETS), None)
            for name, column in set_words(of_sets).items():
                sets[name] = column
        del file["var"], file[f"uns/{keys.UNS}"]
        write_elem(file, "var", var)
        write_elem(file, f"uns/{keys.UNS}", own)


def _found(names: list[str], record: SectionRecord, tables: Any, flagged: Any) -> Claims:
    claims = decide(
        names,
        tables,
        "same" if record.patient_in_training else "new",
        verdict=record.ood_verdict,
        flagged=flagged,
    )
    return replace(claims, found_here=True)
