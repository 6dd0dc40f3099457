"""Verb `agree`: whether sections of one block tell the same story."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal


@options.idle("device", "threads", "seed")
def agree(
    run: Annotated[Path, typer.Argument(help="Folder of cross-validate, evaluate or predict.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs",
            metavar="A:B,A:C",
            help="Sections to compare; default: all pairs of each series of the manifest.",
        ),
    ] = None,
    transform: Annotated[
        Path | None,
        typer.Option(
            "--transform", help="JSON with frames of the sections (frames.json of another run)."
        ),
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            "--landmarks",
            help="CSV: section_a, section_b, x_a_um, y_a_um, x_b_um, y_b_um; three points a pair or more.",
        ),
    ] = None,
    no_bend: Annotated[
        bool,
        typer.Option(
            "--no-bend",
            help="Stay with an affine map, also where tissue was warped and a smooth bend pays.",
        ),
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Lay neighbouring sections on one another and compare their maps gene by gene: what is measured
    twice, what is predicted twice, and each against the other.

    Example: hespotex agree results --out agree --pairs C2:C3
    """
    from hespotex.analysis.agree import agree as run_agree
    from hespotex.analysis.agree import summary
    from hespotex.analysis.common_maps import COMPOSITION
    from hespotex.report.agree_page import write_pages

    results = run_agree(
        run,
        out,
        pairs=options.split_ids(pairs) or (),
        transform=transform,
        landmarks=landmarks,
        bend=not no_bend,
        progress=options.reporter(quiet, verbose),
    )
    paths = write_pages(run, out, results)
    table = summary(results)
    table = table[table["scale"] == COMPOSITION]
    rows = [
        (
            f"{row['section_a']} : {row['section_b']}",
            str(row["what"]),
            f"{row['n_places']:.0f}",
            f"{row['pcc']:.3f}",
            f"{row['beyond_null']:.0f} of {row['n_genes']:.0f}",
            "" if math.isnan(row["specificity"]) else f"{row['specificity']:.2f}",
            ", ".join(
                word
                for word, said in (("trained on it", row["trained"]), ("unlike", row["unlike"]))
                if said
            ),
        )
        for row in table.to_dict("records")
    ]
    header = ("sections", "compared", "spots", "mean PCC", "beyond the null", "specificity", "mark")
    terminal.print_table("Agreement of composition", header, rows)
    terminal.print_paths(paths)
