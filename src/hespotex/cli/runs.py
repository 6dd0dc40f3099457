"""Verbs of the main job: demo, cross-validate, train, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hespotex.cli import options, slide_options, terminal

Manifest = Annotated[Path, typer.Argument(help="Table of sections (CSV or TSV).")]
OutDir = Annotated[Path, typer.Option("--out", help="Folder for the results.")]


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the demo.")] = Path("demo"),
    device: options.Device = "auto",
    threads: options.Threads = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Paint a small cohort, leave out each patient in turn, show what was predicted.

    Example: hespotex demo --out demo
    """
    from hespotex.datasets.demo import demo as run_demo

    result = run_demo(
        out,
        seed=seed or 0,
        machine=options.machine(device, threads),
        progress=options.reporter(quiet, verbose),
    )
    terminal.print_result(result)
    typer.echo(f"slides and maps in the browser: hespotex view {out / 'results'}")


def cross_validate(
    manifest: Manifest,
    out: OutDir,
    config: options.Config = None,
    profile: options.Profile = None,
    overrides: options.Set = None,
    encoder: options.Encoder = None,
    genes: options.Genes = None,
    add_genes: options.AddGenes = None,
    sections: options.Sections = None,
    folds: options.Folds = None,
    gene_sets: options.GeneSets = None,
    search: options.Search = None,
    nuclei: options.Nuclei = None,
    score_nan_as_zero: Annotated[
        bool, typer.Option("--score-nan-as-zero", help="A PCC that is NaN counts as 0 in means.")
    ] = False,
    gene_names: options.GeneNames = None,
    allow_hires: options.AllowHires = False,
    accept: options.Accept = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Leave out each patient (or section) in turn and score what is predicted for it.

    Example: hespotex cross-validate sections.csv --out results
    """
    from hespotex import pipeline

    result = pipeline.cross_validate(
        manifest,
        out,
        config=options.build_config(
            config=config,
            profile=profile,
            overrides=overrides,
            encoder=encoder,
            genes=genes,
            add_genes=add_genes,
            folds=folds,
            seed=seed,
            search=search,
        ),
        sections=options.split_ids(sections),
        gene_sets=options.read_gene_sets(gene_sets) or (),
        nuclei=nuclei,
        score_nan_as_zero=score_nan_as_zero,
        choices=options.choices(allow_hires, accept, gene_names=gene_names),
        machine=options.machine(device, threads),
        progress=options.reporter(quiet, verbose),
    )
    terminal.print_result(result)


def train(
    manifest: Manifest,
    out: Annotated[Path, typer.Option("--out", help="Model file, e.g. lab.hespotex.")],
    config: options.Config = None,
    profile: options.Profile = None,
    overrides: options.Set = None,
    encoder: options.Encoder = None,
    genes: options.Genes = None,
    add_genes: options.AddGenes = None,
    sections: options.Sections = None,
    folds: options.Folds = None,
    gene_sets: options.GeneSets = None,
    search: options.Search = None,
    nuclei: options.Nuclei = None,
    no_validate: Annotated[
        bool, typer.Option("--no-validate", help="Skip the cross-validation that grades the genes.")
    ] = False,
    gene_names: options.GeneNames = None,
    allow_hires: options.AllowHires = False,
    accept: options.Accept = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Cross-validate for scores and gene grades, then fit a model on all sections, in one file.

    Example: hespotex train sections.csv --out lab.hespotex
    """
    from hespotex import pipeline
    from hespotex.models.bundle import beside_model

    path = pipeline.train(
        manifest,
        out,
        config=options.build_config(
            config=config,
            profile=profile,
            overrides=overrides,
            encoder=encoder,
            genes=genes,
            add_genes=add_genes,
            folds=folds,
            seed=seed,
            search=search,
        ),
        sections=options.split_ids(sections),
        gene_sets=options.read_gene_sets(gene_sets) or (),
        nuclei=nuclei,
        validate=not no_validate,
        choices=options.choices(allow_hires, accept, gene_names=gene_names),
        machine=options.machine(device, threads),
        progress=options.reporter(quiet, verbose),
    )
    _show_validation(path)
    card = beside_model(path, ".model-card.md")
    terminal.print_paths({"model": path, "model card": card})


@options.idle("seed")
def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="Model file, a model by name or address (`hespotex models`), or `auto`: of the kept models the one "
            "whose training slides these are most like."
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Slide, folder of slides, or manifest (CSV, TSV) of sections and slides.",
        ),
    ],
    out: OutDir,
    sections: options.Sections = None,
    gene_sets: options.GeneSets = None,
    nuclei: options.Nuclei = None,
    mpp: slide_options.Mpp = None,
    bits: options.Bits = None,
    tissue: slide_options.Tissue = None,
    spots: slide_options.Spots = None,
    pitch_um: slide_options.PitchUm = None,
    diameter_um: slide_options.DiameterUm = None,
    grid: slide_options.Grid = None,
    layers: slide_options.Layers = "auto",
    most_genes: slide_options.MostGenes = 500,
    reading: slide_options.Reading = None,
    max_bad_tiles: slide_options.MaxBadTiles = 0.01,
    show_genes: slide_options.ShowGenes = None,
    show: slide_options.Show = "composition",
    formats: slide_options.Formats = None,
    bounds_offset: slide_options.BoundsOffset = False,
    keep_features: slide_options.KeepFeatures = False,
    patient: slide_options.Patient = None,
    same_patient: slide_options.SamePatient = False,
    untested: slide_options.Untested = False,
    all_genes: slide_options.AllGenes = False,
    gene_names: options.GeneNames = None,
    allow_hires: options.AllowHires = False,
    accept: options.Accept = None,
    scheduler: slide_options.Scheduler = None,
    workers: slide_options.Workers = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Predict expression: of sections at their spots, of slides at a grid over their tissue. Nothing is
    drawn by chance.

    Example: hespotex predict lab.hespotex slide.svs --out predicted
    """
    from hespotex import pipeline

    how = slide_options.slide_options(
        nuclei=nuclei, mpp=mpp, bits=bits, tissue=tissue, spots=spots, pitch_um=pitch_um, diameter_um=diameter_um, grid=grid, layers=layers, most_genes=most_genes,
        reading=reading, max_bad_tiles=max_bad_tiles, show_genes=show_genes, show=show, formats=formats, bounds_offset=bounds_offset,
        patient=patient, same_patient=same_patient, untested=untested, all_genes=all_genes, keep_features=keep_features,
        choices=options.choices(allow_hires, accept, gene_names=gene_names),
    )  # fmt: skip
    result = pipeline.predict(
        model,
        source,
        out,
        options=how,
        sections=options.split_ids(sections),
        gene_sets=options.read_gene_sets(gene_sets),
        cluster=slide_options.cluster(scheduler, workers),
        machine=options.machine(device, threads),
        progress=options.reporter(quiet, verbose),
    )
    terminal.print_slides(result.slides)
    terminal.print_paths(result.paths)
    if result.n_failed or result.doubt:
        raise typer.Exit(1)


def _show_validation(model: Path) -> None:
    """The scores and grades that a new model comes with, where it was validated."""
    from hespotex.models.bundle import beside_model
    from hespotex.storage.metrics import Metrics
    from hespotex.storage.run_folder import RunDir

    run = RunDir(beside_model(model, ".validation"))
    metrics = Metrics.read_if_there(run.metrics_json)
    if metrics is not None:
        terminal.print_scores(metrics)
        terminal.print_paths({"validation": run.report})
