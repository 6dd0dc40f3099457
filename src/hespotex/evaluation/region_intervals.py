"""Intervals of composition for a spot and for a region of 4, 9 or 25 spots: fit and coverage.

The interval is one of the expectation, and reaches `half_width` to either side. The expectation is off by a log-normal
factor, with one deviation for each gene and size. The deviation comes from the counts of held-out training regions, less
what Poisson noise explains, and is drawn to that of equally abundant genes. One factor for each size and level makes the
interval conformal: with deviations of the other patients (sections), it holds the stated share of a left-out one's counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from hespotex.errors import HESpotExError
from hespotex.evaluation.count_intervals import mixed_poisson_cdf
from hespotex.evaluation.intervals import LEVELS
from hespotex.evaluation.regions import SIZES, HeldOutRegions, Regions
from hespotex.evaluation.scores import gene_blocks, spearman_per_gene

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

# Fewer regions over all sections, or units to leave out, calibrate nothing.
_LEAST_REGIONS, _LEAST_UNITS = 4, 2
# Variance of a usual error. Regions with more expected counts than 1 / this weigh hardly more: noise limits them no longer.
_USUAL_VARIANCE = 0.1
_LEAST_VARIANCE = 1e-4
_GENE_GROUPS, _GENES_OF_GROUP = 10, 20
_FACTORS = np.geomspace(0.25, 8, 21)
# So many counts of a unit and size are looked at for a factor, and of a section and size for coverage.
_TO_FIT, _TO_COVER = 8_000, 40_000


@dataclass(frozen=True)
class RegionErrors:
    """What the calibration needs of a held-out section, by size of region: no table of regions x genes.

    Attributes:
        n_regions: regions of that size.
        moments: (4, G) sums over the regions, see `_moments`.
        entries: (4, M) some of the counts: count, what was expected, place of the gene, how many counts it stands for.
        unit: as of `HeldOutRegions`.
    """

    n_regions: Mapping[int, int]
    moments: Mapping[int, Floats]
    entries: Mapping[int, Floats]
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
            raise HESpotExError(expected=f"one of the levels {self.levels}", found=level)
        column = self.levels.index(level)
        width = ndtri((1 + level) / 2) * self.factor[:, column, None] * self.sd
        return np.asarray(width, dtype=np.float32)


def region_errors(section: HeldOutRegions, *, seed: int = 0) -> RegionErrors:
    """A section as `calibrate_regions` takes it.

    Args:
        section: predicted by a model that was not fitted on it.
        seed: of which counts are looked at.
    """
    tables = section.by_size
    return RegionErrors(
        {size: len(regions.counts) for size, regions in tables.items()},
        {size: _moments(regions) for size, regions in tables.items()},
        {
            size: _telling_entries(regions, np.random.default_rng([seed, size]))
            for size, regions in tables.items()
        },
        section.unit,
    )


def calibrate_regions(
    sections: Sequence[RegionErrors],
    sizes: Sequence[int] = SIZES,
    levels: Sequence[float] = LEVELS,
    *,
    seed: int = 0,
) -> RegionIntervals | None:
    """Intervals from held-out training sections; None where no size has 4 regions in 2 units.

    Args:
        sections: of `region_errors`, at least one.
        seed: of the ranks of ties.

    Raises:
        HESpotExError: a level outside (0, 1).
    """
    if not levels or not all(0 < level < 1 for level in levels):
        raise HESpotExError(expected="levels between 0 and 1", found=tuple(levels))
    n_genes = next((m.shape[1] for s in sections for m in s.moments.values()), 0)
    sd = np.full((len(sizes), n_genes), np.nan, np.float32)
    factor = np.full((len(sizes), len(levels)), np.nan, np.float32)
    n_units = np.zeros(len(sizes), np.int64)
    for row, size in enumerate(sizes):
        units: dict[str, list[RegionErrors]] = {}
        for number, section in enumerate(sections):
            if size in section.moments:
                units.setdefault(section.unit or f"section {number}", []).append(section)
        held = list(units.values())
        n_regions = sum(section.n_regions[size] for unit in held for section in unit)
        if len(held) < _LEAST_UNITS or n_regions < _LEAST_REGIONS:
            continue
        moments = np.stack([np.sum([s.moments[size] for s in unit], axis=0) for unit in held])
        entries = [np.concatenate([s.entries[size] for s in unit], axis=1) for unit in held]
        sd[row] = _deviation(moments.sum(axis=0))
        factor[row] = _factors(entries, moments, levels, np.random.default_rng([seed, size]))
        n_units[row] = len(held)
    if not n_units.any():
        return None
    return RegionIntervals(tuple(sizes), tuple(levels), sd, factor, n_units)


def _moments(regions: Regions) -> Floats:
    """(4, G) sums over the regions: squared error beyond noise, its base, squared uncertainty, expected counts.

    E[(c - m)^2 - c] = V m^2 for c Poisson around m times a factor whose mean squared distance from 1 is V; regions
    weigh by how well they tell V.
    """
    total = np.zeros((4, len(regions.genes)))
    for genes in gene_blocks(len(regions.genes)):
        c, m = (t[:, genes].astype(np.float64) for t in (regions.counts, regions.expected))
        weight = 1 / np.square(1 + _USUAL_VARIANCE * m)
        noise = 2 * np.square(m + _USUAL_VARIANCE * m**2) + m
        sums = (weight * (np.square(c - m) - c), weight * m**2, weight**2 * noise, m)
        total[:, genes] = regions.genes[genes] * np.stack([s.sum(axis=0) for s in sums])
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
    units: Sequence[Floats], moments: Floats, levels: Sequence[float], rng: np.random.Generator
) -> Floats:
    """(L,) factors with which the deviations of the other units hold the stated shares of a left-out unit's counts.

    A count weighs by the part of its variance that is an error of the expectation. Where counting noise is all of the
    variance, every factor would hold the same share. Units weigh alike.

    Args:
        units: (4, M) entries of each.
        moments: (units, 4, G).
        levels: nominal coverages.
        rng: of the ranks of ties, and of the counts of a unit with more than are looked at.
    """
    shares = []
    tail = (1 - np.asarray(levels)) / 2
    for number, entries in enumerate(units):
        others = moments.sum(axis=0) - moments[number]
        few = rng.permutation(entries.shape[1])[:_TO_FIT]
        c, m, sd, rank, number_of = _known(entries[:, few], _deviation(others), rng)
        if len(c):
            weight = number_of * _telling(m, np.square(sd))
            inside = _inside(c, m, _FACTORS[:, None] * sd, rank, tail)
            shares.append(inside @ (weight / weight.sum()))
    if not shares:
        return np.full(len(levels), np.nan)
    held = np.maximum.accumulate(np.mean(shares, axis=0), axis=1)
    log_factor = np.log(_FACTORS)
    found = [np.interp(level, row, log_factor) for level, row in zip(levels, held, strict=True)]
    return np.exp(found)


def _telling(expected: Floats, variance: Floats | float) -> Floats:
    """Part of a count's variance that is an error of its expectation, not counting noise."""
    return np.asarray(variance * expected / (1 + variance * expected))


