"""SpotTable, what every reader of spots returns, and its invariants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.config import Grid
from hespotex.errors import SpotTableError

MissingGenes = Literal["zero", "unmeasured"]
# Columns of the manifest that a format uses or does not; a value where it does not is refused.
OF_FORMATS: Final = (
    "expression",
    "spots",
    "alignment",
    "bin_um",
    "image_element",
    "table_element",
    "library",
)


@dataclass(frozen=True)
class RoughScale:
    """Microns per level-0 pixel from a circle whose physical size differs between versions of a program.

    Attributes:
        low: with the smallest circle that versions are known to write.
        likely: with the usual one.
        high: with the largest.
    """

    low: float
    likely: float
    high: float

    @classmethod
    def of_spot_diameter(cls, diameter_px0: float) -> RoughScale:
        """What Space Ranger's `spot_diameter_fullres` says: 65 um mostly, 55 to 73 um by version and chip."""
        return cls(*(um / diameter_px0 for um in (55.0, 65.0, 73.0)))

    def scaled(self, factor: float) -> RoughScale:
        """The same of an image whose pixels are `factor` times as large."""
        return RoughScale(self.low * factor, self.likely * factor, self.high * factor)


@dataclass(frozen=True)
class ScaleHints:
    """What a spot file says of its physical scale; None where it says nothing.

    Attributes:
        mpp: microns per level-0 pixel, keyed by where it was found.
        rough_mpp: the same from weak sources, which decide only where nothing else does.
        spot_pitch_um: distance of neighbouring spots' centres in microns.
        spot_diameter_um: physical diameter of a spot in microns.
        spot_diameter_px0: diameter of a spot in level-0 pixels; it is compared with
            `spot_diameter_um`, so a reader gives both only where they mean the same circle.
        image_scales: pixels of a smaller image per level-0 pixel, by the image's name (hires, lowres).
        full_size_px0: width and height of the full image, as far as a copy tells them.
        trust_slide_mpp: False where the collection is known for wrong mpp tags in its slides.
    """

    mpp: Mapping[str, float] = field(default_factory=dict)
    rough_mpp: Mapping[str, RoughScale] = field(default_factory=dict)
    spot_pitch_um: float | None = None
    spot_diameter_um: float | None = None
    spot_diameter_px0: float | None = None
    image_scales: Mapping[str, float] = field(default_factory=dict)
    full_size_px0: tuple[float, float] | None = None
    trust_slide_mpp: bool = True


@dataclass(frozen=True)
class Joined:
    """How counts and positions from two files met; of one section, nearly all of both have a partner.

    Attributes:
        n_counts: spots with counts, of those that should have a position in the tissue.
        counts_alone: of these, without one.
        n_positions: positions in the tissue.
        positions_alone: of these, without counts.
        exact: the program that wrote them leaves no counts without a position in the tissue.
        whole_array: the tissue covers the array, so that spots of any other such section have partners, too.
        deeper_inside: chance that a spot in the tissue has more counts than one outside; None where only spots in the
            tissue have counts.
    """

    n_counts: int
    counts_alone: int
    n_positions: int
    positions_alone: int
    exact: bool = False
    whole_array: bool = False
    deeper_inside: float | None = None


@dataclass(frozen=True)
class SpotSource:
    """Where a section's spots are, and what its manifest says of them.

    Attributes:
        expression: file or folder with the counts; None where nothing was measured.
        spots: file with the positions, where it is another one than `expression`.
        alignment: 3 x 3 affine matrix (Xenium), H&E pixel to morphology pixel.
        bin_um: side of the bins (Visium HD).
        spot_pitch_um: distance of neighbouring spots in microns.
        spot_diameter_um: diameter of a spot in microns.
        image_element: name of the image (SpatialData).
        table_element: name of the table (SpatialData).
        library: which of several sections in one table.
        missing_genes: overrules what the reader knows of the technology; None: the reader decides.
        grid: lattice into which cells and bins are pooled; None: the reader decides.
    """

    expression: Path | None = None
    spots: Path | None = None
    alignment: Path | None = None
    bin_um: float | None = None
    spot_pitch_um: float | None = None
    spot_diameter_um: float | None = None
    image_element: str | None = None
    table_element: str | None = None
    missing_genes: MissingGenes | None = None
    grid: Grid | None = None
    library: str | None = None


