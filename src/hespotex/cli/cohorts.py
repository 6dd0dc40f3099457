"""Verbs on many predictions: `cohort` sums them up, `associate` tests them over patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal
from hespotex.errors import counted

_Bulk = Annotated[
    Path | None,
    typer.Option(
        "--bulk",
        metavar="FILE",
        help="Bulk RNA of the patients: genes x samples or the other way round, counts, TPM or logs.",
    ),
]
_Group = Annotated[
    str | None, typer.Option("--group", metavar="COLUMN", help="Compare groups of patients.")
]
_Time = Annotated[
    str | None, typer.Option("--time", metavar="COLUMN", help="Survival: column of times.")
]
_Event = Annotated[
    str | None,
    typer.Option(
        "--event", metavar="COLUMN", help="1 where the event happened, 0 where not; with --time."
    ),
]
_Adjust = Annotated[
    str | None,
    typer.Option("--adjust", metavar="COLUMN,COLUMN", help="Covariates of every model."),
]
_Within = Annotated[
    str | None,
    typer.Option(
        "--within",
        metavar="COLUMN,COLUMN",
        help="With --bulk: strata, such as the type of cancer, whose differences do not count.",
    ),
]
_BulkUnit = Annotated[
    str, typer.Option("--bulk-unit", metavar="auto|linear|log", help="Of the bulk values.")
]
_WithUnlike = Annotated[
    bool,
    typer.Option("--with-unlike", help="Test slides that are unlike the training's, too."),
]


def cohort(
    predicted: options.Predicted,
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
        progress=options.reporter(quiet, verbose),
    )
    p = result.paths
    failed = f"; {counted(result.n_failed, 'file')} could not be used" if result.n_failed else ""
    terminal.stdout().print(
        f"{result.n_rows:,} rows ({by}) x {result.n_genes:,} genes{failed}. Research use only."
        + ("" if result.n_genes else " No gene was shown to be predicted for these slides."),
        markup=False,
    )
    paths = {"cohort": p.h5ad, "Parquet": p.parquet, "CSV": p.csv, "genes": p.genes}
    of_sets = {} if p.gene_sets is None else {"gene sets": p.gene_sets}
    terminal.print_paths({**paths, **of_sets, "slides": p.slides})


def associate(
    cohort_file: Annotated[
        Path, typer.Argument(metavar="COHORT.h5ad", help="The table that `cohort` wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the page, tables and pictures.")],
    bulk: _Bulk = None,
    group: _Group = None,
    time: _Time = None,
    event: _Event = None,
    adjust: _Adjust = None,
    within: _Within = None,
    bulk_unit: _BulkUnit = "auto",
    with_unlike: _WithUnlike = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of permutations and folds.")] = 0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Test a cohort with patients as units: exactly one of --bulk, --group, or --time with --event.
    Says first whether the model was ever shown to tell patients apart. Research use only.

    Example: hespotex associate cohort/cohort.h5ad --out by_stage --group stage --adjust age
    """
    from hespotex.analysis.association.result import RESEARCH_SENTENCE
    from hespotex.report.association import associate as run_analysis

    result = run_analysis(
        cohort_file,
        out,
        bulk=bulk,
        group=group,
        time=time,
        event=event,
        adjust=options.split_ids(adjust) or (),
        within=options.split_ids(within) or (),
        bulk_unit=bulk_unit,  # type: ignore[arg-type]
        with_unlike=with_unlike,
        seed=seed,
        progress=options.reporter(quiet, verbose),
    )
    for sentence in (*result.found.findings, RESEARCH_SENTENCE):
        terminal.stdout().print(sentence, markup=False)
    n, tested = result.found.n_patients, len(result.found.table)
    terminal.stdout().print(
        f"{tested:,} features of {n:,} patients in {result.seconds:,.0f} s.", markup=False
    )
    terminal.print_paths(result.paths)
