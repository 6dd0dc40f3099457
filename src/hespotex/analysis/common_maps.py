"""Two sections' maps at the same places of the tissue, a block of genes at a time.

The maps of the second section are brought to the spots of the first: each takes the mean of up to four spots nearest to
it, with weights that fall off within a pitch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial import cKDTree

from hespotex import keys
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import GeometryError
from hespotex.evaluation.ridge_maps import RidgeMaps
from hespotex.evaluation.spatial_null import MIN_SPOTS, depth_basis
from hespotex.genes.panel import Margins, log1p_cpm, pearson_residuals
from hespotex.geometry import Map

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

# A spot further from its nearest partner than so many pitches lies outside the common tissue.
_REACH: Final = 1.0
_NEAREST: Final = 4
COMPOSITION: Final = keys.COMPOSITION
LOG1P: Final = "log1p"


@dataclass(frozen=True)
class Places:
    """Spots of the first section that have partners in the second.

    Attributes:
        rows: (m,) spots of the first.
        weights: (m, n) of the second's spots, rows sum to 1.
    """

    rows: npt.NDArray[np.intp]
    weights: sparse.csr_matrix


def common_places(
    first: Floats, second: Floats, pitch_um: float, usable: tuple[npt.NDArray[np.bool_], ...]
) -> Places:
    """Spots of the first section that have usable spots of the second within a pitch.

    Args:
        first, second: (n, 2) and (k, 2) spot centres in microns of the common frame.
        pitch_um: the larger of the two lattices'.
        usable: of each, which spots something may be said of.

    Raises:
        GeometryError: fewer than 8 spots of either overlap; says how many there are.
    """
    kept_a, kept_b = (np.flatnonzero(mask) for mask in usable)
    found = np.zeros((0, 1)), np.zeros((0, 1), np.intp)
    if len(kept_a) and len(kept_b):
        k = min(_NEAREST, len(kept_b))
        found = cKDTree(second[kept_b]).query(first[kept_a], k=list(range(1, k + 1)))
    distance, nearest = (np.asarray(part) for part in found)
    near: npt.NDArray[np.bool_] = distance[:, 0] <= _REACH * pitch_um
    met = len(np.unique(nearest[near][distance[near] <= _REACH * pitch_um]))
    if min(near.sum(), met) < MIN_SPOTS:
        few = min(len(kept_a), len(kept_b)) < MIN_SPOTS
        raise GeometryError(
            expected=f"at least {MIN_SPOTS} spots of either section at common places",
            found=f"{near.sum()} of the first's {len(kept_a)} usable spots and {met} of the second's {len(kept_b)}",
            remedy="flagged spots do not count: a section has too few to be compared"
            if few
            else "look at the picture of the pair: the sections do not overlap there",
        )
    distance, nearest = distance[near], nearest[near]
    weight = np.exp(-0.5 * (distance / (0.5 * pitch_um)) ** 2)
    weight[:, 1:][distance[:, 1:] > _REACH * pitch_um] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    m, k = weight.shape
    table = sparse.csr_matrix(
        (weight.ravel().astype(np.float32), (np.repeat(np.arange(m), k), kept_b[nearest].ravel())),
        shape=(m, len(second)),
    )
    return Places(kept_a[near], table)


class Side:
    """One section's maps by block of genes, at the common places.

    Args:
        file: its prediction.
        at: (m, n) weights of its spots at the places.
    """

    def __init__(self, file: PredictionFile, at: sparse.csr_matrix) -> None:
        self.file, self.at = file, at
        self.counts = _counts(file)
        self.margins = None if self.counts is None else Margins.of(self.counts)
        self.place = {gene: j for j, gene in enumerate(file.genes.tolist())}

    @cached_property
    def given(self) -> Floats:
        """(m, 2) depth at the places, of a measured section; (m, 0) else."""
        if self.counts is None:
            return np.zeros((self.at.shape[0], 0))
        return np.asarray(self.at @ depth_basis(self.counts))

    @cached_property
    def depth(self) -> Float32 | None:
        """(m, 1) log of predicted depth; None where the model predicts none."""
        depth = np.asarray(self.file.spots.depth, np.float64)
        if not np.isfinite(depth).all():
            return None
        return np.asarray(self.at @ np.log1p(np.maximum(depth, 0))[:, None], np.float32)

    def predicted(self, genes: list[str], scale: str) -> Float32 | None:
        """(m, g) predicted maps; None on a scale that the file does not hold."""
        values = self.file.columns(genes, scale)
        return None if values is None else self._there(values)

    def ridge(self, genes: list[str], scale: str) -> Float32 | None:
        """(m, g) maps of the ridge baseline; None in a file without them."""
        maps = self.ridge_there
        if maps is None:
            return None
        table = getattr(maps, scale)[[self.place[gene] for gene in genes]]
        return np.asarray(maps.spots @ table.T, np.float32)

    @cached_property
    def ridge_there(self) -> RidgeMaps | None:
        """Factors of the ridge baseline at the places."""
        kept = self.file.ridge
        return None if kept is None else replace(kept, spots=self._there(kept.spots))

    def measured(self, genes: list[str], scale: str) -> Float32 | None:
        """(m, g) measured maps, NaN for genes that the assay did not look for; None of a section without counts."""
        if self.counts is None:
            return None
        columns = np.array([self.place[gene] for gene in genes])
        part: Any = columns
        make = pearson_residuals if scale == COMPOSITION else log1p_cpm
        values = np.array(make(self.counts, columns=part, margins=self.margins))
        if (looked_for := self.file.looked_for) is not None:
            values[:, ~looked_for[columns]] = np.nan
        return self._there(values)

    def _there(self, values: npt.NDArray[Any]) -> Float32:
        return np.asarray(self.at @ values.astype(np.float32, copy=False), np.float32)


def _counts(file: PredictionFile) -> sparse.csc_matrix | None:
    """(n, G) raw counts of a measured section."""
    from anndata.io import read_elem

    if file.looked_for is None:
        return None
    with file.opened() as table:
        return sparse.csc_matrix(read_elem(table[f"layers/{keys.MEASURED_COUNTS}"]))


def sides_of(
    first: PredictionFile, second: PredictionFile, to_first: Map, pitch_um: float
) -> tuple[tuple[Side, Side], Floats]:
    """Both sections at their common places, and (m, 2) where these lie, in microns of the first section.

    Raises:
        GeometryError: fewer than 8 spots overlap.
    """
    places = common_places(
        first.xy_um, to_first(second.xy_um), pitch_um, (first.usable, second.usable)
    )
    m = len(places.rows)
    own = sparse.csr_matrix(
        (np.ones(m, np.float32), (np.arange(m), places.rows)), shape=(m, first.n_spots)
    )
    return (Side(first, own), Side(second, places.weights)), first.xy_um[places.rows]
