"""Verb `import-checkpoint`: weights of the reference implementation as a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal


@options.idle("seed", "quiet", "verbose")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="State dict that torch.save wrote.")],
    genes: Annotated[
        Path, typer.Option("--genes", help="Its gene panel, one gene a line, in its order.")
    ],
    encoder: Annotated[str, typer.Option("--encoder", help="Encoder that it was trained on.")],
    out: Annotated[Path, typer.Option("--out", help="Model file.")],
    side_um: Annotated[
        float, typer.Option("--side-um", min=1.0, help="Side of its patches in microns.")
    ] = 55.0,
    spot_pitch_um: Annotated[
        float, typer.Option("--spot-pitch-um", min=1.0, help="Pitch of its training spots.")
    ] = 100.0,
    projection: Annotated[
        int | None,
        typer.Option("--projection", min=1, help="Columns of a fixed projection of the features."),
    ] = None,
    nuclei: Annotated[
        bool, typer.Option("--nuclei/--no-nuclei", help="Whether it was trained with nuclei.")
    ] = True,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Turn weights that were trained with the reference implementation into a model file.

    Example: hespotex import-checkpoint best.pt --genes genes.txt --encoder lazyslide:quiltnet --out best.hespotex
    """
    from hespotex.models.import_model import import_model

    path = import_model(
        file,
        out,
        genes=options.read_genes(genes),
        encoder=encoder,
        side_um=side_um,
        spot_pitch_um=spot_pitch_um,
        projection=projection,
        uses_nuclei=nuclei,
        machine=options.machine(device, threads),
    )
    terminal.print_paths({"model": path})
