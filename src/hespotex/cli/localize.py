"""Verb `localize`: which spots of slides a diagnosis hangs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hespotex.cli import options, terminal
from hespotex.errors import ConfigError

if TYPE_CHECKING:
    from hespotex.report.localize_result import LocalizeResult

Out = Annotated[Path, typer.Option("--out", help="Folder for the page, tables and maps.")]
Label = Annotated[
    str | None, typer.Option("--label", metavar="COLUMN", help="Column that names the diagnosis.")
]
Clinical = Annotated[
    Path | None,
    typer.Option(
        "--clinical", metavar="TABLE", help="CSV or TSV with a column patient_id or section_id."
    ),
]
Apply = Annotated[
    Path | None,
    typer.Option(
        "--apply",
        metavar="MODEL",
        help="In place of --label and --clinical: the localize.safetensors of a run, for slides without a diagnosis.",
    ),
]
Site = Annotated[
    str | None,
    typer.Option("--site", metavar="COLUMN", help="Column of the laboratory or scanner."),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split", metavar="COLUMN", help="Column of folds, in place of five that are dealt."
    ),
]
Features = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FOLDER|MANIFEST",
        help="Encoder features to compare with composition: files of TRIDENT, CLAM or LazySlide, SECTION.h5 each, or the "
        "manifest of sections in the cache; default: those that `predict --keep-features` kept.",
    ),
]
Slides = Annotated[
    Path | None,
    typer.Option("--slides", metavar="FOLDER", help="The slides, for a gallery of patches."),
]
Regions = Annotated[
    Path | None,
    typer.Option(
        "--regions",
        metavar="FOLDER",
        help="Outlines to score the map against, SECTION.geojson each.",
    ),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="few-patients",
        help="Go on with fewer than 8 patients of a diagnosis; every output is marked `no evidence`.",
    ),
]
Permutations = Annotated[
    int | None,
    typer.Option(
        "--permutations", metavar="N", help="Of the labels among patients; 199 where none is said."
    ),
]


def localize(
    predicted: options.Predicted,
    out: Out,
    label: Label = None,
    clinical: Clinical = None,
    apply: Apply = None,
    site: Site = None,
    split: Split = None,
    features: Features = None,
    slides: Slides = None,
    regions: Regions = None,
    accept: Accept = None,
    permutations: Permutations = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the spots that a diagnosis hangs on, where only the slide's diagnosis is known: tested over patients
    against permuted diagnoses; without a finding no map is drawn. Research use only.

    Example: hespotex localize predicted --label diagnosis --clinical clinical.csv --out where
    """
    from hespotex.analysis.localize.evidence import PERMUTATIONS
    from hespotex.report.localize_apply import apply_model
    from hespotex.report.localize_page import localize as run_localize

    told = options.reporter(quiet, verbose)
    if apply is not None:
        _refuse_beside_apply(
            {"--label": label, "--clinical": clinical, "--site": site, "--split": split, "--regions": regions,
             "--accept": accept or None, "--permutations": permutations, "--seed": seed}
        )  # fmt: skip
        _say(apply_model(apply, predicted, out, features=features, slides=slides, progress=told))
        return
    if label is None or clinical is None:
        lacking = "--label COLUMN" if label is None else "--clinical TABLE"
        raise ConfigError(
            expected=f"{lacking}, or --apply MODEL", found="neither",
            remedy="name the table of diagnoses and its column",
        )  # fmt: skip
    result = run_localize(
        predicted, out, label=label, clinical=clinical, site=site, split=split, features=features, slides=slides,
        regions=regions, accept=accept or (), progress=told, seed=seed or 0,
        permutations=PERMUTATIONS if permutations is None else permutations,
    )  # fmt: skip
    _say(result)


def _refuse_beside_apply(given: Mapping[str, object]) -> None:
    if idle := [name for name, value in given.items() if value is not None]:
        raise ConfigError(
            expected="--apply without what a run needs", found=f"{idle[0]} beside it",
            remedy=f"leave {idle[0]} out: the model is fitted already",
        )  # fmt: skip


def _say(result: LocalizeResult) -> None:
    from hespotex.analysis.association.result import RESEARCH_SENTENCE

    for sentence in (*result.sentences, RESEARCH_SENTENCE):
        terminal.stdout().print(sentence, markup=False)
    terminal.print_paths(result.paths)
