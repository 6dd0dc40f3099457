"""Regions of spots: their composition, their counts and the expected counts.

For the composition of a region, the expected counts of its spots are summed, so that spots weigh by their depth. The log
of a gene's part of that sum is set against its part in the training sections. A region of one spot is the spot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import HESpotExError
from hespotex.evaluation.scores import gene_blocks
from hespotex.genes.gene_sets import MIN_GENES, PanelSets
from hespotex.genes.panel import PanelCounts, spot_totals
from hespotex.models.types import Prediction

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

SIZES = (1, 4, 9, 25)
# At most so many regions of a section and size are used: more would repeat these, since neighbours err alike.
MOST_REGIONS = 512
# Spots of a section that regions are laid around: more than enough to choose from.
_MOST_CENTRES = 16_384
# Spots around a region that may be as near as its last one: rings of a lattice hold 12 at most up to 31 spots.
_TIED = 16
# Distances that differ by less than this share of the pitch are the same.
_SAME_DISTANCE = 0.05


@dataclass(frozen=True)
class Regions:
    """Regions of one size in one section that was predicted without its counts; k regions, G genes.

    Attributes:
        counts: (k, G) measured counts, summed over the region.
        expected: (k, G) the measured total of the region over its measured genes, times the predicted part.
        genes: (G,) genes that count: measured here.
        members: (k, size) spots of each region.
    """

    counts: Float32
    expected: Float32
    genes: npt.NDArray[np.bool_]
    members: npt.NDArray[np.intp]


@dataclass(frozen=True)
class HeldOutRegions:
    """One section, predicted by a model that was not fitted on it.

    Attributes:
        by_size: its regions; a size that the section is too small for is left out.
        unit: what it is a sample of, such as its patient; empty: of itself alone.
    """

    by_size: dict[int, Regions]
    unit: str = ""

    def with_offsets(self, share: float) -> HeldOutRegions:
        """The same where only a share of every gene's mean error over the section is kept, see `intervals.offset_share`."""
        if share == 1:
            return self
        return replace(self, by_size={k: _offset(r, share) for k, r in self.by_size.items()})

    def of_sets(self, sets: PanelSets) -> HeldOutRegions:
        """The same regions with gene sets in the place of genes: a set has the counts of its members that count here."""
        return replace(self, by_size={k: _of_sets(r, sets) for k, r in self.by_size.items()})


def neighbourhoods(
    xy_um: Floats, size: int, centres: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.intp]:
    """(k, size) spots with their nearest ones, themselves first, equally near ones in the order of the spots.

    Args:
        xy_um: (n, 2) spot centres, in any unit; n at least `size`.
        size: spots of a region.
        centres: (k,) of which spots; None: of all.

    Raises:
        HESpotExError: there are fewer spots.
    """
    n = len(xy_um)
    if n < size:
        raise HESpotExError(expected=f"at least {size} spots for a region of {size}", found=n)
    around = np.arange(n) if centres is None else centres
    if size == 1:
        return around[:, None]
    from scipy.spatial import cKDTree

    distance, near = cKDTree(xy_um).query(xy_um[around], k=min(n, size + _TIED))
    pitch = float(np.median(distance[:, 1])) or 1.0
    ring = np.rint(distance / (_SAME_DISTANCE * pitch)).astype(np.int64)
    ring[near == around[:, None]] = -1
    order = np.lexsort((near, ring), axis=1)
    return np.asarray(np.take_along_axis(near, order[:, :size], axis=1))


def apart(members: npt.NDArray[np.intp], xy_um: Floats) -> npt.NDArray[np.intp]:
    """Rows of regions that share no spot, in their order; no other region could be added.

    Regions are ordered from one corner of the section on. Every round takes those that come before all others that they
    touch, which fills most of a lattice.

    Args:
        members: (k, size) spots of each region, its centre first.
        xy_um: (n, 2) spot centres.
    """
    k, n_spots = len(members), len(xy_um)
    from_corner = np.linalg.norm(xy_um[members[:, 0]] - xy_um.min(axis=0), axis=1)
    rank = np.argsort(np.argsort(from_corner, kind="stable"))
    taken, open_rows = np.zeros(n_spots, bool), np.arange(k)
    chosen: list[npt.NDArray[np.intp]] = []
    while len(open_rows):
        first = np.full(n_spots, k)
        np.minimum.at(first, members[open_rows], rank[open_rows, None])
        best = (first[members[open_rows]] == rank[open_rows, None]).all(axis=1)
        chosen.append(open_rows[best])
        taken[members[open_rows[best]]] = True
        open_rows = open_rows[~taken[members[open_rows]].any(axis=1)]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.intp)


