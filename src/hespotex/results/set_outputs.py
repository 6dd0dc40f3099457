"""Outputs on gene sets: gene_sets.csv and their entry in metrics.json, from per-fold tables to the verdict over all folds."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from hespotex import keys
from hespotex.evaluation import run_tables
from hespotex.evaluation.by_scope import record_tables, with_evidence
from hespotex.evaluation.set_scores import judge_sets, summarise_sets
from hespotex.genes.gene_sets import PanelSets
from hespotex.storage.atomic import write_json
from hespotex.storage.metrics import SetsSummary
from hespotex.storage.run_folder import RunDir
from hespotex.validation.cross_validation import FoldOutcome


def write_fold_sets(run: RunDir, number: int, outcome: FoldOutcome) -> None:
    """Write the scores of a fold's gene sets, and which were left out; nothing where there are none."""
    if not outcome.bundle.gene_sets:
        return
    tables = []
    for held in outcome.held_out:
        if held.gene_sets is not None:
            table = held.gene_sets.copy()
            table.insert(0, run_tables.FOLD, number)
            table.insert(1, keys.SECTION_ID, held.item.section.section_id)
            tables.append(table)
    if tables:
        run_tables.GENE_SETS.write(run.work / f"fold-{number}-sets.csv", pd.concat(tables))
    left_out = PanelSets.of(outcome.bundle.gene_sets, outcome.bundle.genes).left_out
    write_json(run.work / f"fold-{number}-sets.json", {"left_out": dict(left_out)})


def write_set_metrics(
    run: RunDir,
    n_folds: int,
    patients: Mapping[str, str],
    owners: Mapping[str, str],
    trained_on: Mapping[str, Collection[str]],
) -> tuple[SetsSummary, dict[str, Any]] | None:
    """Write gene_sets.csv from the tables of all folds.

    Args:
        run: the folder.
        n_folds: of the run.
        patients: as of `judge_genes`.
        owners: likewise.
        trained_on: likewise.

    Returns:
        What metrics.json says of them, and their tables of evidence; None for a run without gene sets.
    """
    notes = [run.work / f"fold-{n}-sets.json" for n in range(n_folds)]
    if not all(path.exists() for path in notes):
        return None
    tables = [run.work / f"fold-{n}-sets.csv" for n in range(n_folds)]
    rows = [run_tables.GENE_SETS.read(path) for path in tables if path.exists()]
    left_out: dict[str, int] = {}
    for path in notes:
        for name, n in json.loads(path.read_text(encoding="utf-8"))["left_out"].items():
            left_out[name] = max(n, left_out.get(name, 0))
    if not rows:
        return SetsSummary(left_out=left_out), {}
    table = pd.concat(rows, ignore_index=True)
    judged = judge_sets(table, patients, owners, trained_on)
    merged = with_evidence(table, judged, patients, run_tables.GENE_SET)
    run_tables.GENE_SETS.write(run.gene_sets_csv, merged)
    scored = set(table[run_tables.GENE_SET])
    nowhere = {name: n for name, n in left_out.items() if name not in scored}
    return summarise_sets(judged, table, nowhere), record_tables(judged, run_tables.GENE_SET)


def read_sets(run: RunDir) -> pd.DataFrame:
    """The rows of gene_sets.csv; empty where the run scored no gene set."""
    path = run.gene_sets_csv
    return run_tables.GENE_SETS.read(path) if path.exists() else pd.DataFrame()
