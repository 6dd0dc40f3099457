"""Verb `fetch`: public data as a ready manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal


def fetch(
    name: Annotated[
        str | None, typer.Argument(help="Data set; without a name all of them are listed.")
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            "--ids", metavar="ID,ID", help="Which sections; a few sets take organs or codes, too."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; default: the name.")] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Fetch public sections with their slides, and write their manifest. A call that was interrupted goes on.

    Example: hespotex fetch her2st --ids B4,C2 --out her2st
    """
    from hespotex.public.fetch import DATA_SETS
    from hespotex.public.fetch import fetch as fetch_data

    if name is None:
        rows = [
            (d.name, d.title, d.tissue, d.patients, d.size, d.licence, d.ids)
            for d in DATA_SETS.all().values()
        ]
        header = ("name", "what", "tissue", "patients", "size", "licence", "--ids")
        terminal.print_table("Public data", header, rows)
        return
    manifest = fetch_data(
        name,
        out or Path(name),
        ids=options.split_ids(ids),
        progress=options.reporter(quiet, verbose),
    )
    terminal.print_paths({"manifest": manifest, "look at it": f"hespotex inspect {manifest}"})
