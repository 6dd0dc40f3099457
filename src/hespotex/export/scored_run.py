"""Owns the end of a run that was scored: tables, pictures, record and report, in this order."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from hespotex.config import RunConfig
from hespotex.export.report import write_report
from hespotex.export.run_outputs import write_figures, write_metrics
from hespotex.progress import Reporter
from hespotex.runs import RunDir, StageClock
from hespotex.splits import Folds


def finish_scored_run(
    run: RunDir,
    folds: Folds,
    identity: Mapping[str, Any],
    config: RunConfig,
    *,
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
        score_nan_as_zero: a PCC that does not exist counted as 0 in means.
        reporter: hears what the numbers rest on.
        clock: of the run.
    """
    with clock.stage("write"):
        metrics = write_metrics(run, folds, score_nan_as_zero=score_nan_as_zero)
        write_figures(run)
    for note in metrics["notes"]:
        if note != folds.note:
            reporter.warn(note)
    details = {"config": config.model_dump(mode="json"), "notes": metrics["notes"]}
    run.finish(identity, {**details, **clock.summary()})
    write_report(run)
    complete_scored_run(run)


def complete_scored_run(run: RunDir) -> None:
    """Do what a kill may have left to do in a finished run: the report, and no working files."""
    if not run.report.exists():
        write_report(run)
    shutil.rmtree(run.work, ignore_errors=True)
