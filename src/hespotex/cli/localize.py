"""Verb `localize`: which spots of slides a diagnosis hangs on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal


def localize(
    predicted: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTED...", help="Folders of `predict`, folders of h5ad files, or files."
        ),
    ],
    label: Annotated[
        str, typer.Option("--label", metavar="COLUMN", help="Column that names the diagnosis.")
    ],
    clinical: Annotated[
        Path,
        typer.Option(
            "--clinical", metavar="TABLE", help="CSV or TSV with a column patient_id or section_id."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the page, tables and maps.")],
    site: Annotated[
        str | None,
        typer.Option("--site", metavar="COLUMN", help="Column of the laboratory or scanner."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="FOLDER",
            help="Encoder features of TRIDENT, CLAM or LazySlide, SECTION.h5 each: compared with composition, and both.",
        ),
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option("--slides", metavar="FOLDER", help="The slides, for a gallery of patches."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            "--regions",
            metavar="FOLDER",
            help="Outlines to score the map against, SECTION.geojson each.",
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept",
            metavar="few-patients",
            help="Go on with fewer than 8 patients of a diagnosis; every output is marked `no evidence`.",
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", metavar="N", help="Of the labels among patients.")
    ] = 199,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of folds, fits and permutations.")
    ] = 0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the spots that a diagnosis hangs on, where only the slide's diagnosis is known: tested over patients
    against permuted diagnoses; without a finding no map is drawn. Research use only.

    Example: hespotex localize predicted --label diagnosis --clinical clinical.csv --out where
    """
    from hespotex.analysis.association.result import RESEARCH_SENTENCE
    from hespotex.report.localize_page import localize as run_localize

    result = run_localize(
        predicted,
        out,
        label=label,
        clinical=clinical,
        site=site,
        features=features,
        slides=slides,
        regions=regions,
        accept=accept or (),
        permutations=permutations,
        seed=seed,
        reporter=options.reporter(quiet, verbose),
    )
    for sentence in (*result.sentences, RESEARCH_SENTENCE):
        terminal.stdout().print(sentence, markup=False)
    terminal.print_paths(result.paths)
