"""Texts of the report on single sections and on the run: slides, failures, losses, provenance; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.evaluation import run_tables
from hespotex.export.claim_words import claims_of
from hespotex.export.h5ad import StoredPrediction
from hespotex.report.report_claims import evidence_cells
from hespotex.results.read import Run
from hespotex.storage.metrics import Metrics
from hespotex.storage.run_record import RunRecord

Row = dict[str, Any]

_EMPTY: Final = "spots without a count of any panel gene (kept)"
# A page is passed on: it names no folder of this machine.
_FOLDERS: Final = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,]+[/\\])+")


def training_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """On predicted sections that the model was fitted on, one sentence each."""
    return [
        f"Section {record['section_id']}: {record['training_note']}."
        for record in records
        if record.get("training_note")
    ]


def slide_row(section: StoredPrediction) -> Row:
    """How a slide compares with the training slides, and how much is claimed on it."""
    flags = section.extras.ood
    return {
        "section": section.section_id,
        "patient": section.patient_id or "–",
        "n_spots": f"{len(section.barcodes):,}",
        "flagged": "–" if flags is None else f"{int(flags.sum()):,}",
        "verdict": section.record.get(keys.OOD_VERDICT) or "–",
        "evidence": evidence_cells(claims_of(section)),
    }


def failed_slides(record: RunRecord) -> list[str]:
    """One sentence on every slide of a run that has no prediction; files by their names alone."""
    states = {"failed": "could not be predicted", "unfinished": "is not finished"}
    return [
        f"Slide {row.section_id} {states[row.status]}: {_FOLDERS.sub('', row.why)}. Nothing of it is shown here."
        for row in record.slides
        if row.status in states
    ]


def dropped_rows(dropped: Sequence[Row], metrics: Metrics, genes: pd.DataFrame) -> list[Row]:
    """Spots and genes that were left out or have no score: counted, never scored as 0."""
    rows = list(dropped)
    rows += [
        {"section": section.section_id, "reason": _EMPTY, "count": section.n_empty_spots}
        for section in metrics.sections
        if section.n_empty_spots
    ]
    reasons = {
        run_tables.CONSTANT: ("True", "genes without score: the same value in every spot"),
        run_tables.MEASURED: ("False", "genes without score: not measured in this section"),
    }
    for column, (wanted, reason) in reasons.items():
        if column not in genes:
            continue
        hit = genes[genes[column].astype(str) == wanted]
        for section_id, count in hit.groupby(keys.SECTION_ID, sort=False).size().items():
            rows.append({"section": section_id, "reason": reason, "count": int(count)})
    return rows


def facts(run: Run, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Provenance: names, keys and versions; no path and no user name."""
    record = records[0] if records else {}
    models = dict.fromkeys(str(r["model_id"]) for r in records if r.get("model_id"))
    memory = run.record.peak_memory_mib
    found = {
        "Models" if len(models) > 1 else "Model": " · ".join(models),
        "Profile": record.get("profile"),
        "Encoder": record.get("encoder"),
        "Patch sides": " · ".join(f"{v:g} µm" for v in np.ravel(record.get("sides_um", []))),
        "Seed": run.record.config.get("seed"),
        "Time": " · ".join(f"{k} {v:.0f} s" for k, v in run.record.seconds.items()),
        "Peak memory": None if memory is None else f"{memory:,.0f} MiB",
        "Versions": " · ".join(f"{k} {v}" for k, v in run.record.versions.items()),
        "Content keys": " · ".join(
            f"{k} {v.get('spots', '')[:12]}" for k, v in run.record.identity.inputs.items()
        ),
    }
    return [{"name": k, "value": str(v)} for k, v in found.items() if v not in (None, "")]
