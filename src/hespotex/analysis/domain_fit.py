"""One map from values to domains for all sections together: standardised in each, reduced, smoothed, clustered.

A domain means the same on every section since one clustering is fitted for all. Sections weigh alike in the fit, however many
spots each has; what a section is off as a whole (stain, scanner, fold) is taken out before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.analysis.domain_sources import Source
from hespotex.analysis.domain_space import smoothed_apart
from hespotex.errors import ConfigError

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Masks = Mapping[str, npt.NDArray[np.bool_]]

# No domain: a spot without values.
NONE: Final = -1
COMPONENTS: Final = 10
# Of the smoothing, in microns: with the components the best on MOB4 (docs/domains.md).
LENGTH_UM: Final = 70.0
MOST_DOMAINS: Final = 24
MOST_TRIED: Final = 10
# Spots that a fit rests on, and values that the reduction holds at once (160 MB).
_FITTED: Final = 20_000
_HELD: Final = 4 * 10**7
_PIECE: Final = 65_536
_STARTS: Final = 10
# Part of the spread inside sections that smoothing must leave.
_FLAT: Final = 1e-3
_NEIGHBOURS: Final = 15
# Stability: pairs of fits a number, part of the spots in each, and how far from the most stable number others may lie.
PAIRS: Final = 10
PART: Final = 0.8
NEAR: Final = 0.05


@dataclass(frozen=True)
class Reduced:
    """What is clustered.

    Attributes:
        scores: by section, (n, p) principal components, smoothed in space; NaN in a row without values.
        fitted: by section, rows that fits may use.
    """

    scores: Mapping[str, Float32]
    fitted: Mapping[str, npt.NDArray[np.intp]]

    def stacked(self) -> Float32:
        """(m, p) of the rows of all sections that fits may use."""
        return np.concatenate([self.scores[name][rows] for name, rows in self.fitted.items()])


def reduce_sources(
    sources: Mapping[str, Source],
    xy_um: Mapping[str, Floats],
    usable: Masks,
    *,
    length_um: float = LENGTH_UM,
    scale: bool = False,
    keep_levels: bool = False,
    seed: int = 0,
) -> Reduced:
    """Values of all sections as few numbers a spot; two passes over each source, blocks of spots in memory.

    Args:
        sources: by section.
        xy_um: (n, 2) by section.
        usable: by section, spots that shape the domains; the others only get one, and are smoothed into none of these.
        length_um: of the smoothing.
        scale: divide by the standard deviation, too, of values whose units say nothing.
        keep_levels: mean and deviation over all sections, not inside each.
        seed: of the spots that are drawn, and of the reduction.

    Raises:
        ConfigError: too few spots have values, or smoothing leaves one value a section.
    """
    rng = np.random.default_rng([seed, 31])
    most = _FITTED // len(sources)
    seen = {
        name: _first_pass(source, usable[name], _drawn(usable[name], most, rng))
        for name, source in sources.items()
    }
    scalings = _scalings({n: s.moments for n, s in seen.items() if s.moments.n}, scale, keep_levels)
    points = {n: scalings[n](s.drawn) for n, s in seen.items() if len(s.drawn)}
    pca = _fit_pca(points, seed)
    scores, fitted = {}, {}
    spread = np.zeros(2)
    for name, source in sources.items():
        found = np.full((len(usable[name]), pca.n_components_), np.nan, np.float32)
        for rows, values in source.blocks():
            ok = np.isfinite(values).all(axis=1)
            if ok.any():
                places = np.arange(rows.start, rows.stop)[ok]
                found[places] = pca.transform(scalings[name](values[ok]))
        scores[name] = smoothed_apart(found, xy_um[name], length_um, usable[name])
        known = np.isfinite(scores[name]).all(axis=1)
        fitted[name] = _drawn(usable[name] & known, most, rng)
        spread += [_spread(of[fitted[name]]) for of in (found, scores[name])]
    if length_um > 0 and spread[1] <= _FLAT * spread[0] and spread[0] > 0:
        raise ConfigError(
            expected="--smooth shorter than the sections", found=f"{length_um:g} um",
            remedy="spots of a section have all one value after it: give less",
        )  # fmt: skip
    return Reduced(scores, fitted)


def _spread(values: Float32) -> float:
    """Standard deviation over a section's spots, all components together."""
    return float(np.sqrt(values.var(axis=0, dtype=np.float64).sum())) if len(values) else 0.0


