"""One prediction that is looked at: its spots, its genes, and any layer of values by name."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.localize.sections import PREFIX, WORDS
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import HESpotExError, RunError
from hespotex.evaluation.claims import Claims
from hespotex.evaluation.measured_composition import measured_composition
from hespotex.export.claim_words import long, short
from hespotex.export.h5ad import holds_log1p
from hespotex.export.raster import is_fine, pitch_um, raster_of
from hespotex.export.scales import robust_limits
from hespotex.export.shown import COMPOSITION_IS, LOG1P_IS, MEASURED_IS, composition_end
from hespotex.storage.hdf5 import open_h5
from hespotex.viewer.gene_columns import GeneColumns, Say
from hespotex.viewer.images import SlideImage
from hespotex.viewer.sources import Entry
from hespotex.viewer.spot_columns import (
    HIDDEN,
    MOST_CATEGORIES,
    as_text,
    columns_of_spots,
    looked_for,
    title_of,
)

Float32 = npt.NDArray[np.float32]
# Above this many spots, and on fine lattices, spots are pixels of an image.
MOST_CIRCLES: Final = 100_000
# What is drawn of a gene, in the order of the menu, with its title.
OF_GENES: Final = {
    "composition": "Composition, predicted",
    "measured": "Composition, measured",
    "difference": "Difference, predicted − measured",
    "log1p": "log1p(CPM), predicted",
    "measured_log1p": "log1p(CPM), measured",
    "interval": "Width of the 90 % interval of log1p",
}
_DIVERGING: Final = ("composition", "measured", "difference")


@dataclass(frozen=True)
class Layer:
    """Values of all spots, ready to be drawn.

    Attributes:
        values: (n,) float32; NaN where there is none; places in `categories` where these are given.
        title, unit: in words.
        limits: of the colour scale by default.
        diverging: whether the scale has 0 in the middle.
        categories: names, of values that are no numbers.
        explained: one sentence on how to read it.
    """

    values: Float32
    title: str
    unit: str
    limits: tuple[float, float]
    diverging: bool = False
    categories: tuple[str, ...] = ()
    explained: str = ""


class OpenedSlide:
    """A prediction held open; a file that changes meanwhile is refused.

    Args:
        entry: which.
        say: hears of copies that are made in the cache.

    Raises:
        RunError: the file is missing, cut short, or none of ours.
    """

    def __init__(self, entry: Entry, say: Say) -> None:
        self.entry = entry
        self._mark = _mark(entry)
        self.file = PredictionFile(entry.path)
        self._open = ExitStack()
        what = "a prediction of hespotex in"
        self._handle = self._open.enter_context(
            open_h5(entry.path, what, RunError, "predict again")
        )
        self._names = {"X", *(f"layers/{name}" for name in self._handle["layers"])}
        self._obs: pd.DataFrame = columns_of_spots(self._handle)
        self._measured = looked_for(self._handle)
        self._columns = GeneColumns(self._handle, entry.path, say)
        self.lock = threading.RLock()
        self._place = {gene: j for j, gene in enumerate(self.file.genes.tolist())}
        sets = self.file.spots.extras.gene_sets
        self._sets = {} if sets is None else {name: j for j, name in enumerate(sets.names)}
        self._raster: npt.NDArray[np.int32] | None = None
        self._px0_per_px = 1.0

    @cached_property
    def image(self) -> SlideImage:
        """What lies under the spots; opened when first asked: a list by levels needs none."""
        return SlideImage(self.entry, self.file.spots)

    @property
    def claims(self) -> Claims:
        """What may be claimed of each gene here."""
        return self.file.claims

    @property
    def is_image(self) -> bool:
        """Whether spots are drawn as pixels of an image."""
        return is_fine(self.file.spots) or self.file.n_spots > MOST_CIRCLES

    def check(self) -> None:
        """Refuse a file that is no more what it was.

        Raises:
            RunError: it changed or vanished.
        """
        try:
            same = _mark(self.entry) == self._mark
        except OSError:
            raise RunError(
                expected=f"{self.entry.path.name} as it was",
                found="nothing: it was moved or deleted",
                remedy="put it back, or close the viewer",
            ) from None
        if not same:
            raise RunError(
                expected=f"{self.entry.path.name} as it was when the viewer opened it",
                found="another file of that name",
                remedy="load the page again",
            )

    def shows(self) -> dict[str, str]:
        """What can be drawn of a gene, with titles."""
        has = {
            "composition": True,
            "measured": self._can_measure,
            "difference": self._can_measure,
            "log1p": holds_log1p({keys.UNS: dict(self.file.spots.record)}),
            "measured_log1p": f"layers/{keys.MEASURED}" in self._names,
            "interval": f"layers/{keys.LOWER}" in self._names,
        }
        return {name: title for name, title in OF_GENES.items() if has[name]}

    def spot_shows(self) -> dict[str, str]:
        """What can be drawn without a gene: columns of the spots, with titles; domains and attention among them."""
        return {
            name: title_of(name)[0]
            for name in map(str, self._obs)
            if name not in HIDDEN and self._drawable(name)
        }

    @property
    def _can_measure(self) -> bool:
        return f"layers/{keys.MEASURED}" in self._names and keys.MEASURED_DEPTH in self._obs

    def _drawable(self, name: str) -> bool:
        column = self._obs[name]
        if pd.api.types.is_numeric_dtype(column):
            return bool(np.isfinite(column.to_numpy(float)).any())
        return 0 < column.nunique() <= MOST_CATEGORIES

    def layer(self, show: str, gene: str = "") -> Layer:
        """The values of one layer.

        Raises:
            RunError: the prediction does not hold it, or changed meanwhile.
        """
        self.check()
        with self.lock:
            try:
                return self._layer(show, gene)
            except (OSError, KeyError, RuntimeError) as error:
                if isinstance(error, HESpotExError):
                    raise
                self.check()
                raise RunError(expected=f"a whole file {self.entry.path.name}", cause=error) from error  # fmt: skip

    def _layer(self, show: str, gene: str) -> Layer:
        if show not in OF_GENES:
            return self._spot_layer(show)
        if gene in self._sets and show == "composition":
            return self._set_layer(gene)
        if gene not in self._place or show not in self.shows():
            raise RunError(
                expected=f"{OF_GENES[show]} of {gene or 'a gene'} in {self.entry.name}",
                found="none",
                remedy="choose one of the list",
            )
        column = self._place[gene]
        values = self._of_gene(show, column)
        if show in _DIVERGING:
            end = composition_end([values])
            said = MEASURED_IS if show != "composition" else COMPOSITION_IS
            return Layer(values, OF_GENES[show], "natural log ratio", (-end, end), True, (), said)
        low, high = robust_limits([values])
        unit = "natural log" if show == "interval" else "log1p(CPM)"
        return Layer(
            values,
            OF_GENES[show],
            unit,
            (0.0 if show == "interval" else low, high),
            explained=LOG1P_IS,
        )

    def _of_gene(self, show: str, column: int) -> Float32:
        read = self._columns.read
        composition, measured = f"layers/{keys.COMPOSITION}", f"layers/{keys.MEASURED}"
        if show == "composition":
            return read(composition, column)
        if show == "log1p":
            return read("X", column)
        if show == "measured_log1p":
            return read(measured, column)
        if show == "interval":
            return read(f"layers/{keys.UPPER}", column) - read(f"layers/{keys.LOWER}", column)
        predicted = read(composition, column)
        counted = self._measured_composition(read(measured, column), predicted)
        if not self._measured[column]:
            counted[:] = np.nan
        return predicted - counted if show == "difference" else counted

    def _measured_composition(self, log1p: Float32, predicted: Float32) -> Float32:
        """`export.shown.measured_beside` of one gene: its counts follow from log1p(CPM), all others are one column."""
        from scipy import sparse

        depth = self._obs[keys.MEASURED_DEPTH].to_numpy(np.float64)
        counts = np.rint(np.expm1(np.nan_to_num(log1p.astype(np.float64))) * depth / 1e6)
        both = sparse.csr_matrix(np.stack([counts, np.maximum(depth - counts, 0)], axis=1))
        values = measured_composition(both, np.array([0]))[:, 0]
        known = np.isfinite(predicted)
        return np.asarray(
            values + (predicted[known].mean(dtype=np.float64) if known.any() else 0.0), np.float32
        )

    def _set_layer(self, name: str) -> Layer:
        sets = self.file.spots.extras.gene_sets
        if sets is None or sets.values is None:
            raise RunError(expected=f"scores of the set {name}", found="none")
        values = np.asarray(sets.values[:, self._sets[name]], np.float32)
        end = composition_end([values])
        title = "Composition of the set, predicted"
        return Layer(values, title, "natural log ratio", (-end, end), True, (), COMPOSITION_IS)

    def _spot_layer(self, name: str) -> Layer:
        if name not in self.spot_shows():
            raise RunError(expected=f"the layer {name!r} in {self.entry.name}", found="none")
        title, unit = title_of(name)
        column = self._obs[name]
        if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
            codes = column.astype(str).where(column.notna()).astype("category").cat
            values = np.asarray(codes.codes, np.float32)
            values[values < 0] = np.nan
            names = tuple(map(str, codes.categories))
            high = float(max(len(names) - 1, 1))
            return Layer(values, title, unit, (0.0, high), False, names, self._words_on(name))
        values = np.asarray(column, np.float32)
        limits = (0.0, 2.0) if name == keys.OOD_SCORE else robust_limits([values])
        return Layer(values, title, unit, limits, explained=self._words_on(name))

    def _words_on(self, column: str) -> str:
        """What must be read with a column of the spots: the evidence of `localize`, and for what it is."""
        record = self.file.spots.record
        return str(record.get(WORDS, "")) if column.startswith(PREFIX) else ""

    def told(self, gene: str) -> str:
        """The sentence on a gene with all numbers that its grade rests on; empty for no gene."""
        return long(self.claims, self._place[gene]) if gene in self._place else ""

    def holds(self, name: str) -> bool:
        """Whether a name is one of its genes or gene sets."""
        return name in self._place or name in self._sets

    def graded(self, name: str) -> str:
        """A gene's or a gene set's grade in a few words; empty where it has none to tell."""
        if name in self._place:
            return short(self.claims, self._place[name])
        sets = self.file.spots.extras.gene_sets
        if sets is None or name not in self._sets or not len(sets.grades):
            return ""
        return f"grade {sets.grades[self._sets[name]]}"

    def half_widths(self, gene: str) -> list[float | None]:
        """Half widths of the interval of composition, for regions of 1, 4, 9 and 25 spots; empty where unknown."""
        widths = self.file.half_width
        if widths is None or gene not in self._place:
            return []
        of_gene = widths[:, self._place[gene]].tolist()
        return [float(w) if np.isfinite(w) else None for w in of_gene]

    def raster(self) -> tuple[npt.NDArray[np.int32], float]:
        """(h, w) the spot that each pixel shows, -1 for none; and level-0 pixels per pixel."""
        with self.lock:
            if self._raster is None:
                grid = self.image.grid
                found = raster_of(self.file.spots, (grid.width_px0, grid.height_px0), 4000)
                self._raster, self._px0_per_px = found.index, found.px0_per_px
            return self._raster, self._px0_per_px

    def level(self, gene: str) -> float | None:
        """Composition of a gene pooled over the usable spots, each by its depth; None where it is not held."""
        if gene not in self._place:
            return None
        values = self.layer("composition", gene).values.astype(np.float64)
        depth = np.asarray(self.file.spots.depth, np.float64)
        weight = np.maximum(depth, 1e-9) if np.isfinite(depth).all() else np.ones(len(values))
        weight = weight * (self.file.usable & np.isfinite(values))
        if not weight.sum():
            return None
        share = np.exp(np.where(np.isfinite(values), values, 0))
        return float(np.log((weight * share).sum() / weight.sum()))

    def pitch_um(self) -> float:
        """Distance of neighbouring spots."""
        return pitch_um(self.file.spots)

    def spot(self, number: int) -> dict[str, Any]:
        """Name and columns of one spot, what a reader carried along included."""
        told = {name: self._obs[name].iloc[number] for name in self._told}
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in told.items()}
        return {
            "barcode": str(self._obs.index[number]),
            "columns": {k: v if isinstance(v, int) else as_text(v) for k, v in plain.items()},
        }

    def spots_told(self, most: int) -> dict[str, Any]:
        """Names and the first columns of all spots, as `spot` tells them of one."""
        columns = {name: self._obs[name].tolist() for name in self._told[:most]}
        return {
            "names": self._obs.index.astype(str).tolist(),
            "columns": {
                name: [v if isinstance(v, int) else as_text(v) for v in values]
                for name, values in columns.items()
            },
        }

    @property
    def _told(self) -> list[str]:
        return [str(name) for name in self._obs if name not in HIDDEN]


def _mark(entry: Entry) -> tuple[int, int, int]:
    stat = entry.path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
