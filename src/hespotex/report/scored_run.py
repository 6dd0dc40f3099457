"""The end of a run that was scored: tables, pictures, record and report, in this order."""

from __future__ import annotations

import shutil

import numpy as np

from hespotex import keys
from hespotex.config import RunConfig
from hespotex.evaluation import run_tables
from hespotex.evaluation.level_scores import LevelScores
from hespotex.export.h5ad import read_prediction
from hespotex.plots import maps as plots
from hespotex.plots.style import save_figure
from hespotex.progress import Reporter
from hespotex.report.report import write_report
from hespotex.results.absent_table import write_absent_of_folds
from hespotex.results.found_claims import write_found_claims
from hespotex.results.outcome import RunResult
from hespotex.results.run_outputs import read_genes, write_metrics
from hespotex.sections.splits import Folds
from hespotex.storage.clock import StageClock
from hespotex.storage.metrics import Metrics
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import Identity


def finish_scored_run(
    run: RunDir,
    folds: Folds,
    identity: Identity,
    config: RunConfig,
    levels: LevelScores | None = None,
    *,
    reading: str = "",
    score_nan_as_zero: bool,
    reporter: Reporter,
    clock: StageClock,
) -> None:
    """Write everything that is made of the records of all folds, and mark the run as finished.

    Args:
        run: the folder; holds the record of every fold.
        folds: of the run; its note was said before.
        identity: what the result depends on.
        config: of the run.
        levels: scores of the level of slides; None for a profile without a level.
        reading: how slides were read and why.
        score_nan_as_zero: a PCC that does not exist counted as 0 in means.
        reporter: hears what the numbers rest on.
        clock: of the run.
    """
    with clock.stage("write"):
        metrics = write_metrics(run, folds, levels, score_nan_as_zero=score_nan_as_zero)
        predicted = set(read_genes(run)[run_tables.GENE])
        write_absent_of_folds(run, len(folds), predicted, config.panel)
        if folds.by != "external":  # else the predictions carry what their model claims
            write_found_claims(run, metrics.sections)
        write_figures(run)
    if metrics.level is not None:
        reporter.say(metrics.level.sentence)
    for note in metrics.notes:
        if note != folds.note:
            reporter.warn(note)
    details = {"config": config.model_dump(mode="json"), "reading": reading, "notes": metrics.notes}
    if metrics.level is not None:
        details["level"] = metrics.level.sentence
    run.finish(identity, {**details, **clock.summary()})
    write_report(run)
    complete_scored_run(run)


def write_figures(run: RunDir) -> None:
    """Draw genes and depth of every held-out section, and the scores over all genes."""
    genes = read_genes(run)
    for section_id in dict.fromkeys(genes[keys.SECTION_ID]):
        stored = read_prediction(run.predictions / f"{section_id}.h5ad")
        picks = plots.pick_genes(genes[genes[keys.SECTION_ID] == section_id])
        save_figure(plots.plot_genes(stored, picks), run.figures / f"{section_id}_genes.png")
        if np.isfinite(stored.depth).all():
            save_figure(plots.plot_depth(stored), run.figures / f"{section_id}_depth.png")
    save_figure(plots.plot_pcc_distribution(genes), run.figures / "pcc_per_gene.png")


def complete_scored_run(run: RunDir) -> None:
    """Do what a kill may have left to do in a finished run: the report, and no working files."""
    if not run.report.exists():
        write_report(run)
    shutil.rmtree(run.work, ignore_errors=True)


def scored_result(run: RunDir) -> RunResult:
    """The result of a finished run that was scored."""
    paths = {"scores": run.metrics_json, "genes": run.genes_csv, "predictions": run.predictions,
             "pictures": run.figures, "report": run.report}  # fmt: skip
    return RunResult(paths, Metrics.read(run.metrics_json).plain())
