"""Options that several verbs share."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from hespotex.cli.terminal import TerminalReporter, print_warning
from hespotex.config import InputChoices, Machine, RunConfig
from hespotex.config.idle_keys import idle_keys
from hespotex.config.values import parse_grid
from hespotex.errors import ConfigError
from hespotex.storage.text_files import read_text

if TYPE_CHECKING:
    from hespotex.genes.gene_sets import GeneSet

Verb = Callable[..., None]

Model = Annotated[
    str,
    typer.Argument(help="Model file, or a model by name or address (`hespotex models`)."),
]
Predicted = Annotated[
    list[Path],
    typer.Argument(
        metavar="PREDICTED...", help="Folders of `predict`, folders of h5ad files, or files."
    ),
]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with the configuration.")]
Profile = Annotated[
    str | None,
    typer.Option("--profile", help="default | published (the arithmetic of the paper's code)."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one configuration key; repeatable."),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Encoder of the patches, as `hespotex encoders --all` lists them; same as --set encoder.name=NAME.",
    ),
]
Genes = Annotated[
    Path | None, typer.Option("--genes", help="File with the gene panel, one gene a line.")
]
AddGenes = Annotated[
    str | None,
    typer.Option(
        "--add-genes",
        metavar="FILE|GENE,GENE",
        help="Genes that the panel has besides, however seldom they were seen: a file with one a line, or their names.",
    ),
]
Sections = Annotated[
    str | None,
    typer.Option("--sections", metavar="ID,ID", help="Only these sections of the manifest."),
]
SlideOfSpots = Annotated[
    Path | None, typer.Option("--slide", help="Full-resolution image of a folder or file of spots.")
]
Library = Annotated[
    str | None,
    typer.Option(
        "--library",
        metavar="NAME",
        help="Which section of a folder or file of spots that holds several; a manifest has the column library.",
    ),
]
GeneSets = Annotated[
    Path | None,
    typer.Option(
        "--gene-sets",
        metavar="FILE.gmt",
        help="Gene sets to score beside the genes (GMT: name, description, genes, tab-separated).",
    ),
]
Folds = Annotated[
    str | None,
    typer.Option(
        "--folds",
        metavar="patient|section|kfold:N",
        help="What is left out in turn; without it up to ten patients one by one, more in ten groups.",
    ),
]
PoolGrid = Annotated[
    str | None,
    typer.Option(
        "--pool-grid",
        metavar="hexagonal|square",
        help="Lattice into which cells and bins are pooled; runs have the key pooling.grid.",
    ),
]
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits",
        metavar="N",
        min=8,
        max=32,
        help="Bits of a camera that wrote into samples of 16, of slides whose tags do not tell them.",
    ),
]
AllowHires = Annotated[
    bool,
    typer.Option(
        "--allow-hires",
        help="Take Space Ranger's down-scaled image where the full one is missing: cells cannot be seen in it.",
    ),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="CODE[:SECTION]",
        help="Go on where the preflight stops, recorded in every output: mpp (the manifest's counts against all "
        "other sources), position, outside (spots outside the image are left out), genes; repeatable.",
    ),
]
GeneNames = Annotated[
    Path | None,
    typer.Option(
        "--gene-names",
        metavar="FILE",
        help="Ensembl ids and symbols (gene_names.csv of inspect, BioMart, features.tsv.gz): joins sections that name "
        "their genes differently.",
    ),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        "--search",
        metavar="KEY=V1,V2",
        help="Let inner folds of the training sections choose a value; repeatable.",
    ),
]
Nuclei = Annotated[
    str | None,
    typer.Option(
        "--nuclei",
        metavar="SOURCE",
        help="Where nuclei come from: classical | instanseg | cellpose | mask (the manifest's column) | mask:PATH. "
        "Training then makes them part of the model; a model with nuclei takes them from the source of its "
        "training unless another is named.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto | cpu | cuda | cuda:N | mps.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; default: all cores.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random draw.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and results only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]

_IDLE = {
    "device": (Annotated[str | None, typer.Option("--device", hidden=True)], None),
    "threads": (Annotated[int | None, typer.Option("--threads", min=1, hidden=True)], None),
    "seed": (Annotated[int | None, typer.Option("--seed", min=0, hidden=True)], None),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", hidden=True)], False),
    "verbose": (Annotated[bool, typer.Option("--verbose", "-v", hidden=True)], False),
}


def idle(*names: str) -> Callable[[Verb], Verb]:
    """Shared options that change nothing on a verb: taken for one more version, unseen, and named in one warning."""

    def decorate(verb: Verb) -> Verb:
        @wraps(verb)
        def call(**given: Any) -> None:
            values = {name: given.pop(name) for name in names}
            _say_idle(
                verb.__name__.replace("_", "-"),
                [n for n, v in values.items() if v is not None and v is not False],
            )
            verb(**given)

        own, hints = inspect.signature(verb), get_type_hints(verb, include_extras=True)
        taken = [p.replace(annotation=hints[p.name]) for p in own.parameters.values()]
        for name in names:
            kind, default = _IDLE[name]
            taken.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind))
        call.__annotations__ = {p.name: p.annotation for p in taken}
        call.__signature__ = own.replace(parameters=taken)  # type: ignore[attr-defined]
        return call

    return decorate


def _say_idle(verb: str, names: list[str]) -> None:
    if names:
        has, it = ("has", "it") if len(names) == 1 else ("have", "them")
        given = ", ".join(f"--{name}" for name in names)
        print_warning(f"{given} {has} no effect on `{verb}`; a later version will not take {it}")


def build_config(
    *,
    config: Path | None,
    profile: str | None,
    overrides: list[str] | None,
    genes: Path | None,
    folds: str | None,
    seed: int | None,
    search: list[str] | None = None,
    encoder: str | None = None,
    add_genes: str | None = None,
) -> RunConfig:
    """One RunConfig from a file, `--set` and the named options, which win in this order."""
    extra = list(overrides or [])
    extra += [f"profile='{profile}'"] if profile else []
    extra += [f"folds.by='{folds}'"] if folds else []
    extra += [f"encoder.name='{encoder}'"] if encoder else []
    extra += [f"seed={seed}"] if seed is not None else []
    if config is not None:
        made = RunConfig.from_toml(config, extra)
    else:
        made = RunConfig.from_values({}, extra)
    if search:
        # What was not set must not come back as set: `--nuclei` asks whether its mode was.
        values = made.model_dump(mode="json", exclude_unset=True)
        values["search"] = {**values.get("search", {}), "grid": parse_grid(search)}
        made = RunConfig.from_values(values, source="--search")
    made = made if genes is None else made.with_genes(read_genes(genes))
    made = made if add_genes is None else made.with_added_genes(named_genes(add_genes))
    if idle := idle_keys(made):
        named = ", ".join(f"{key} (read with {needs})" for key, needs in idle.items())
        print_warning(f"set, and changes nothing in this configuration: {named}")
    return made


def read_genes(path: Path) -> tuple[str, ...]:
    """One gene a line; blank lines are skipped, doubled names are an error."""
    lines = read_text(path, "a text file with one gene a line", ConfigError).split("\n")
    genes = tuple(line.strip() for line in lines if line.strip())
    if not genes:
        raise ConfigError(expected=f"one gene a line in {path}", found="none")
    doubled = (
        sorted({g for g in genes if genes.count(g) > 1}) if len(set(genes)) < len(genes) else []
    )
    if doubled:
        raise ConfigError(
            expected=f"every gene once in {path}", found=f"doubled: {', '.join(doubled[:5])}"
        )
    return genes


def _is_file(text: str) -> bool:
    """Whether a file has this name; names of genes may be too long for one."""
    try:
        return Path(text).is_file()
    except OSError:
        return False


def named_genes(text: str) -> tuple[str, ...]:
    """Genes of a file, one a line, or as `split_ids` has them.

    Raises:
        ConfigError: the file cannot be read, or no gene is named.
    """
    if _is_file(text):
        return read_genes(Path(text))
    names = split_ids(text) or ()
    if not names:
        raise ConfigError(
            expected="genes as GENE,GENE or in a file with one a line", found=f"{text!r}"
        )
    return names


def read_gene_sets(path: Path | None) -> tuple[GeneSet, ...] | None:
    """The sets of a GMT file; None where none is given."""
    from hespotex.genes.gene_sets import read_gmt

    return None if path is None else read_gmt(path)


def split_ids(text: str | None) -> tuple[str, ...] | None:
    """`A,B` as a tuple, quoted as in a CSV where an id has a comma: `"A,1",B`; None stays None."""
    if text is None:
        return None
    parts = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(part.strip() for part in parts if part.strip())


def choices(
    allow_hires: bool,
    accept: list[str] | None,
    pool_grid: str | None = None,
    gene_names: Path | None = None,
) -> InputChoices:
    """What the user accepts of inputs; the lattice for cells and bins where a verb has no configuration.

    Raises:
        ConfigError: an unknown code or lattice.
    """
    if pool_grid not in {None, "hexagonal", "square"}:
        raise ConfigError(expected="--pool-grid hexagonal or square", found=f"{pool_grid!r}")
    return InputChoices(tuple(accept or ()), allow_hires, pool_grid, gene_names)  # type: ignore[arg-type]


def machine(device: str, threads: int | None) -> Machine:
    """Where the work runs."""
    return Machine(device=device, threads=threads)


def reporter(quiet: bool, verbose: bool) -> TerminalReporter:
    """The reporter of progress, as --quiet and --verbose ask."""
    return TerminalReporter(quiet=quiet, verbose=verbose)
