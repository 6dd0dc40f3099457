"""The encoder: a frozen network from patches to features, with its own preprocessing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from hespotex.errors import EncoderError

Patches = npt.NDArray[np.uint8]
FeatureRows = npt.NDArray[np.float32]
Engine = Literal["auto", "openvino", "torch"]
# Side of a cell in pixels, where a network is read by area; strides of every usual network divide it.
CELL_PX: Final = 32


@dataclass(frozen=True)
class EncoderInfo:
    """One line of `hespotex encoders`.

    Attributes:
        name: what to give as `encoder.name`.
        dim: features per patch; None where only the weights tell.
        size_px: side of the encoder's input in pixels; None where only the weights tell.
        mpp: microns per pixel that the encoder was trained at, where it states one.
        licence: of the weights, as their publisher states it.
    """

    name: str
    dim: int | None = None
    size_px: int | None = None
    mpp: float | None = None
    licence: str = "see its page"
    weights_here: bool = False
    source: str = ""
    note: str = ""


@dataclass(frozen=True)
class Tile:
    """A square of cells that a network is run over at once; tiles lie on a grid.

    Attributes:
        cells: a side, without the halo.
        halo: cells on each side that are computed and thrown away: what lies beyond them is missed. Over pixels it may be a half.
        offset: the cell at which a tile of the grid begins.
        exact: what a cell says depends on nothing beyond the halo around it.
    """

    cells: int
    halo: float
    offset: int = 0
    exact: bool = False

    @property
    def side(self) -> int:
        """Cells a side, halo included."""
        return round(self.cells + 2 * self.halo)

    @property
    def side_px(self) -> int:
        """Pixels a side, halo included."""
        return self.side * CELL_PX

    def low(self, place: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the first cell of a tile of the grid."""
        return place[0] * self.cells + self.offset, place[1] * self.cells + self.offset


@dataclass(frozen=True)
class Phase:
    """Some layers of a network read by area, run over tiles of their own: early layers see little, and a narrow halo serves them.

    Attributes:
        tile: what they are run over.
        cells: of the first phase (b, side_px, side_px, 3) uint8 RGB, of the others (b, side, side, M) float32 of the map on
            which the phase before ends -> (b, cells, cells, N + M) float32: N moments, whose mean over any set of cells
            means something, then the map for the next phase. A tile does not depend on its batch.
        n_map: M, the numbers of a cell of that map; 0 of the last phase.
    """

    tile: Tile
    cells: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]
    n_map: int = 0


@dataclass(frozen=True)
class CellReader:
    """A network read by area.

    Attributes:
        phases: from pixels to the last layers.
        features: (n, K) means over the cells of a patch, phase after phase -> (n, dim) features of the patch.
    """

    phases: tuple[Phase, ...]
    features: Callable[[npt.NDArray[np.float64]], FeatureRows]


class Encoder(ABC):
    """A frozen encoder.

    Attributes:
        dim: features per patch.
        size_px: side of the input in pixels.
        mpp: microns per pixel that it was trained at, or None.
        mean, std: per channel, on a scale of 0 to 1; empty where the encoder's own transform is no
            plain normalisation.
        engine: what runs it: `openvino` or `torch`, with the precision where it is not float32.
    """

    name: str
    dim: int
    size_px: int
    mpp: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    engine: str

    @abstractmethod
    def key(self) -> str:
        """Key of weights and preprocessing; the same on every engine and device."""

    @abstractmethod
    def encode(self, patches: Patches) -> FeatureRows:
        """(b, size, size, 3) uint8 RGB -> (b, dim) float32; rows do not depend on their batch."""

    def not_by_area(self) -> str:
        """Why it reads patches alone, as half a sentence; empty where `by_area` works."""
        return "it is no convolutional network whose layers are known"

    def area_tiles(self) -> tuple[Tile, ...]:
        """The tiles of the phases of `by_area`.

        Raises:
            EncoderError: it reads patches alone.
        """
        raise no_area(self)

    def by_area(self, tiles: Sequence[Tile] | None = None) -> CellReader:
        """The encoder as a reader of cells.

        Args:
            tiles: of each phase; None: those of `area_tiles`. Their number says how the network is parted.

        Raises:
            EncoderError: it reads patches alone.
            ValueError: it is not parted into so many phases.
        """
        raise no_area(self)


def no_area(encoder: Encoder) -> EncoderError:
    """The error of an encoder that is asked to read by area and cannot."""
    return EncoderError(
        expected="an encoder that reads by area",
        found=f"{encoder.name}, which reads patches alone: {encoder.not_by_area()}",
        remedy="set encoder.reading=patches (predict: --reading patches)",
    )


class RunEncoder(Encoder):
    """An encoder whose function from patches to features, and whose key, are made when it is loaded."""

    mpp = None
    _forward: Callable[[Patches], FeatureRows]
    _key: str

    def key(self) -> str:
        """Key of weights and preprocessing; the same on every engine and device."""
        return self._key

    def encode(self, patches: Patches) -> FeatureRows:
        """(b, size, size, 3) uint8 RGB -> (b, dim) float32; rows do not depend on their batch."""
        return self._forward(patches)


class Build(Protocol):
    """Makes an encoder."""

    def __call__(
        self, name: str, /, *, device: str, threads: int | None, engine: Engine
    ) -> Encoder:
        """The encoder of a whole name; see `get_encoder` for the others. Raises EncoderError."""


@dataclass(frozen=True)
class EncoderSource:
    """Where encoders of one name, or of all names `NAME:...`, come from.

    Attributes:
        build: makes one.
        rows: its lines of `hespotex encoders`; told whether also those that take seconds to find are asked for.
        spelling: how a message says its name; None: as in the registry, empty: not at all.
    """

    build: Build
    rows: Callable[[bool], Sequence[EncoderInfo]]
    spelling: str | None = None
