"""Owns intervals of composition for a spot and for a region of 4, 9 or 25 spots: what is held in them, fit, coverage; pure.

Composition of a region: log of its summed expected counts' part of their total, spots weighted by depth, against the
training sections. The interval is of that expectation, `half_width` to either side: the expectation is off by a factor
that is log-normal, with one deviation a gene and size. The deviation comes from the counts of held-out training
regions, less what Poisson noise explains, and is drawn to that of equally abundant genes. One factor for a size and
level makes it conformal: deviations of the other patients (sections) hold the stated share of a left-out one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.special import ndtri

from hespotex.errors import HESpotExError
from hespotex.evaluation.count_intervals import mixed_poisson_cdf
from hespotex.evaluation.intervals import LEVELS
from hespotex.evaluation.scores import gene_blocks
from hespotex.expression import PanelCounts, spot_totals

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

SIZES = (1, 4, 9, 25)
# So many regions of a section and size are looked at: more would say the same again, since neighbours err alike.
_MOST_REGIONS = 512
# Fewer regions over all sections calibrate nothing.
_LEAST_REGIONS = 8
# Spots up to which regions are packed tightly.
_MOST_IN_ORDER = 16_384
# Spots around a region that may be as near as its last one: rings of a lattice hold 12 at most up to 31 spots.
_TIED = 16
# Distances that differ by less than this share of the pitch are the same.
_SAME_DISTANCE = 0.05
# Variance of a usual error: deeper regions than 1 / this weigh hardly more, since noise is not what limits them.
_USUAL_VARIANCE = 0.1
_LEAST_VARIANCE = 1e-4
_GENE_GROUPS, _GENES_OF_GROUP = 10, 20
_FACTORS = np.geomspace(0.25, 8, 21)
# So many counts of a unit and size are looked at for a factor, and of a section and size for coverage.
_ENTRIES = 8_000


@dataclass(frozen=True)
class Regions:
    """Regions of one size in one section that was predicted without its counts; k regions, G genes.

    Attributes:
        counts: (k, G) measured counts, summed over the region.
        expected: (k, G) the measured total of the region over its measured genes, times the predicted part.
        genes: (G,) genes that count: measured here.
    """

    counts: Float32
    expected: Float32
    genes: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOutRegions:
    """One section, predicted by a model that was not fitted on it.

    Attributes:
        by_size: its regions; a size that the section is too small for is left out.
        unit: what it is a sample of, such as its patient; empty: of itself alone.
    """

    by_size: dict[int, Regions]
    unit: str = ""


@dataclass(frozen=True)
class RegionIntervals:
    """Intervals of composition by size of region and by gene; S sizes, L levels, G genes.

    Attributes:
        sizes: (S,) spots of a region.
        levels: (L,) nominal coverages.
        sd: (S, G) deviation of the error in natural log; NaN where nothing was calibrated.
        factor: (S, L) by which a level's deviation is multiplied.
        n_units: (S,) patients (or sections, or blocks of one) that were calibrated on.
    """

    sizes: tuple[int, ...]
    levels: tuple[float, ...]
    sd: Float32
    factor: Float32
    n_units: npt.NDArray[np.int64]

    def half_width(self, level: float = 0.9) -> Float32:
        """(S, G) how far the interval reaches to either side of the predicted composition, in natural log.

        Raises:
            HESpotExError: the level was not calibrated.
        """
        if level not in self.levels:
            raise HESpotExError(f"expected one of the levels {self.levels}, found {level}")
        column = self.levels.index(level)
        width = ndtri((1 + level) / 2) * self.factor[:, column, None] * self.sd
        return np.asarray(width, dtype=np.float32)


# ------------------------------------------------------------------------------------------- regions


def neighbourhoods(xy_um: Floats, size: int) -> npt.NDArray[np.intp]:
    """(n, size) every spot with its nearest ones, itself first, equally near ones in the order of the spots.

    Args:
        xy_um: (n, 2) spot centres; n at least `size`.
        size: spots of a region.

    Raises:
        HESpotExError: there are fewer spots.
    """
    n = len(xy_um)
    if n < size:
        raise HESpotExError(f"expected at least {size} spots for a region of {size}, found {n}")
    if size == 1:
        return np.arange(n)[:, None]
    k = min(n, size + _TIED)
    distance, near = cKDTree(xy_um).query(xy_um, k=k)
    pitch = float(np.median(distance[:, 1])) or 1.0
    ring = np.rint(distance / (_SAME_DISTANCE * pitch)).astype(np.int64)
    ring[near == np.arange(n)[:, None]] = -1
    order = np.lexsort((near, ring), axis=1)
    return np.asarray(np.take_along_axis(near, order[:, :size], axis=1))


def apart(members: npt.NDArray[np.intp], xy_um: Floats) -> npt.NDArray[np.intp]:
    """Rows of regions that share no spot, in their order; no other region could be added.

    Every round takes the regions that come before all others that they touch: from one corner on, which fills most of
    a lattice, or in an order that jumps where so many spots would take too many rounds.

    Args:
        members: (k, size) spots of each region, its centre first.
        xy_um: (n, 2) spot centres.
    """
    k, n_spots = len(members), len(xy_um)
    if k > _MOST_IN_ORDER:
        first_come = (np.arange(k) * 0.6180339887498949) % 1
    else:
        first_come = np.linalg.norm(xy_um[members[:, 0]] - xy_um.min(axis=0), axis=1)
    rank = np.argsort(np.argsort(first_come, kind="stable"))
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
    composition: Float32,
    depth: Float32,
    pooled: Floats,
    members: npt.NDArray[np.intp],
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
    matrix = region_matrix(members, len(composition), np.maximum(weight, 1e-9)).astype(np.float32)
    part = np.empty((len(members), composition.shape[1]), np.float32)
    for genes in gene_blocks(composition.shape[1]):
        part[:, genes] = matrix @ np.exp(composition[:, genes])
    part *= pooled.astype(np.float32)
    return np.maximum(part, np.float32(1e-30))


def held_out_regions(
    composition: Float32,
    depth: Float32,
    pooled: Floats,
    counts: PanelCounts,
    xy_um: Floats,
    *,
    fitted: npt.NDArray[np.bool_] | None = None,
    offset_share: float = 1.0,
    unit: str = "",
    sizes: Sequence[int] = SIZES,
) -> HeldOutRegions:
    """Regions of a section with what was predicted of them, apart from one another.

    Args:
        composition: (n, G) predicted without the counts.
        depth: (n,) predicted.
        pooled: (G,) shares that composition is against.
        counts: measured.
        xy_um: (n, 2) spot centres.
        fitted: (G,) genes that the model's sections measured; None: all.
        offset_share: what is kept of a gene's mean error over the section, see `intervals.offset_share`.
        unit: what the section is a sample of.
        sizes: spots of a region.
    """
    by_size = {}
    filled = np.flatnonzero(spot_totals(counts.counts) > 0)  # an empty spot tells nothing
    genes = counts.measured if fitted is None else counts.measured & fitted
    for size in sizes:
        if len(filled) < size or not genes.any():
            continue
        near = neighbourhoods(xy_um[filled], size)
        rows = apart(near, xy_um[filled])
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_REGIONS)).astype(int)]
        members = filled[near[rows]]
        seen = (region_matrix(members, len(xy_um)).astype(np.float32) @ counts.counts).toarray()
        expected = _parts(composition, depth, pooled, members)
        seen[:, ~counts.measured] = 0
        expected[:, ~counts.measured] = 0
        expected *= seen.sum(axis=1, keepdims=True) / expected.sum(axis=1, keepdims=True)
        if offset_share != 1:
            error = np.log((seen.sum(axis=0) + 1) / (expected.sum(axis=0) + 1))
            expected *= np.exp((1 - offset_share) * error)
        by_size[size] = Regions(seen, expected, genes)
    return HeldOutRegions(by_size, unit)


# ----------------------------------------------------------------------------------------------- fit


def calibrate_regions(
    sections: Sequence[HeldOutRegions],
    sizes: Sequence[int] = SIZES,
    levels: Sequence[float] = LEVELS,
    *,
    seed: int = 0,
) -> RegionIntervals | None:
    """Intervals from held-out training sections; None where no size has 8 regions.

    Args:
        sections: at least one.
        sizes: spots of a region.
        levels: nominal coverages.
        seed: of the ranks of ties and of the counts that are looked at.

    Raises:
        HESpotExError: a level outside (0, 1).
    """
    if not levels or not all(0 < level < 1 for level in levels):
        raise HESpotExError(f"expected levels between 0 and 1, found {tuple(levels)}")
    n_genes = next((len(r.genes) for s in sections for r in s.by_size.values()), 0)
    sd = np.full((len(sizes), n_genes), np.nan, np.float32)
    factor = np.full((len(sizes), len(levels)), np.nan, np.float32)
    n_units = np.zeros(len(sizes), np.int64)
    for row, size in enumerate(sizes):
        units: dict[str, list[Regions]] = {}
        for number, section in enumerate(sections):
            if size in section.by_size:
                name = section.unit or f"section {number}"
                units.setdefault(name, []).append(section.by_size[size])
        held = list(units.values())
        if sum(len(r.counts) for unit in held for r in unit) < _LEAST_REGIONS:
            continue
        moments = np.stack([_moments(unit) for unit in held])
        sd[row] = _deviation(moments.sum(axis=0))
        factor[row] = _factors(held, moments, levels, np.random.default_rng([seed, size]))
        n_units[row] = len(held)
    if not n_units.any():
        return None
    return RegionIntervals(tuple(sizes), tuple(levels), sd, factor, n_units)


def _moments(unit: Sequence[Regions]) -> Floats:
    """(4, G) sums over a unit's regions: squared error beyond noise, its base, squared uncertainty, expected counts.

    E[(c - m)^2 - c] = V m^2 for c Poisson around m times a factor whose mean squared distance from 1 is V; regions
    weigh by how well they tell V.
    """
    total = np.zeros((4, len(unit[0].genes)))
    for regions in unit:
        for genes in gene_blocks(len(regions.genes)):
            c, m = (t[:, genes].astype(np.float64) for t in (regions.counts, regions.expected))
            weight = 1 / np.square(1 + _USUAL_VARIANCE * m)
            noise = 2 * np.square(m + _USUAL_VARIANCE * m**2) + m
            sums = (weight * (np.square(c - m) - c), weight * m**2, weight**2 * noise, m)
            total[:, genes] += regions.genes[genes] * np.stack([s.sum(axis=0) for s in sums])
    return total


def _deviation(moments: Floats) -> Floats:
    """(G,) deviation of the log error, each gene's variance drawn to that of equally abundant genes.

    Weights between a gene and its group are those of DerSimonian and Laird (1986, doi 10.1016/0197-2456(86)90046-2);
    NaN where a gene was measured nowhere.
    """
    beyond, base, noise, expected = moments
    deviation = np.full(len(base), np.nan)
    known = np.flatnonzero(base > 0)
    if not len(known):
        return deviation
    order = known[np.argsort(expected[known], kind="stable")]
    n_groups = int(np.clip(len(known) // _GENES_OF_GROUP, 1, _GENE_GROUPS))
    for genes in np.array_split(order, n_groups):
        variance = beyond[genes] / base[genes]
        uncertain = noise[genes] / np.square(base[genes])
        weight = 1 / uncertain
        mean = float((weight * variance).sum() / weight.sum())
        spread = weight.sum() - np.square(weight).sum() / weight.sum()
        q = float((weight * np.square(variance - mean)).sum())
        between = max(0.0, (q - (len(genes) - 1)) / spread) if spread > 0 else 0.0
        drawn = (variance * between + mean * uncertain) / (between + uncertain)
        deviation[genes] = np.sqrt(np.log1p(np.maximum(drawn, _LEAST_VARIANCE)))
    return deviation


def _factors(
    units: Sequence[Sequence[Regions]],
    moments: Floats,
    levels: Sequence[float],
    rng: np.random.Generator,
) -> Floats:
    """(L,) factors with which the deviations of the other units hold the stated shares of a left-out unit's counts.

    A count weighs by the part of its variance that is an error of the expectation: where noise is all, every factor
    holds the same. Units weigh alike.
    """
    held = np.zeros((len(levels), len(_FACTORS)))
    tail = (1 - np.asarray(levels)) / 2
    for number, unit in enumerate(units):
        others = moments.sum(axis=0) - moments[number] if len(units) > 1 else moments[0]
        c, m, sd, rank = _sample(unit, _deviation(others), rng)
        if not len(c):
            continue
        weight = np.square(sd) / (np.square(sd) + 1 / m)
        held += _inside(c, m, _FACTORS[:, None] * sd, rank, tail) @ (weight / weight.sum())
    held = np.maximum.accumulate(held / len(units), axis=1)
    log_factor = np.log(_FACTORS)
    found = [np.interp(level, row, log_factor) for level, row in zip(levels, held, strict=True)]
    return np.exp(found)


def _sample(
    regions: Sequence[Regions], sd: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """Counts, what was expected, deviation of their genes and a rank among ties, of so many entries at most."""
    parts = []
    for table in regions:
        genes = np.flatnonzero(table.genes & np.isfinite(sd))
        total = len(table.counts) * len(genes)
        n = min(total, _ENTRIES // len(regions))
        at = rng.choice(total, n, replace=False) if n < total else np.arange(total)
        row, column = np.divmod(at, max(len(genes), 1))
        column = genes[column]
        parts.append(np.stack([table.counts[row, column], table.expected[row, column], sd[column]]))
    c, m, deviation = np.concatenate(parts, axis=1).astype(np.float64)
    return c, np.maximum(m, 1e-12), deviation, rng.random(len(c))


def _inside(c: Floats, m: Floats, sd: Floats, rank: Floats, tail: Floats) -> npt.NDArray[np.bool_]:
    """(L, F, M) whether a count lies between the tails of its distribution; sd is (F, M), all else (M,), tails (L,)."""
    below = np.where(c >= 1, mixed_poisson_cdf(np.maximum(c - 1, 0), m, sd), 0.0)
    # Uniform over [0, 1] if the distribution is right: ties have a rank.
    place = below + rank * np.maximum(mixed_poisson_cdf(c, m, sd) - below, 0)
    return np.asarray(np.minimum(place, 1 - place) >= tail[:, None, None])


# ------------------------------------------------------------------------------------------ coverage


def region_coverage(
    intervals: RegionIntervals, section: HeldOutRegions, *, seed: int = 0
) -> Floats:
    """(S, L) share of measured counts inside the interval convolved with Poisson noise, over genes and regions.

    Ties of counts are ranked at random. NaN where the section has no region of the size or nothing was calibrated.

    Args:
        intervals: calibrated on other sections.
        section: one that nobody calibrated on.
        seed: of the ranks, and of the counts that are looked at.
    """
    share = np.full((len(intervals.sizes), len(intervals.levels)), np.nan)
    tail = (1 - np.asarray(intervals.levels)) / 2
    for row, size in enumerate(intervals.sizes):
        if size not in section.by_size:
            continue
        rng = np.random.default_rng([seed, size])
        c, m, sd, rank = _sample([section.by_size[size]], intervals.sd[row].astype(float), rng)
        if len(c):
            own = intervals.factor[row].astype(float)[:, None] * sd
            share[row] = _inside(c, m, own, rank, tail).mean(axis=2).diagonal()
    return share
