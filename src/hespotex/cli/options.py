"""Options that several verbs share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hespotex.cli.terminal import TerminalReporter, print_warning
from hespotex.config import InputChoices, Machine, RunConfig
from hespotex.config.idle_keys import idle_keys
from hespotex.config.values import parse_grid
from hespotex.errors import ConfigError
from hespotex.storage.text_files import read_text

if TYPE_CHECKING:
    from hespotex.genes.gene_sets import GeneSet

Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with the configuration.", show_default=False),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="default | published (the arithmetic of the paper's code).",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one configuration key; repeatable.",
        show_default=False,
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Encoder of the patches, as `hespotex encoders --all` lists them; same as --set encoder.name=NAME.",
        show_default=False,
    ),
]
Genes = Annotated[
    Path | None,
    typer.Option("--genes", help="File with the gene panel, one gene a line.", show_default=False),
]
AddGenes = Annotated[
    str | None,
    typer.Option(
        "--add-genes",
        metavar="FILE|GENE,GENE",
        help="Genes that the panel has besides, however seldom they were seen: a file with one a line, or their names.",
        show_default=False,
    ),
]
Sections = Annotated[
    str | None,
    typer.Option(
        "--sections",
        metavar="ID,ID",
        help="Only these sections of the manifest.",
        show_default=False,
    ),
]
SlideOfSpots = Annotated[
    Path | None,
    typer.Option(
        "--slide", help="Full-resolution image of a folder or file of spots.", show_default=False
    ),
]
Library = Annotated[
    str | None,
    typer.Option(
        "--library",
        metavar="NAME",
        help="Which section of a folder or file of spots that holds several; a manifest has the column library.",
        show_default=False,
    ),
]
GeneSets = Annotated[
    Path | None,
    typer.Option(
        "--gene-sets",
        metavar="FILE.gmt",
        help="Gene sets to score beside the genes (GMT: name, description, genes, tab-separated).",
        show_default=False,
    ),
]
Folds = Annotated[
    str | None,
    typer.Option(
        "--folds",
        metavar="patient|section|kfold:N",
        help="What is left out in turn.",
        show_default=False,
    ),
]
PoolGrid = Annotated[
    str | None,
    typer.Option(
        "--pool-grid",
        metavar="hexagonal|square",
        help="Lattice into which cells and bins are pooled; runs have the key pooling.grid.",
        show_default=False,
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
        show_default=False,
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
        show_default=False,
    ),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        "--search",
        metavar="KEY=V1,V2",
        help="Let inner folds of the training sections choose a value; repeatable.",
        show_default=False,
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
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto | cpu | cuda | cuda:N | mps.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads; default: all cores.", show_default=False),
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of every random draw.", show_default=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and results only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]

# The same five on verbs where they change nothing: taken for one more version, and not shown.
IdleDevice = Annotated[str | None, typer.Option("--device", hidden=True)]
IdleThreads = Annotated[int | None, typer.Option("--threads", min=1, hidden=True)]
IdleSeed = Annotated[int | None, typer.Option("--seed", min=0, hidden=True)]
IdleQuiet = Annotated[bool, typer.Option("--quiet", "-q", hidden=True)]
IdleVerbose = Annotated[bool, typer.Option("--verbose", "-v", hidden=True)]


def say_without_effect(verb: str, **given: object) -> None:
    """One warning that names the options of a call which change nothing.

    Args:
        given: values by the names of the options; None and False: not given.
    """
    names = [
        f"--{name}" for name, value in given.items() if value is not None and value is not False
    ]
    if names:
        has = "has" if len(names) == 1 else "have"
        it = "it" if len(names) == 1 else "them"
        print_warning(
            f"{', '.join(names)} {has} no effect on `{verb}`; a later version will not take {it}"
        )


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
    allow_hires: bool, accept: list[str] | None, pool_grid: str | None = None
) -> InputChoices:
    """What the user accepts of inputs; the lattice for cells and bins where a verb has no configuration.

    Raises:
        ConfigError: an unknown code or lattice.
    """
    if pool_grid not in {None, "hexagonal", "square"}:
        raise ConfigError(expected="--pool-grid hexagonal or square", found=f"{pool_grid!r}")
    return InputChoices(tuple(accept or ()), allow_hires, pool_grid)  # type: ignore[arg-type]


def machine(device: str, threads: int | None) -> Machine:
    """Where the work runs."""
    return Machine(device=device, threads=threads)


def reporter(quiet: bool, verbose: bool) -> TerminalReporter:
    """Who hears of progress."""
    return TerminalReporter(quiet=quiet, verbose=verbose)
