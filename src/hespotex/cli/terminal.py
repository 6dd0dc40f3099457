"""What the command line shows: messages, progress bars, tables; writes to the terminal alone.

Results go to standard output, everything else to standard error. Bars appear on a terminal only.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hespotex.errors import counted

if TYPE_CHECKING:
    from rich.console import Console

    from hespotex.progress import Advance
    from hespotex.results.outcome import RunResult
    from hespotex.storage.metrics import HeldGrade, Metrics, SetsSummary

SCORES = (
    ("pcc_log1p_mean", "log1p PCC"),
    ("pcc_log1p_top50", "50 best"),
    ("pcc_composition_abundant200", "composition PCC (200 abundant)"),
    ("pcc_composition_mean", "composition PCC (all)"),
    ("rmse_log1p", "RMSE log1p"),
)


_WHOM = {
    "between_patients": "for patients outside the training",
    "within_patient": "within the patients of the training",
}


def stdout() -> Console:
    """The console of results."""
    from rich.console import Console

    # A pipe has no width; what reads it should get whole rows.
    width = None if sys.stdout.isatty() else 160
    return Console(width=width, highlight=False)


def stderr() -> Console:
    """The console of messages."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


class TerminalReporter:
    """Progress bars and messages on standard error.

    Args:
        verbose: say what is otherwise left out, such as the end of every stage.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._console = stderr()
        self._quiet = quiet
        self._verbose = verbose

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show a bar while the block runs; on no terminal show nothing."""
        if self._quiet or not self._console.is_terminal:
            yield lambda _steps: None
        else:
            with self._bar() as bar:
                task = bar.add_task(description, total=total)
                yield lambda steps: bar.advance(task, steps)
        if self._verbose:
            self._console.print(f"done: {description}")

    def say(self, message: str) -> None:
        """Print unless quiet."""
        if not self._quiet:
            self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Print always."""
        print_warning(message)

    def _bar(self) -> Any:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )


def print_error(message: str) -> None:
    """One line on standard error."""
    print(f"hespotex: {' '.join(message.split())}", file=sys.stderr)


def print_warning(message: str) -> None:
    """A warning on standard error."""
    stderr().print(f"[yellow]warning:[/yellow] {_plain(message)}")


def print_scores(metrics: Metrics) -> None:
    """The table of a cross-validation: every predictor's scores, the depth-only lines beside them."""
    from rich.table import Table

    from hespotex.evaluation.predictors import MODEL, PREDICTORS

    table = Table(title=_title(metrics), title_justify="left", title_style="bold")
    table.add_column("prediction of held-out sections")
    for _, label in SCORES:
        table.add_column(label, justify="right")
    for key, predictor in PREDICTORS.items():
        if key in metrics.mean:
            style = "bold" if key == MODEL else None
            scores = (number(metrics.mean_of(key, name)) for name, _ in SCORES)
            table.add_row(predictor.marked, *scores, style=style)
    stdout().print(table)
    _print_sizes(metrics)
    if metrics.headline:
        stdout().print(metrics.headline, markup=False)
    for scope, found in metrics.by_scope.items():
        grades = ", ".join(f"{count:,} {name}" for name, count in found.grades.items() if count)
        words = ", ".join(f"{count:,} {word}" for word, count in found.evidence.items() if count)
        stdout().print(f"genes by grade {_WHOM[scope]}: {grades} ({words})", markup=False)
    _print_held(metrics.model_grades)
    if metrics.gene_sets is not None:
        _print_gene_sets(metrics.gene_sets)
    _print_search(metrics)


def _print_sizes(metrics: Metrics) -> None:
    """At which size of square fine bins were scored."""
    from hespotex.report.report_tables import SIZE_COLUMNS, SIZE_TEXT, size_rows

    if rows := size_rows(metrics):
        print_table("Scores by size of square", SIZE_COLUMNS, rows)
        stdout().print(SIZE_TEXT, markup=False, soft_wrap=True)


def print_result(result: RunResult) -> None:
    """The scores of a run, and where its files lie."""
    from hespotex.storage.metrics import Metrics

    print_scores(Metrics.model_validate(result.metrics))
    print_paths(result.paths)


def _print_held(rows: Sequence[HeldGrade]) -> None:
    """How the grades of a model hold on new sections, by what they rest on."""
    for scope in dict.fromkeys(row.scope for row in rows):
        again = [
            f"{row.n_significant:,} of {row.n_tested:,} {row.grade}"
            for row in rows
            if row.scope == scope and row.grade in "ABCD"
        ]
        if again:
            stdout().print(
                f"found again here of the genes that the model's own validation graded {_WHOM[scope]}: "
                f"{', '.join(again)}",
                markup=False,
                soft_wrap=True,
            )


def _print_gene_sets(of_sets: SetsSummary) -> None:
    if of_sets.headline:
        stdout().print(of_sets.headline, markup=False)
    if of_sets.left_out:
        from hespotex.genes.gene_sets import left_out_sentence

        stdout().print(left_out_sentence(of_sets.left_out), markup=False)


def _print_search(metrics: Metrics) -> None:
    from hespotex.report.report_tables import searches_text

    if searched := searches_text(metrics):
        stdout().print(searched, markup=False)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table of text."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    stdout().print(table)


def print_slides(slides: Sequence[Any]) -> None:
    """What came of every slide: done, skipped or failed, and why."""
    if not slides:
        return
    header = ("slide", "", "spots", "unreadable", "compared with training", "remark")
    rows = [
        (s.section_id, s.status, f"{s.n_spots:,}", f"{s.n_bad:,}", s.verdict or "-", s.why)
        for s in slides
    ]
    print_table("Slides", header, rows)


def print_paths(rows: Mapping[str, object]) -> None:
    """Where the results lie, one a line."""
    for label, path in rows.items():
        stdout().print(f"{label}: {path}", markup=False)


def _title(metrics: Metrics) -> str:
    held = {
        "patient": "left out: whole patients",
        "section": "left out: single sections",
        "kfold": "left out: groups of patients",
        "external": "a model that was trained elsewhere",
    }
    sections = sum(len(fold.held_out) for fold in metrics.folds)
    parts = [counted(len(metrics.folds), "fold"), counted(sections, "held-out section")]
    return f"{', '.join(parts)}; {held[metrics.folds_by]}"


def number(value: float) -> str:
    """Three digits, or a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
