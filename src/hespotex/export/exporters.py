"""The formats that a prediction is written in beside its h5ad, for other tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hespotex.errors import ConfigError
from hespotex.registry import Registry

if TYPE_CHECKING:
    from hespotex.export.h5ad import StoredPrediction
    from hespotex.export.shown import Show


@dataclass(frozen=True)
class Wanted:
    """The choice of what is written of a prediction.

    Attributes:
        genes: names, each of them in the prediction, in this order.
        show: composition, or log1p(CPM).
        bounds_px0: x, y to take off positions, in level-0 pixels; (0, 0) but where QuPath leaves them out (MRXS).
    """

    genes: Sequence[str]
    show: Show = "composition"
    bounds_px0: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Exporter:
    """A format.

    Attributes:
        write: writes a prediction to a path that may hold an older file, whole or not at all; raises RunError.
        suffix: what the file's name ends with, behind the section's id.
        most_genes: how many genes are written where the user names none; the best graded.
    """

    write: Callable[[Path, StoredPrediction, Wanted], None]
    suffix: str
    most_genes: int

    def __post_init__(self) -> None:
        if not self.suffix.startswith(".") or "/" in self.suffix or self.suffix == ".h5ad":
            raise ValueError(f"expected a suffix such as .csv, not .h5ad, found {self.suffix!r}")


# `png` is drawn in `plots`, above this room: it is named here, and imported when it is asked for.
EXPORTERS: Final = Registry(
    "exporter",
    Exporter,
    {
        "geojson": "hespotex.export.geojson:EXPORTER",
        "parquet": "hespotex.export.tables:EXPORTER",
        "spatialdata": "hespotex.export.spatialdata:EXPORTER",
        "ome-tiff": "hespotex.export.pyramid:EXPORTER",
        "png": "hespotex.plots.gene_pictures:EXPORTER",
    },
    group="hespotex.exporters",
)


def chosen_exporters(names: Sequence[str]) -> dict[str, Exporter]:
    """The exporters of these names, in their order.

    Raises:
        ConfigError: there is none of a name, or two of them would write one file.
    """
    chosen: dict[str, Exporter] = {}
    for name in names:
        found = EXPORTERS.find(name)
        if found is None:
            raise ConfigError(expected=f"formats of {', '.join(EXPORTERS)}", found=f"{name!r}")
        for other, exporter in chosen.items():
            if other != name and exporter.suffix == found.suffix:
                raise ConfigError(
                    expected="formats with a suffix of their own",
                    found=f"{found.suffix} of {other} and of {name}",
                    remedy="write one of the two",
                )
        chosen[name] = found
    return chosen
