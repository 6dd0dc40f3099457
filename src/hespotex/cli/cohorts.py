"""Verbs on many predictions: `cohort` sums them up, `associate` tests them over patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal


def cohort(
    predicted: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTED...", help="Folders of `predict`, folders of h5ad files, or files."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the table and what is beside it.")],
    clinical: Annotated[
        Path | None,
        typer.Option(
            "--clinical",
            metavar="TABLE",
            help="CSV or TSV with a column patient_id or section_id; all its columns are carried along.",
        ),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="slide|patient", help="What a row of the table is.")
    ] = "patient",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Sum up predicted slides as one table, patients or slides x genes. Files are read one by one, and a
    call that was interrupted goes on; a file that cannot be used is a row of slides.csv. Research use only.

    Example: hespotex cohort predicted --out cohort --clinical clinical.csv
    """
    from hespotex.analysis.cohort import cohort as make_cohort

    result = make_cohort(
        predicted,
        out,
        clinical=clinical,
        by=by,  # type: ignore[arg-type]
        reporter=options.reporter(quiet, verbose),
    )
    p = result.paths
    failed = f"; {result.n_failed:,} files could not be used" if result.n_failed else ""
    terminal.stdout().print(
        f"{result.n_rows:,} rows ({by}) x {result.n_genes:,} genes{failed}. Research use only.",
        markup=False,
    )
    paths = {"cohort": p.h5ad, "Parquet": p.parquet, "CSV": p.csv, "genes": p.genes}
    terminal.print_paths({**paths, "slides": p.slides})
