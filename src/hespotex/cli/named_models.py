"""Verb `models`: models by name - what is kept here, fetching, adding, showing, publishing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hespotex.cli import options, terminal

if TYPE_CHECKING:
    from hespotex.public.kept_models import KeptModel

models = typer.Typer(
    help="Models by name: list, show, fetch, add, push. A name stands wherever a MODEL is taken.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="hf://org/repo[@revision][/file] or https://...")
]
Name = Annotated[str | None, typer.Option("--name", help="Keep it under this name.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A name, an address, or a path.")]


@models.callback()
def _root(context: typer.Context) -> None:
    """Models by name: list, show, fetch, add, push."""
    if context.invoked_subcommand is None:
        list_models()


@models.command("list")
def list_models() -> None:
    """List the models that are kept on this machine; nothing is fetched.

    Example: hespotex models list
    """
    from hespotex.public.kept_models import kept_models, model_folder
    from hespotex.storage.disk_room import in_words

    rows = [
        (m.name, in_words(m.size), m.since, (m.revision or "")[:12], m.source, m.sha256)
        for m in kept_models()
    ]
    header = ("name", "size", "since", "revision", "from", "sha256")
    if rows:
        terminal.print_table("Models", header, rows)
        terminal.print_paths({"kept in": model_folder()})
    else:
        terminal.stdout().print(
            "no model is kept yet: `hespotex models fetch SOURCE` or `hespotex models add FILE` brings one",
            markup=False,
            soft_wrap=True,
        )


@models.command("show")
def show(model: Model, quiet: options.Quiet = False, verbose: options.Verbose = False) -> None:
    """Print the card of a model: what it was trained on, on whom it was tested, its grades and limits.

    Example: hespotex models show lab
    """
    from hespotex.models.bundle import read_model
    from hespotex.public.kept_models import local_model
    from hespotex.report.model_card import render_model_card

    path = local_model(model, options.reporter(quiet, verbose))
    terminal.stdout().print(
        render_model_card(read_model(path)), markup=False, highlight=False, soft_wrap=True
    )


@models.command("fetch")
def fetch(
    source: Source,
    name: Name = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Fetch a model and keep it; afterwards its name works without a network. Its checksum is compared.

    Example: hespotex models fetch hf://org/repo --name bulb
    """
    from hespotex.public.kept_models import fetch_model

    _say(fetch_model(source, name=name, progress=options.reporter(quiet, verbose)))


@models.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="Model file.")],
    name: Name = None,
) -> None:
    """Keep a copy of a model file of this machine under a name.

    Example: hespotex models add lab.hespotex --name lab
    """
    from hespotex.public.kept_models import add_model

    _say(add_model(file, name=name))


@models.command("push")
def push(
    model: Model,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="hf://org/repo[@revision], or a folder: then nothing is sent."
        ),
    ],
    licence: Annotated[str, typer.Option("--licence", help="Of the model, e.g. cc-by-4.0.")],
    data_licence: Annotated[str, typer.Option("--data-licence", help="Of the training data.")],
    encoder_licence: Annotated[
        str | None,
        typer.Option(
            "--encoder-licence",
            help="Of the encoder's weights, where `hespotex encoders --all` does not tell.",
        ),
    ] = None,
    keep_counts: Annotated[
        bool,
        typer.Option(
            "--keep-counts",
            help="Keep the measured counts of training spots that the baseline of the nearest patches uses.",
        ),
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="A new repository is seen by its owners alone.")
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Publish a model with its card and licences. Refused where the encoder's licence forbids it.

    Example: hespotex models push lab hf://org/repo --licence cc-by-4.0 --data-licence cc-by-4.0
    """
    import tempfile

    from hespotex.public.kept_models import local_model
    from hespotex.public.push import Licences, prepare
    from hespotex.public.push import push as push_model

    reporter = options.reporter(quiet, verbose)
    path = local_model(model, reporter)
    licences = Licences(licence, data_licence, encoder_licence)
    if not target.startswith(("hf:", "https:", "http:")):
        written = prepare(path, Path(target), licences, keep_counts=keep_counts)
        terminal.print_paths({"written, not sent": written})
        return
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / "push"
        sent = push_model(
            path, target, at, licences, keep_counts=keep_counts, private=private, progress=reporter
        )
    terminal.print_paths({"published as": sent})


@models.command("build")
def build(
    recipe: Annotated[Path, typer.Argument(help="Recipe (TOML): data, configuration, scores.")],
    out: Annotated[Path, typer.Option("--out", help="Model file.")],
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="Of the data, where they are here.")
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            "--ids",
            metavar="A,B",
            help="Fetch these instead of the recipe's, such as another organ of HEST-1k.",
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train the model of a recipe, and compare its scores with those that the recipe states. The same recipe gives
    the same file on one machine.

    Example: hespotex models build models/her2st.toml --out her2st.hespotex
    """
    from hespotex.recipes import build as build_model

    built = build_model(
        recipe,
        out,
        manifest=manifest,
        ids=options.split_ids(ids),
        machine=options.machine(device, threads),
        progress=options.reporter(quiet, verbose),
    )
    rows = [(name, f"{a:.3f}", f"{b:.3f}") for name, (a, b) in built.scores.items()]
    if rows:
        terminal.print_table("Scores", ("mean over genes", "recipe", "here"), rows)
    terminal.print_paths({"model": built.path})


@models.command("encode")
def encode(
    recipe: Annotated[Path, typer.Argument(help="Recipe (TOML).")],
    manifest: Annotated[Path, typer.Option("--manifest", help="Of its data.")],
    sections: options.Sections = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Encode sections as a recipe does and keep their features in the cache, so that jobs of an array share them.

    Example: hespotex models encode models/hest-breast-uni2.toml --manifest hest/sections.csv --sections TENX95
    """
    from hespotex.recipes import encode_for

    spots = encode_for(
        recipe,
        manifest,
        sections=options.split_ids(sections),
        machine=options.machine(device, threads),
        progress=options.reporter(quiet, verbose),
    )
    terminal.print_paths({"spots with features": f"{spots:,}"})


def _say(model: KeptModel) -> None:
    terminal.print_paths(
        {
            "model": model.name,
            "sha256": model.sha256,
            "compared with": model.checked_against,
            "use it": f"hespotex predict {model.name} SLIDE --out DIR",
        }
    )
