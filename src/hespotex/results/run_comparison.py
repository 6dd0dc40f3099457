"""Comparison of two finished run folders: reads them, writes the paired table."""

from __future__ import annotations

from pathlib import Path

from hespotex.errors import RunError
from hespotex.evaluation.compare import Comparison, RunScores, compare_runs
from hespotex.results.mean_scores import section_owners
from hespotex.results.run_outputs import read_genes
from hespotex.storage.atomic import atomic_path
from hespotex.storage.metrics import Metrics
from hespotex.storage.run_folder import RunDir


def compare_folders(first: Path, second: Path) -> Comparison:
    """Compare two finished runs that were scored.

    Raises:
        RunError: a folder holds no scored run, or the two do not compare.
    """
    runs: list[RunScores] = []
    patients: dict[str, str] = {}
    for folder in (first, second):
        run = RunDir(folder)
        metrics = Metrics.read_if_there(run.metrics_json)
        if metrics is None:
            raise RunError(
                expected=f"a finished, scored run in {folder}",
                found=f"no {run.metrics_json.name}",
                remedy="run cross-validate or evaluate",
            )
        patients |= section_owners(metrics.sections)
        trained = {i: frozenset(f.train) for f in metrics.folds for i in f.held_out}
        spots = {s.section_id: s.n_spots for s in metrics.sections}
        keys = {s.section_id: s.key for s in metrics.sections}
        runs.append(RunScores(str(folder), read_genes(run), trained, spots, keys))
    return compare_runs(runs[0], runs[1], patients)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the paired table: section_id, gene, and of each score both values and their difference."""
    with atomic_path(path) as temporary:
        comparison.per_gene.to_csv(temporary, index=False)
