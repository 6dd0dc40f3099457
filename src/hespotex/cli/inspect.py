"""Verb `inspect`: everything that can be known to be wrong with an input, before any work."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hespotex.cli import options, terminal

if TYPE_CHECKING:
    from rich.text import Text

    from hespotex.features.patches import PatchPlan
    from hespotex.inspection import Finding, Inspection

_WORDS = {"ok": "ok", "info": "note", "warning": "check", "error": "wrong"}


@options.idle("device", "threads", "seed")
def inspect(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A slide, a folder or file of spots, a manifest, or a folder of slides.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for inspection.json and the pictures: spots on the tissue, nine patches; "
            "gene_names.csv where sections name their genes differently.",
        ),
    ] = None,
    slide: options.SlideOfSpots = None,
    library: options.Library = None,
    bits: options.Bits = None,
    sections: options.Sections = None,
    gene_names: options.GeneNames = None,
    allow_hires: options.AllowHires = False,
    accept: options.Accept = None,
    pool_grid: options.PoolGrid = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say what an input holds and what is wrong with it: pixel size from every source, orientation
    of the spots, counts, genes. Exit code 0: fine, 1: look at the yellow lines, 2: red lines have to
    be put right. --quiet shows the yellow and red ones alone.

    Example: hespotex inspect sections.csv --out preflight
    """
    from hespotex.inspection import inspect_input

    reporter = options.reporter(quiet or as_json, verbose)
    inspection = inspect_input(
        source,
        slide=slide,
        bits=bits,
        sections=options.split_ids(sections),
        library=library,
        choices=options.choices(allow_hires, accept, pool_grid, gene_names),
        progress=reporter,
    )
    if as_json:
        typer.echo(json.dumps(inspection.as_dict(), indent=2, default=float))
    else:
        _print(inspection, quiet=quiet)
    if out is not None:
        paths = _write(inspection, out)
        if not as_json:
            terminal.print_paths(paths)
    raise typer.Exit(inspection.exit_code)


def _print(inspection: Inspection, *, quiet: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{inspection.source} ({inspection.kind}): ")
    title.append(inspection.verdict, style=f"bold {inspection.verdict}")
    table = Table(title=title, title_justify="left", show_lines=False)
    for name in ("", "section", "about", "found", "what to do"):
        table.add_column(name, overflow="fold")
    previous = ""
    for finding in inspection.findings:
        if quiet and finding.colour == "green":
            continue
        table.add_row(*_cells(finding, repeated=finding.subject == previous))
        previous = finding.subject
    console = terminal.stdout()
    console.print(table if table.row_count else title)


def _cells(finding: Finding, *, repeated: bool) -> list[Text]:
    from rich.text import Text

    return [
        Text(_WORDS[finding.level], style=finding.colour),
        Text("" if repeated else finding.subject, style="bold"),
        Text(finding.topic),
        Text(finding.found),
        Text(finding.remedy),
    ]


def _write(inspection: Inspection, out: Path) -> dict[str, object]:
    """inspection.json, and two pictures for each section or slide that can be drawn."""
    from hespotex.errors import HESpotExError
    from hespotex.plots.inspection_plots import plot_overlay, plot_patches
    from hespotex.plots.style import save_figure
    from hespotex.storage.atomic import atomic_path, write_json

    write_json(out / "inspection.json", inspection.as_dict())
    plan = _default_plan()
    for item in inspection.items:
        if item.picture is None:
            continue
        try:
            save_figure(plot_overlay(item), out / f"{item.name}.png")
            if item.picture.mpp is not None:
                save_figure(plot_patches(item, plan), out / f"{item.name}_patches.png")
        except HESpotExError as error:
            terminal.print_error(f"no picture of {item.name}: {error}")
    paths: dict[str, object] = {}
    if inspection.gene_names:
        with (
            atomic_path(out / "gene_names.csv") as temporary,
            temporary.open("w", encoding="utf-8", newline="") as stream,
        ):
            rows = [("id", "symbol"), *inspection.gene_names.items()]
            csv.writer(stream, lineterminator="\n").writerows(rows)
        paths["gene names"] = out / "gene_names.csv"
    return {**paths, "inspection": out / "inspection.json", "pictures": out}


def _default_plan() -> PatchPlan:
    """The patches of the default encoder, from its listing: nothing is loaded."""
    from typing import cast

    from hespotex.config import RunConfig
    from hespotex.encoders import offline
    from hespotex.encoders.base import Encoder
    from hespotex.features.encode import default_sides
    from hespotex.features.patches import PatchPlan

    info = offline.info(RunConfig().encoder.name)
    # Only mpp and the size of the input are asked for, and the listing has both.
    return PatchPlan(default_sides(cast(Encoder, info)), info.size_px or 224)
