"""Verb `adapt`: a model that somebody trained, and one's own sections to improve it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, terminal


@options.idle("seed")
def adapt(
    model: options.Model,
    manifest: Annotated[Path, typer.Argument(help="Table of own sections (CSV or TSV).")],
    out: Annotated[Path, typer.Option("--out", help="Model file, e.g. lab.hespotex.")],
    sections: options.Sections = None,
    nuclei: options.Nuclei = None,
    gene_names: options.GeneNames = None,
    allow_hires: options.AllowHires = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept",
            metavar="CODE[:SECTION]",
            help="no-gain: write a model that is no better, too; else as of `train`; repeatable.",
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Adapt a model to 1 to 8 own sections; refused where left-out ones of them show that it does not pay.

    Example: hespotex adapt hf://org/repo own.csv --out lab.hespotex
    """
    from hespotex import pipeline
    from hespotex.adapting import NO_GAIN

    codes = list(accept or ())
    path = pipeline.adapt(
        model,
        manifest,
        out,
        sections=options.split_ids(sections),
        nuclei=nuclei,
        accept_no_gain=NO_GAIN in codes,
        choices=options.choices(
            allow_hires, [c for c in codes if c != NO_GAIN], gene_names=gene_names
        ),
        machine=options.machine(device, threads),
        progress=options.reporter(quiet, verbose),
    )
    _print(path)


def _print(path: Path) -> None:
    """What adapting was worth, and the files of the model."""
    from hespotex.models.bundle import beside_model
    from hespotex.storage.adaptation_record import ROWS, AdaptationRecord

    file = beside_model(path, ".adaptation.json")
    record = AdaptationRecord.read(file)
    rows = [
        (
            words,
            f"{record.rows[name].pcc_composition_mean:.4f}",
            f"{record.rows[name].pcc_composition_abundant200:.4f}",
            terminal.number(record.rows[name].rmse_log1p),
        )
        for name, words in ROWS.items()
    ]
    header = ("on left-out own parts", "composition PCC (all)", "(200 abundant)", "RMSE log1p")
    terminal.print_table("Adapted", header, rows)
    terminal.print_paths(
        {
            "found": record.sentence,
            **({"note": record.note} if record.note else {}),
            "model": path,
            "model card": beside_model(path, ".model-card.md"),
            "comparison": file,
        }
    )
