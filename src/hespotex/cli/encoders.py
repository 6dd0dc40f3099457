"""Verb `encoders`: what can turn patches into features on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from hespotex.cli import options, terminal


@options.idle("device", "threads", "seed", "quiet", "verbose")
def encoders(
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Also every encoder of lazyslide-models; loading it takes seconds."
        ),
    ] = False,
) -> None:
    """List the encoders: feature size, patch side and mpp, licence, whether the weights are here.
    Nothing is downloaded.

    Example: hespotex encoders
    """
    from hespotex.encoders import list_encoders

    rows = [
        (
            info.name,
            "" if info.dim is None else str(info.dim),
            "" if info.size_px is None else f"{info.size_px} px",
            "" if info.mpp is None else f"{info.mpp:g}",
            info.licence,
            "yes" if info.weights_here else "no",
            info.note,
        )
        for info in list_encoders(lazyslide=every)
    ]
    header = ("encoder", "features", "patch", "mpp", "licence", "weights here", "note")
    terminal.print_table("Encoders", header, rows)
    terminal.stdout().print(
        "use one by its name, in training alone (a model keeps its encoder): "
        "hespotex train sections.csv --out lab.hespotex --encoder NAME",
        markup=False,
        soft_wrap=True,
    )
