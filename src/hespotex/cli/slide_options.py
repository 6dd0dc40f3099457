"""Options of `predict` that concern slides without spots, and what is written beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hespotex.cli.options import named_genes, split_ids
from hespotex.errors import ConfigError
from hespotex.export.exporters import EXPORTERS

if TYPE_CHECKING:
    from hespotex.predicting import Cluster, SlideOptions

Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp", help="Slides: microns per level-0 pixel, used exactly; default: the slide's tags."
    ),
]
Tissue = Annotated[
    Path | None,
    typer.Option(
        "--tissue",
        metavar="FILE.geojson",
        help="Slides: outline of the tissue, e.g. from QuPath; default: it is found.",
    ),
]
Spots = Annotated[
    Path | None,
    typer.Option(
        "--spots",
        metavar="FILE",
        help="Slides: predict at these positions: h5ad, legacy ST or Space Ranger spot file, or a table with "
        "x, y in level-0 pixels; default: a grid over the tissue.",
    ),
]
PitchUm = Annotated[
    float | None,
    typer.Option(
        "--spot-pitch-um",
        "--pitch-um",
        help="Slides: microns between neighbouring spots; default: as in the model's training.",
    ),
]
DiameterUm = Annotated[
    float | None,
    typer.Option(
        "--spot-diameter-um",
        help="Slides: diameter of a spot in microns; default: as in the model's training.",
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(
        "--grid", help="Slides: hexagonal | square; default: square up to a pitch of 50 um."
    ),
]
Layers = Annotated[
    str,
    typer.Option(
        "--layers",
        help="Slides: what the h5ad holds: composition (alone, in half precision) | all; default: composition up to a "
        "pitch of 50 um.",
    ),
]
MostGenes = Annotated[
    int,
    typer.Option(
        "--most-genes", help="Slides: genes written of composition alone, the best graded first."
    ),
]
Reading = Annotated[
    str | None,
    typer.Option(
        "--reading",
        help="patches (each is encoded by itself) | area (the tissue is encoded once, cheaper on fine lattices); default: "
        "as in the model's training.",
    ),
]
MaxBadTiles = Annotated[
    float,
    typer.Option("--max-bad-tiles", help="Slides: share of spots whose pixels may be unreadable."),
]
ShowGenes = Annotated[
    str | None,
    typer.Option(
        "--show-genes",
        metavar="GENE,GENE|FILE",
        help="Genes of pictures and of --export, or all; a name with a comma in quotes: '\"A,1\",B'; default: the best "
        "graded, 50 of a table and 10 of pictures.",
    ),
]
Show = Annotated[
    str,
    typer.Option(
        "--show",
        help="What pictures and --export show of a gene: composition | log1p. The h5ad has both.",
    ),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--export",
        metavar="FORMAT,FORMAT",
        help=f"Also write {' | '.join(EXPORTERS.own)}, with the shown genes.",
    ),
]
BoundsOffset = Annotated[
    bool,
    typer.Option(
        "--bounds-offset",
        help="Coordinates for and from QuPath (--export geojson, --tissue, --nuclei mask:PATH) start at the "
        "slide's bounds (MRXS, as QuPath shows it).",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Slides: share them among the workers of this Dask scheduler, e.g. tcp://host:8786.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Slides: share them among so many processes of this machine; default: one after another.",
    ),
]
AllGenes = Annotated[
    bool, typer.Option("--all-genes", help="Write every gene of any grade, marked with it.")
]
Untested = Annotated[
    bool,
    typer.Option(
        "--untested", help="Also write genes without evidence for this patient, marked as untested."
    ),
]
KeepFeatures = Annotated[
    bool,
    typer.Option(
        "--keep-features",
        help="Keep the encoder's features beside each h5ad: `localize` then compares them with composition.",
    ),
]
Patient = Annotated[
    str | None,
    typer.Option(
        "--patient",
        metavar="ID",
        help="Whose the slide is; a manifest names the patient of every row. Default: not known.",
    ),
]
SamePatient = Annotated[
    bool,
    typer.Option(
        "--same-patient",
        help="A patient id that the training has, too, means the same patient (every lab has a P1).",
    ),
]


def slide_options(
    *,
    tissue: Path | None,
    spots: Path | None,
    show_genes: str | None,
    formats: list[str] | None,
    **values: Any,
) -> SlideOptions:
    """The options as one checked value.

    Raises:
        ConfigError: a value is out of range, or a file is not there.
    """
    from hespotex.predicting import SlideOptions

    for name, path in (("--tissue", tissue), ("--spots", spots)):
        if path is not None and not path.exists():
            raise ConfigError(expected=f"a file with {name}", found=f"nothing at {path}")
    listed = [name for text in formats or () for name in split_ids(text) or ()]
    return SlideOptions(
        tissue=tissue,
        spots=spots,
        genes=named_genes(show_genes) if show_genes else None,
        formats=tuple(dict.fromkeys(listed)),
        **values,
    )


def cluster(scheduler: str | None, workers: int | None) -> Cluster | None:
    """The workers that share many slides; None where neither was asked for.

    Raises:
        ConfigError: both were.
    """
    from hespotex.predicting import Cluster

    return None if scheduler is None and workers is None else Cluster(scheduler, workers)
