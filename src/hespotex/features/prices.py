"""What features cost, by patches and by area: one table of prices, for whoever chooses or says how long it takes.

Core-seconds of the offline encoder on one thread, from pixels to features (`python -m benchmarks.area_halo IMAGE --prices`; docs/design/area.md).
They move with the machine and with the network, their ratios hardly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.config import Reading
from hespotex.encoders import offline
from hespotex.encoders.base import CELL_PX, Tile
from hespotex.features.area_tiles import tiles_under
from hespotex.features.patches import PatchPlan

# Of a patch of 49 cells: cut, encoded, described.
PATCH_S: Final = 0.0060
# Of a tile of each phase: read, encoded, described; by the number of phases. Six are those of the offline encoder. Of the
# others the offline encoder's layers were measured in so many phases; in one, its pixels are priced as in two.
TILES_S: Final = {1: (0.40,), 2: (0.036, 0.26), 6: (0.0045, 0.0039, 0.0026, 0.0048, 0.0041, 0.0027)}
# Of a patch that is put together from its cells.
POOLED_S: Final = 0.00003
_PRICED_CELLS: Final = 49
# Area must cost no more than that part of patches to be taken: prices of two machines differ, and whole sections of 100 um, where it
# saves a fifth, keep the features that they had.
_MARGIN: Final = 0.7
# "Much cheaper", for whoever reads otherwise than the model does: by this factor, and by so many core-seconds.
_MUCH, _WORTH_SAYING_S = 2.0, 10.0


@dataclass(frozen=True)
class Price:
    """Core-seconds of all features of some spots, with the offline encoder's prices.

    Attributes:
        patches: every patch encoded by itself.
        area: tiles encoded once.
    """

    patches: float
    area: float

    @property
    def cheaper(self) -> Reading:
        """The reading to take where nothing else speaks for one: patches, unless area saves three tenths."""
        return "area" if self.area < _MARGIN * self.patches else "patches"

    def of(self, reading: Reading) -> float:
        """Core-seconds by this reading."""
        return self.area if reading == "area" else self.patches

    def much_cheaper(self, than: Reading) -> Reading | None:
        """The other reading where it costs no more than half and saves 10 core-seconds; else None."""
        other: Reading = "patches" if than == "area" else "area"
        saved = self.of(than) - self.of(other)
        much = self.of(than) >= _MUCH * self.of(other) and saved >= _WORTH_SAYING_S
        return other if much else None


def price(
    spots: Iterable[tuple[npt.NDArray[np.float64], float]],
    plan: PatchPlan,
    tiles: Sequence[Tile] = offline.TILES,
) -> Price:
    """What features of the spots of some slides cost.

    Args:
        spots: of each slide (n, 2) level-0 pixels, and microns per level-0 pixel.
        plan: sides and size of the patches; its reading does not matter.
        tiles: of the phases in which the network reads by area.
    """
    cells = plan.size_px // CELL_PX
    patches = area = 0.0
    for xy_px0, mpp in spots:
        n_patches = len(xy_px0) * len(plan.sides_um)
        patches += n_patches * PATCH_S * (plan.size_px / CELL_PX) ** 2 / _PRICED_CELLS
        if cells == 0:
            area = np.inf
            continue
        area += n_patches * POOLED_S
        for side_px0 in plan.sides_px0(mpp):
            found = tiles_under(xy_px0, side_px0 / cells, cells, tiles)
            area += sum(n * s for n, s in zip(found, TILES_S[len(tiles)], strict=True))
    return Price(patches, area)


def core_time(seconds: float) -> str:
    """Core-seconds in words with two digits: `40 core-s`, `1.4 core-min`, `2 core-h`."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):,g} core-{unit}"
    return f"{float(f'{seconds:.2g}'):g} core-s"
