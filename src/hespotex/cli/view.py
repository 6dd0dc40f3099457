"""Verb `view`: slides and maps in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal
from hespotex.errors import ConfigError


@options.idle("device", "threads", "seed")
def view(
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder of cross-validate, evaluate, predict, agree, domains or localize, or one h5ad."
        ),
    ],
    slides: Annotated[
        Path | None,
        typer.Option(
            "--slides",
            metavar="MANIFEST|FOLDER|RUN|SLIDE",
            help="Where the images lie; default: where this machine last saw them.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; default: a free one.")
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, open no browser.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="PAGE.html",
            help="Write one file for a colleague instead, which needs no server and no network.",
        ),
    ] = None,
    genes: Annotated[
        str,
        typer.Option("--genes", metavar="A,B,C", help="Genes and gene sets of that file."),
    ] = "",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show a run in the browser: slides that come closer with the wheel, maps over them, and how far to believe each.
    Only this machine can open the address, and only with its token. Ctrl-C ends it. With --export, a page of some genes is
    written that opens anywhere.

    Example: hespotex view results
    """
    import webbrowser

    from hespotex.viewer.saved_page import save_page
    from hespotex.viewer.serve import Viewer
    from hespotex.viewer.sources import find_predictions

    reporter = options.reporter(quiet, verbose)
    if export is not None:
        wanted = [gene.strip() for gene in genes.split(",") if gene.strip()]
        written = save_page(find_predictions(path, slides), export, wanted, reporter)
        typer.echo(f"{written}: {written.stat().st_size / 2**20:.1f} MiB")
        return
    if genes:
        raise ConfigError(expected="--genes beside --export PAGE.html", found="no --export")
    viewer = Viewer(path, slides=slides, port=port, say=reporter.say)
    typer.echo(viewer.address)
    terminal.stderr().print("Ctrl-C ends the viewer.", markup=False)
    if not no_browser:
        webbrowser.open(viewer.address)
    viewer.run()