def _telling_entries(regions: Regions, rng: np.random.Generator) -> Floats:
    """(4, M) at most so many entries, drawn more often the more they tell of a usual error; those of rare genes hardly come up."""
    genes = np.flatnonzero(regions.genes)
    if len(regions.counts) * len(genes) <= _TO_FIT:
        return _entries(regions, _TO_FIT, rng)
    usual = _telling(regions.expected[:, genes].astype(np.float64).ravel(), _USUAL_VARIANCE)
    usual = np.maximum(usual, 1e-9)
    total = usual.sum()
    at = np.searchsorted(np.cumsum(usual), rng.random(_TO_FIT) * total)
    return _at(regions, genes, np.minimum(at, len(usual) - 1), total / _TO_FIT / usual)


def _entries(regions: Regions, most: int, rng: np.random.Generator) -> Floats:
    """(4, M) at most so many entries, all drawn equally often."""
    genes = np.flatnonzero(regions.genes)
    total = len(regions.counts) * len(genes)
    at = rng.choice(total, most, replace=False) if most < total else np.arange(total)
    return _at(regions, genes, at, np.ones(total))


def _at(
    regions: Regions, genes: npt.NDArray[np.intp], at: npt.NDArray[np.intp], number_of: Floats
) -> Floats:
    """(4, M) count, what was expected, place of the gene, how many it stands for, of these places of (k, genes)."""
    row, column = np.divmod(at, max(len(genes), 1))
    column = genes[column]
    found = regions.counts[row, column], regions.expected[row, column], column, number_of[at]
    return np.stack(found).astype(np.float64)


