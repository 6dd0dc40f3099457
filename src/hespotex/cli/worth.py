"""Verbs that say what a model is worth: evaluate, report, compare."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from hespotex.cli import options, slide_options, terminal
from hespotex.errors import ConfigError

RunFolder = Annotated[Path, typer.Argument(help="Folder of a finished run.")]


@options.idle("seed")
def evaluate(
    model: options.Model,
    manifest: Annotated[Path, typer.Argument(help="Table of newly measured sections.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    sections: options.Sections = None,
    gene_sets: options.GeneSets = None,
    nuclei: options.Nuclei = None,
    score_nan_as_zero: Annotated[
        bool, typer.Option("--score-nan-as-zero", help="A PCC that is NaN counts as 0 in means.")
    ] = False,
    same_patient: slide_options.SamePatient = False,
    gene_names: options.GeneNames = None,
    allow_hires: options.AllowHires = False,
    accept: options.Accept = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Score an existing model on sections that it was not trained on. Nothing is drawn anew: the
    model's own seed counts.

    Example: hespotex evaluate lab.hespotex new_sections.csv --out external
    """
    from hespotex import pipeline

    result = pipeline.evaluate(
        model,
        manifest,
        out,
        sections=options.split_ids(sections),
        gene_sets=options.read_gene_sets(gene_sets),
        nuclei=nuclei,
        score_nan_as_zero=score_nan_as_zero,
        same_patient=same_patient,
        choices=options.choices(allow_hires, accept, gene_names=gene_names),
        machine=options.machine(device, threads),
        progress=options.reporter(quiet, verbose),
    )
    terminal.print_result(result)


@options.idle("device", "threads", "seed", "quiet", "verbose")
def report(
    folder: RunFolder,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; default: report.html in the folder.")
    ] = None,
    figures: Annotated[
        Literal["pdf", "svg"] | None,
        typer.Option(
            "--figures", help="Also maps of genes for print, in figures/ beside the page."
        ),
    ] = None,
    genes: Annotated[
        str,
        typer.Option("--genes", metavar="A,B,C", help="Genes of the figures; default: the best 3."),
    ] = "",
) -> None:
    """Write one self-contained page about a finished run.

    Example: hespotex report results
    """
    from hespotex.report.print_figures import write_figures
    from hespotex.report.report import write_report
    from hespotex.storage.run_folder import RunDir

    if genes and figures is None:
        raise ConfigError(expected="--genes beside --figures pdf or svg", found="no --figures")
    run = RunDir(folder)
    page = write_report(run, out)
    terminal.print_paths({"report": page})
    if figures is not None:
        wanted = [gene.strip() for gene in genes.split(",") if gene.strip()] or None
        for path in write_figures(run, page.parent / "figures", figures, wanted):
            terminal.print_paths({"figure": path})


@options.idle("device", "threads", "seed", "quiet", "verbose")
def compare(
    first: RunFolder,
    second: RunFolder,
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV of every gene and section, both runs.")
    ] = None,
) -> None:
    """Compare two runs, paired by gene and section.

    Refuses runs on other spots or folds; of other genes or sections it takes the common ones and says so.

    Example: hespotex compare results_a results_b
    """
    from hespotex.results.run_comparison import compare_folders, write_comparison

    comparison = compare_folders(first, second)
    reporter = options.reporter(False, False)
    for sentence in comparison.restricted:
        reporter.warn(sentence)
    rows = [
        (
            d.score,
            f"{d.first:.4f}",
            f"{d.second:.4f}",
            "" if math.isnan(d.depth) else f"{d.depth:.4f}",
            f"{d.difference:+.4f}",
            d.over_sections.text(),
            d.over_patients.text() if d.over_patients else "one patient",
            f"{d.better_genes:.0%}",
        )
        for d in comparison.differences
    ]
    header = ("score", str(first), str(second), "depth alone", "difference", "interval over sections",
              "interval over patients", "genes better")  # fmt: skip
    terminal.print_table("Second run against the first, paired by gene and section", header, rows)
    for d in comparison.differences:
        terminal.stdout().print(f"{d.score}: {d.verdict}", markup=False)
    if out is not None:
        write_comparison(out, comparison)
        terminal.print_paths({"genes and sections": out})
