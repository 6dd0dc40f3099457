"""The demo: a painted cohort whose expression is known, cross-validated."""

from __future__ import annotations

from pathlib import Path

from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.pipeline import cross_validate
from hespotex.progress import Progress, heard
from hespotex.results.outcome import RunResult


def demo(
    out: str | Path,
    *,
    seed: int = 0,
    machine: Machine | None = None,
    progress: Progress = None,
) -> RunResult:
    """Paint a cohort whose expression is known, and cross-validate on it.

    Example:
        >>> demo("demo").metrics["folds_by"]  # doctest: +SKIP
        'patient'

    Args: `out` gets cohort/ (slides and counts) and results/; `seed` paints and fits.
    """
    out, reporter = Path(out), heard(progress)
    manifest = out / "cohort" / "sections.csv"
    if not manifest.exists():
        reporter.say(f"painting a synthetic cohort in {manifest.parent}")
        manifest = make_cohort(manifest.parent, seed=seed)
    return cross_validate(
        manifest,
        out / "results",
        config=RunConfig(seed=seed),
        machine=machine,
        progress=reporter,
    )
