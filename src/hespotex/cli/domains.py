"""Verb `domains`: tissue domains over many sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal


def domains(
    predicted: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTED...",
            help="Folders of predict, evaluate or cross-validate, folders of h5ad files, or files.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    n: Annotated[
        int | None,
        typer.Option("--n", metavar="K", help="Number of domains; default: by stability, 2 to 10."),
    ] = None,
    resolution: Annotated[
        float | None,
        typer.Option("--resolution", metavar="R", help="Leiden communities instead (igraph)."),
    ] = None,
    sources: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE,SOURCE",
            help="composition, features (with --manifest), measured; default: all that there are.",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            help="Manifest of the sections: features are read from its slides, or from the run's cache.",
        ),
    ] = None,
    agree: Annotated[
        Path | None,
        typer.Option(
            "--agree", metavar="DIR", help="Folder of agree: compares domains of its pairs."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="COLUMN,COLUMN",
            help="Columns of obs to compare with; default: all words that differ within a section.",
        ),
    ] = None,
    smooth: Annotated[
        float,
        typer.Option("--smooth", metavar="UM", help="Length of the smoothing in space; 0: none."),
    ] = 70.0,
    keep_levels: Annotated[
        bool,
        typer.Option(
            "--keep-levels",
            help="Standardise over all sections together, not inside each: for one model and slides of other mixtures.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every random draw.")] = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Divide the tissue of all sections into domains: from what is predicted, from the pictures'
    features, from what was measured. The same name means the same on every section.

    Example: hespotex domains results --out domains --n 5
    """
    from hespotex.analysis.domain_files import write_domains
    from hespotex.analysis.domains import DomainOptions, find_domains, summary
    from hespotex.report.domains_page import write_pages

    reporter = options.reporter(quiet, verbose)
    found = find_domains(
        predicted,
        out,
        DomainOptions(
            sources=options.split_ids(sources),
            n=n,
            resolution=resolution,
            manifest=manifest,
            agree=agree,
            labels=options.split_ids(labels),
            length_um=smooth,
            keep_levels=keep_levels,
            seed=seed,
        ),
        machine=options.machine(device, threads),
        progress=reporter,
    )
    paths = {**write_domains(found, out, reporter), **write_pages(found, out)}
    for sentence in summary(found):
        terminal.stdout().print(sentence, markup=False)
    rows = [
        (str(r["source"]), str(r["compared"]), str(r["section"]), terminal.number(r["ari"]), terminal.number(r["nmi"]),
         f"{r['n_spots']:,}", "trained on it" if r["mark"] else "")
        for r in found.scores.to_dict("records")
    ]  # fmt: skip
    if rows:
        header = ("domains from", "compared with", "section", "ARI", "NMI", "spots", "mark")
        terminal.print_table("Agreement of domains", header, rows)
    terminal.print_paths(paths)
