"""What the report says, gathered from a finished run folder; it draws nothing.

Everything that a run may lack (scores, intervals, grades, calibration) is left out where it is lacking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation import run_tables
from hespotex.evaluation.predictors import PREDICTORS
from hespotex.export.h5ad import StoredPrediction, read_prediction
from hespotex.storage.metrics import Metrics
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import RunRecord

GENE_COLUMNS: Final[Mapping[str, str]] = {
    keys.GRADE: "grade",
    keys.EVIDENCE: "evidence",
    keys.SCOPE: "scope",
    keys.N_PATIENTS: "patients",
    keys.N_SECTIONS: "sections",
    keys.SCORE: "PCC given depth",
    run_tables.PCC_COMPOSITION: "composition PCC",
    run_tables.RIDGE_PCC_COMPOSITION: PREDICTORS["ridge"].label,
    run_tables.PCC_PARTIAL: "PCC given depth",
    keys.Q_VALUE: "q-value",
    keys.CEILING_SHARE: "of its ceiling",
    keys.LEVEL_GRADE: "level grade",
    run_tables.LEVEL_PCC: "level PCC",
    run_tables.PCC_LOG1P: "log1p PCC",
    run_tables.DEPTH_PCC_LOG1P: PREDICTORS["depth_only"].label,
    run_tables.MEAN_COUNT: "counts a spot",
}
# What the page says of the chosen gene in the chosen section; columns of genes.csv.
SECTION_COLUMNS: Final = (
    run_tables.PCC_COMPOSITION, *run_tables.ends(run_tables.PCC_COMPOSITION), run_tables.PCC_PARTIAL, run_tables.NULL_Z, run_tables.CEILING_COMPOSITION,
    run_tables.PCC_LOG1P, *run_tables.ends(run_tables.PCC_LOG1P), run_tables.DEPTH_PCC_LOG1P, run_tables.RMSE_LOG1P, run_tables.COVERAGE, "deviance_explained", "moran_measured", "moran_predicted", "ssim",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it; finished, or with slides that could not be predicted.

    Attributes:
        record: run.json.
        metrics: metrics.json; empty where the run did not score.
        genes: genes.csv; empty where the run did not score.
        section_ids: of predictions/, in the order of the folds, else by name.
        folder: of the run.
    """

    record: RunRecord
    metrics: Metrics
    genes: pd.DataFrame
    section_ids: tuple[str, ...]
    folder: RunDir

    def sections(self) -> Iterator[StoredPrediction]:
        """Read the predictions, one at a time."""
        for section_id in self.section_ids:
            yield read_prediction(self.folder.predictions / f"{section_id}.h5ad")


def read_run(folder: RunDir) -> Run:
    """Read the small files of a finished run.

    Raises:
        RunError: the folder holds no run, or one that is not finished.
    """
    record = RunRecord.read_if_there(folder.run_json)
    # Of a run over slides one prediction will do: the others may have failed for good.
    if record is None or not (
        record.status == "finished" or any(row.ended for row in record.slides)
    ):
        raise _no_run(folder, record)
    metrics = Metrics.read_if_there(folder.metrics_json) or Metrics()
    genes = run_tables.GENES.read(folder.genes_csv) if folder.genes_csv.exists() else pd.DataFrame()
    present = {path.stem for path in folder.predicted()}
    ordered = [i for fold in metrics.folds for i in fold.held_out if i in present]
    ids = dict.fromkeys([*ordered, *sorted(present)])
    return Run(record, metrics, genes, tuple(ids), folder)


def _no_run(folder: RunDir, record: RunRecord | None) -> RunError:
    failed = [row for row in (record.slides if record else ()) if row.status == "failed"]
    if failed:
        others = len(failed) - 1
        more = f" (and {others:,} more slide{'' if others == 1 else 's'})" if others else ""
        return RunError(
            expected=f"a prediction in {folder.path}",
            found=f"none: slide {failed[0].section_id} could not be predicted: {failed[0].why}{more}",
        )
    found = "an unfinished one" if record else "no run.json"
    return RunError(
        expected=f"a finished run in {folder.path}",
        found=found,
        remedy="finish it by running its command again",
    )


def accepted_notes(record: RunRecord) -> list[str]:
    """What the preflight refused of a run's sections and the user accepted, one sentence each."""
    return [
        f"Section {section_id}: accepted by the user against the preflight: {said}."
        for section_id, facts in record.identity.inputs.items()
        for said in facts.get("accepted", ())
    ]


def gene_table(genes: pd.DataFrame, claimed: pd.DataFrame) -> pd.DataFrame:
    """One row a gene: each score's mean over the sections that have one; best composition first.

    Args:
        genes: genes.csv, may be empty.
        claimed: of the predictions (`claimed_genes`), for a run without scores: taken as it is.
    """
    if genes.empty:
        return claimed
    grouped = genes.groupby(run_tables.GENE, sort=False)
    table = pd.DataFrame({run_tables.GENE: list(grouped.groups)})
    for name in GENE_COLUMNS:
        if run_tables.GENES.is_text(name) and name in genes:
            table[name] = grouped[name].first().to_numpy()
        elif name in genes:
            table[name] = grouped[name].mean().to_numpy()
    if keys.SCORE in table:  # the same mean, of the sections that the grade rests on
        table = table.drop(columns=run_tables.PCC_PARTIAL, errors="ignore")
    by = run_tables.PCC_COMPOSITION if run_tables.PCC_COMPOSITION in table else run_tables.GENE
    return table.sort_values(by, ascending=by == run_tables.GENE, kind="stable").reset_index(
        drop=True
    )


def section_scores(
    genes: pd.DataFrame, section_id: str, names: Sequence[str]
) -> dict[str, list[float | None]]:
    """Scores of the mapped genes in one section, by column of genes.csv; empty for a run without scores."""
    if genes.empty:
        return {}
    rows = (
        genes[genes[keys.SECTION_ID] == section_id]
        .drop_duplicates(run_tables.GENE)
        .set_index(run_tables.GENE)
    )
    rows = rows.reindex(list(names))
    return {
        name: [None if np.isnan(v) else round(float(v), 3) for v in rows[name]]
        for name in SECTION_COLUMNS
        if name in rows
    }