def _known(
    entries: Floats, sd: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Count, expectation, deviation of the gene, rank among ties, number it stands for, where a gene has a deviation."""
    of_entries = sd[entries[2].astype(np.intp)]
    known = np.isfinite(of_entries)
    c, m, _, number_of = entries[:, known]
    return c, np.maximum(m, 1e-12), of_entries[known], rng.random(len(c)), number_of


def _inside(c: Floats, m: Floats, sd: Floats, rank: Floats, tail: Floats) -> npt.NDArray[np.bool_]:
    """(L, F, M) whether a count lies between the tails of its distribution; sd is (F, M), all else (M,), tails (L,)."""
    place = _place(c, m, sd, rank)
    return np.asarray(np.minimum(place, 1 - place) >= tail[:, None, None])


def _place(c: Floats, m: Floats, sd: Floats, rank: Floats) -> Floats:
    """Where a count lies in its distribution, as `sd`: uniform over [0, 1] if that is right; ties have a rank."""
    below = np.where(c >= 1, mixed_poisson_cdf(np.maximum(c - 1, 0), m, sd), 0.0)
    return np.asarray(below + rank * np.maximum(mixed_poisson_cdf(c, m, sd) - below, 0))


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
        entries = _entries(section.by_size[size], _TO_COVER, rng)
        c, m, sd, rank, _ = _known(entries, intervals.sd[row].astype(float), rng)
        if len(c):
            own = intervals.factor[row].astype(float)[:, None] * sd
            share[row] = _inside(c, m, own, rank, tail).mean(axis=2).diagonal()
    return share


def spread_follows_error(
    intervals: RegionIntervals, section: HeldOutRegions, spread: Float32, *, seed: int = 0
) -> Floats:
    """(G,) Spearman correlation of the ensemble's spread with the error, over the spots of a section.

    The error is how far from the middle a spot's count lies in the distribution that one width for the gene and counting
    noise give it: above 0, the spread tells more than that width does. NaN where the gene has no interval or one value.

    Args:
        intervals: calibrated on other sections.
        section: as of `region_coverage`.
        spread: (n, G) of the section's prediction.
        seed: of the ranks of ties.
    """
    result = np.full(spread.shape[1], np.nan)
    if 1 not in section.by_size or 1 not in intervals.sizes:
        return result
    spots, row = section.by_size[1], intervals.sizes.index(1)
    sd = intervals.sd[row] * intervals.factor[row].mean()
    rng = np.random.default_rng(seed)
    of_spots = spread[spots.members[:, 0]]
    for genes in gene_blocks(len(result)):
        c, m = (t[:, genes].astype(np.float64) for t in (spots.counts, spots.expected))
        place = _place(
            c.ravel(),
            np.maximum(m, 1e-12).ravel(),
            np.broadcast_to(sd[genes].astype(np.float64), c.shape).ravel(),
            rng.random(c.size),
        ).reshape(c.shape)
        result[genes] = spearman_per_gene(of_spots[:, genes], np.abs(place - 0.5))
    result[~(spots.genes & np.isfinite(sd))] = np.nan
    return result
