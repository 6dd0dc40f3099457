"""Verb `convert`: any reader's section as one clean file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal


@options.idle("device", "threads", "seed")
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A manifest, or a folder or file of spots.")
    ],
    out: Annotated[Path, typer.Option("--out", help="FILE.h5ad or STORE.zarr (SpatialData).")],
    section: Annotated[
        str | None, typer.Option("--section", metavar="ID", help="Which section of a manifest.")
    ] = None,
    slide: options.SlideOfSpots = None,
    library: options.Library = None,
    bits: options.Bits = None,
    allow_hires: options.AllowHires = False,
    accept: options.Accept = None,
    pool_grid: options.PoolGrid = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write one section, whatever its format, as one file that all tools open: raw counts, spot
    centres in level-0 pixels, labels. The manifest row that goes with it is printed, as CSV.
    What the preflight refuses is not converted, unless --accept says so.

    Example: hespotex convert sections.csv --section C2 --out C2.h5ad
    """
    from hespotex.export.convert import manifest_row, refuse_input, write_section
    from hespotex.inspection import read_checked
    from hespotex.inspection.inputs import only_section, resolve_input

    reporter = options.reporter(quiet, verbose)
    row = only_section(resolve_input(source, slide=slide, library=library, bits=bits), section)
    refuse_input(out, row)
    choices = options.choices(allow_hires, accept, pool_grid)
    (read,) = read_checked([row], choices, reporter, needs_image=False)
    write_section(out, read)
    values = manifest_row(out.resolve(), read)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([values.keys(), values.values()])
    typer.echo(text.getvalue(), nl=False)
    terminal.stderr().print(f"section: {out}", markup=False)