@dataclass(frozen=True)
class SpotTable:
    """Spots of one section as its files tell them, before any slide is opened.

    Attributes:
        source: the file or folder that was read, for messages.
        barcodes: (n,) unique names of the spots.
        xy_px0: (n, 2) x, y of the spot centres in level-0 pixels.
        counts: (n, g) raw counts, CSR, whole numbers >= 0; None without expression.
        genes: (g,) unique gene names; None without expression.
        array_xy: (n, 2) position in the array's lattice, NaN where unknown; None if it has none.
        missing_genes: what a gene that is not in `genes` means.
        hints: what the files say of the physical scale.
        obs: (n, ...) further columns, index = barcodes.
        dropped: how many entries were left out, by reason; what was seen nowhere is not named.
        joined: how counts and positions met; None where one file holds both.
    """

    source: str
    barcodes: npt.NDArray[np.str_]
    xy_px0: npt.NDArray[np.float64]
    counts: sparse.csr_matrix | None = None
    genes: npt.NDArray[np.str_] | None = None
    array_xy: npt.NDArray[np.float64] | None = None
    missing_genes: MissingGenes = "zero"
    hints: ScaleHints = field(default_factory=ScaleHints)
    obs: pd.DataFrame | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    joined: Joined | None = None

    def __post_init__(self) -> None:
        seen = {reason: number for reason, number in self.dropped.items() if number}
        object.__setattr__(self, "dropped", seen)
        n = len(self.barcodes)
        if n == 0:
            raise SpotTableError(expected=f"at least one spot in {self.source}", found="none")
        if self.xy_px0.shape != (n, 2):
            raise SpotTableError(
                expected=f"x and y for {n} spots in {self.source}",
                found=f"an array of shape {self.xy_px0.shape}",
            )
        bad = int((~np.isfinite(self.xy_px0).all(axis=1)).sum())
        if bad:
            raise SpotTableError(
                expected=f"numbers as positions in {self.source}",
                found=f"{bad} spots without",
                remedy="leave these spots out of the table, or give their positions",
            )
        if len(np.unique(self.barcodes)) != n:
            raise SpotTableError(
                expected=f"every spot once in {self.source}",
                found="doubled names",
                remedy="keep one entry for each",
            )
        if (self.counts is None) != (self.genes is None):
            raise SpotTableError(f"expected counts and gene names together in {self.source}")
        if (
            self.counts is not None
            and self.genes is not None
            and self.counts.shape != (n, len(self.genes))
        ):
            raise SpotTableError(
                expected=f"counts of shape {(n, len(self.genes))} in {self.source}",
                found=self.counts.shape,
            )

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.barcodes)

    def spots(self, kept: npt.NDArray[np.bool_], reason: str) -> SpotTable:
        """The same table with only these spots; the others are counted under `reason`."""
        return replace(
            self,
            barcodes=self.barcodes[kept],
            xy_px0=self.xy_px0[kept],
            counts=None if self.counts is None else self.counts[kept],
            array_xy=None if self.array_xy is None else self.array_xy[kept],
            obs=None if self.obs is None else self.obs[kept],
            dropped={**self.dropped, reason: int((~kept).sum())},
        )


@dataclass(frozen=True)
class Recognised:
    """A file or folder that a format knows as its own, with what to fill in to look at it.

    Attributes:
        values: columns of the manifest by name, beside the one that holds the path.
        notes: what was assumed for them, one sentence each.
        slide: the full-resolution image beside it; taken where the user gives none.
        slide_note: what is said if it is taken.
        images: the images inside of a store by their elements' names; the largest is taken where the user gives none.
    """

    values: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    slide: Path | None = None
    slide_note: str = ""
    images: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """A format of spots.

    Attributes:
        read: makes a table of the files; raises SpotTableError.
        columns: those of `OF_FORMATS` that it uses.
        folders: `expression` and `spots` may be folders.
        needs_spots: what the manifest's column spots must hold, in words; empty where it need not be filled.
        recognise: whether a file or folder is of this format, by names and headers; None where nobody can tell.
    """

    read: Callable[[SpotSource], SpotTable]
    columns: tuple[str, ...]
    folders: bool = False
    needs_spots: str = ""
    recognise: Callable[[Path], Recognised | None] | None = None

    def __post_init__(self) -> None:
        unknown = set(self.columns) - set(OF_FORMATS)
        if unknown or not {"expression", "spots"} & set(self.columns):
            raise ValueError(
                f"expected columns of {', '.join(OF_FORMATS)}, expression or spots among them, found {self.columns}"
            )