def _fit_pca(points: Mapping[str, Float32], seed: int) -> Any:
    from sklearn.decomposition import PCA

    width = next((v.shape[1] for v in points.values()), 1)
    most = max(_HELD // max(width, 1) // max(len(points), 1), 2)
    parts = [v[:: -(-len(v) // most)] for v in points.values()]
    stacked = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
    if len(stacked) < 2:
        raise ConfigError(
            expected="at least 2 spots with values in all sections together",
            found=len(stacked),
            remedy="give sections with more spots",
        )
    p = max(min(COMPONENTS, *(s - 1 for s in stacked.shape)), 1)
    return PCA(p, svd_solver="randomized", random_state=seed).fit(stacked)


def _drawn(
    mask: npt.NDArray[np.bool_], most: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    rows = np.flatnonzero(mask)
    return rows if len(rows) <= most else np.sort(rng.choice(rows, max(most, 1), replace=False))


@dataclass
class _Moments:
    """Sums over spots."""

    n: int = 0
    total: Any = 0.0
    square: Any = 0.0

    def add(self, values: Float32) -> None:
        self.n += len(values)
        self.total = self.total + values.sum(axis=0, dtype=np.float64)
        self.square = self.square + np.einsum("ij,ij->j", values, values, dtype=np.float64)


@dataclass(frozen=True)
class _Seen:
    moments: _Moments
    drawn: Float32


def _first_pass(
    source: Source, usable: npt.NDArray[np.bool_], taken: npt.NDArray[np.intp]
) -> _Seen:
    """Moments of the spots that shape domains (of all, where none does), and the values of the taken ones."""
    moments, kept = _Moments(), []
    counted = usable if usable.any() else np.ones(len(usable), bool)
    wanted = np.zeros(len(usable), bool)
    wanted[taken] = True
    for rows, values in source.blocks():
        ok = np.isfinite(values).all(axis=1)
        moments.add(values[ok & counted[rows]])
        kept.append(values[ok & wanted[rows]])
    return _Seen(moments, np.concatenate(kept))


@dataclass(frozen=True)
class _Scaling:
    """Takes a section's mean away, and divides by its spread."""

    mean: Float32
    spread: Float32

    def __call__(self, values: Float32) -> Float32:
        return (values - self.mean) / self.spread


def _scalings(
    moments: Mapping[str, _Moments], scale: bool, keep_levels: bool
) -> dict[str, _Scaling]:
    """Of every section that has values; one for all where levels are kept, sections alike."""
    means = {name: m.total / m.n for name, m in moments.items()}
    squares = {name: m.square / m.n for name, m in moments.items()}
    if keep_levels and means:
        mean, square = (np.mean(list(v.values()), axis=0) for v in (means, squares))
        means, squares = dict.fromkeys(means, mean), dict.fromkeys(squares, square)
    found = {}
    for name, mean in means.items():
        spread = np.sqrt(np.maximum(squares[name] - mean**2, 0.0))
        constant = spread <= 1e-5 * np.maximum(np.abs(mean), 1e-5)
        spread = np.where(constant, 1.0, spread) if scale else np.ones_like(mean)
        found[name] = _Scaling(mean.astype(np.float32), spread.astype(np.float32))
    return found


Assign = Callable[[Float32], Labels]


def fit_domains(points: Float32, k: int, seed: int) -> Assign:
    """K-means of k domains; what assigns points to them.

    Raises:
        ConfigError: there are fewer points than domains.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    check_enough(len(points), k)
    model = KMeans(k, n_init=_STARTS, random_state=seed)
    with warnings.catch_warnings():  # fewer distinct points than domains: some stay empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    return lambda values: np.asarray(model.predict(values), np.int32)


def check_enough(n: int, k: int) -> None:
    """Refuse fewer spots than domains."""
    if n < k:
        raise ConfigError(
            expected=f"at least as many spots that shape domains as domains ({k})",
            found=n,
            remedy="lower --n",
        )


def fit_leiden(points: Float32, resolution: float, seed: int) -> Assign:
    """Leiden communities of 15 nearest neighbours (scanpy, igraph); others join most of their neighbours.

    Raises:
        ConfigError: igraph is not installed, or communities are too many.
    """
    try:
        import igraph  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            expected="igraph for --resolution", found="none", remedy="pip install 'hespotex[domains]'"
        ) from error  # fmt: skip
    import scanpy as sc
    from anndata import AnnData
    from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph

    check_enough(len(points), 2)
    k = min(_NEIGHBOURS, len(points) - 1)
    near = kneighbors_graph(points, k)
    table = AnnData(points)
    sc.tl.leiden(
        table, resolution=resolution, adjacency=near.maximum(near.T), flavor="igraph", n_iterations=2,
        directed=False, random_state=seed,
    )  # fmt: skip
    found = table.obs["leiden"].astype(int).to_numpy()
    if found.max() >= MOST_DOMAINS:
        raise ConfigError(
            expected=f"at most {MOST_DOMAINS} domains", found=f"{found.max() + 1} at resolution {resolution:g}",
            remedy="lower --resolution",
        )  # fmt: skip
    nearest = KNeighborsClassifier(k).fit(points, found)
    return lambda values: np.asarray(nearest.predict(values), np.int32)


def assigned(reduced: Reduced, assign: Assign) -> dict[str, Labels]:
    """(n,) domain of every spot by section, the largest first; `NONE` where a spot has no values."""
    found = {}
    for name, scores in reduced.scores.items():
        labels, known = (
            np.full(len(scores), NONE, np.int32),
            np.flatnonzero(np.isfinite(scores).all(axis=1)),
        )
        for start in range(0, len(known), _PIECE):
            rows = known[start : start + _PIECE]
            labels[rows] = assign(scores[rows])
        found[name] = labels
    return by_size(found, reduced.fitted)[0]


def by_size(
    labels: Mapping[str, Labels], fitted: Mapping[str, npt.NDArray[np.intp]]
) -> tuple[dict[str, Labels], Labels]:
    """Domains numbered by their part of the spots that shaped them, each section alike; and (k,) the new numbers."""
    k = max((int(v.max(initial=NONE)) for v in labels.values()), default=NONE) + 1
    share, n = np.zeros(k), np.zeros(k)
    for name, rows in fitted.items():
        share += np.bincount(labels[name][rows], minlength=k) / max(len(rows), 1)
    for of in labels.values():
        n += np.bincount(of[of >= 0], minlength=k)
    order = np.lexsort((-n, -share))  # numbers without a spot come last
    place = np.empty(k, np.int32)
    place[order] = np.arange(k, dtype=np.int32)
    numbered = {
        name: np.where(of >= 0, place[np.maximum(of, 0)], NONE).astype(np.int32)
        for name, of in labels.items()
    }
    return numbered, place


@dataclass(frozen=True)
class Stability:
    """How alike two fits on parts of the spots are.

    Attributes:
        k: number of domains.
        ari: of every pair of fits.
    """

    k: int
    ari: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over pairs."""
        return float(np.mean(self.ari))


def stability(
    reduced: Reduced, ks: Sequence[int], seed: int, pairs: int = PAIRS
) -> list[Stability]:
    """For each k, ARI between two fits on parts of the spots, over all spots that shape domains.

    Parts are whole sections where there are four or more, 80 % of the spots of each else.
    """
    from sklearn.metrics import adjusted_rand_score

    points = reduced.stacked()
    of = np.repeat(np.arange(len(reduced.fitted)), [len(v) for v in reduced.fitted.values()])
    found = []
    for k in ks:
        scores = []
        for pair in range(pairs):
            rng = np.random.default_rng([seed, k, pair])
            assigns = [
                fit_domains(points[_part(of, rng)], k, seed + 2 * pair + side)(points)
                for side in (0, 1)
            ]
            scores.append(float(adjusted_rand_score(*assigns)))
        found.append(Stability(k, tuple(scores)))
    return found


def _part(of: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    sections = np.unique(of)
    if len(sections) >= 4:
        kept = rng.choice(sections, -(-len(sections) * 3 // 4), replace=False)
        return np.isin(of, kept)
    mask = rng.random(len(of)) < PART
    return mask if mask.any() else np.ones(len(of), bool)


def chosen(found: Sequence[Stability]) -> int:
    """The largest number whose mean ARI is within 0.05 of the most stable one's."""
    best = max(s.mean for s in found)
    return max(s.k for s in found if s.mean >= best - NEAR)


def fit_parts(
    parts: Sequence[Reduced], n: int | None, resolution: float | None, seed: int
) -> tuple[list[Assign], list[Stability]]:
    """One fit a part, all of one number of domains unless communities set it; and the numbers that were tried.

    Raises:
        ConfigError: a part has too few spots, or igraph is missing.
    """
    points = [part.stacked() for part in parts]
    if resolution is not None:
        return [fit_leiden(p, resolution, seed) for p in points], []
    if n is not None:
        return [fit_domains(p, n, seed) for p in points], []
    fewest = min(len(p) for p in points)
    if fewest < 8:
        raise ConfigError(
            expected="at least 8 spots to choose a number of domains by stability", found=fewest,
            remedy="give --n",
        )  # fmt: skip
    ks = range(2, min(MOST_TRIED, fewest // 4) + 1)
    each = [stability(part, ks, seed) for part in parts]
    tried = [
        Stability(same[0].k, tuple(ari for s in same for ari in s.ari))
        for same in zip(*each, strict=True)
    ]
    return [fit_domains(p, chosen(tried), seed) for p in points], tried