def region_matrix(
    members: npt.NDArray[np.intp], n_spots: int, weight: Floats | None = None
) -> sparse.csr_matrix:
    """(k, n) sums over regions: row k has the weights of its spots."""
    k, size = members.shape
    values = np.ones(members.size) if weight is None else weight[members.ravel()]
    start = np.arange(0, members.size + 1, size)
    return sparse.csr_matrix((values, members.ravel(), start), shape=(k, n_spots))


def region_composition(
    composition: Float32, depth: Float32, pooled: Floats, members: npt.NDArray[np.intp]
) -> Float32:
    """(k, G) log of the regions' summed expected counts' part of their total, less log pooled.

    Args:
        composition: (n, G) predicted.
        depth: (n,) predicted; spots weigh alike where a model predicts none.
        pooled: (G,) shares of the training sections that composition is against.
        members: (k, size) spots of each region.
    """
    part = _parts(composition, depth, pooled, members)
    part /= part.sum(axis=1, keepdims=True)
    part /= pooled.astype(np.float32)
    return np.asarray(np.log(part), dtype=np.float32)


def _parts(
    composition: Float32, depth: Float32, pooled: Floats, members: npt.NDArray[np.intp]
) -> Float32:
    """(k, G) expected counts of the regions, in any unit that is one for all genes of a region."""
    weight = np.asarray(depth, dtype=np.float64)
    if not np.isfinite(weight).all():
        weight = np.ones(len(weight))
    used, place = np.unique(
        members, return_inverse=True
    )  # few of many spots, where regions are small
    weight = np.maximum(weight[used], 1e-9)
    matrix = region_matrix(place.reshape(members.shape), len(used), weight).astype(np.float32)
    part = np.empty((len(members), composition.shape[1]), np.float32)
    for genes in gene_blocks(composition.shape[1]):
        part[:, genes] = matrix @ np.exp(composition[used, genes])
    part *= pooled.astype(np.float32)
    return np.maximum(part, np.float32(1e-30))


def held_out_regions(
    prediction: Prediction,
    pooled: Floats,
    counts: PanelCounts,
    xy_um: Floats,
    *,
    fitted: npt.NDArray[np.bool_] | None = None,
    unit: str = "",
) -> HeldOutRegions:
    """Regions of a section with what was predicted of them, apart from one another.

    Args:
        prediction: of n spots, made without the counts.
        pooled: (G,) shares that composition is against.
        counts: measured.
        xy_um: (n, 2) spot centres.
        fitted: (G,) genes that the model's sections measured; None: all.
    """
    by_size = {}
    filled = np.flatnonzero(spot_totals(counts.counts) > 0)  # an empty spot tells nothing
    centres = np.linspace(0, len(filled) - 1, min(len(filled), _MOST_CENTRES)).astype(int)
    genes = counts.measured if fitted is None else counts.measured & fitted
    for size in SIZES:
        if len(filled) < size or not genes.any():
            continue
        near = neighbourhoods(xy_um[filled], size, centres)
        rows = apart(near, xy_um[filled])
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_REGIONS)).astype(int)]
        members = filled[near[rows]]
        seen = (region_matrix(members, len(xy_um)).astype(np.float32) @ counts.counts).toarray()
        expected = _parts(prediction.composition, prediction.depth, pooled, members)
        seen[:, ~counts.measured] = 0
        expected[:, ~counts.measured] = 0
        expected *= seen.sum(axis=1, keepdims=True) / expected.sum(axis=1, keepdims=True)
        by_size[size] = Regions(seen, expected, genes, members)
    return HeldOutRegions(by_size, unit)


def _offset(regions: Regions, share: float) -> Regions:
    seen, expected = regions.counts, regions.expected
    error = np.log((seen.sum(axis=0) + 1) / (expected.sum(axis=0) + 1))
    return replace(regions, expected=expected * np.exp((1 - share) * error))


def _of_sets(regions: Regions, sets: PanelSets) -> Regions:
    known = sets.measured(regions.genes)
    counts, expected = ((known.members @ t.T).T for t in (regions.counts, regions.expected))
    return Regions(
        np.asarray(counts, np.float32),
        np.asarray(expected, np.float32),
        known.n_panel >= MIN_GENES,
        regions.members,
    )
