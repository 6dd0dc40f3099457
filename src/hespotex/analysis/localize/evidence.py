"""What the labels could have done by chance: the whole procedure on permuted labels, and spots against its maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.analysis.localize.bags import Bags, permuted_labels
from hespotex.analysis.localize.nested import Passed, nested_pass
from hespotex.analysis.localize.reduce import Reduced
from hespotex.progress import Advance

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

PERMUTATIONS: Final = 199
LEVEL: Final = 0.05
# A null that is beaten so often is not looked at further (Besag and Clifford 1991): p is then this over the draws.
ENOUGH: Final = 20
_AT_ONCE: Final = 8
# Of the spots that a map shows, about so many would be shown by chance.
MAP_FDR: Final = 0.10
STABLE: Final = 0.8
_LOWEST_Z: Final = 1.645
_LEAST: Final = 1e-6  # spread
_MOST_Z: Final = 1_000.0
_BLOCK: Final = 16_384


@dataclass(frozen=True)
class Scores:
    """How well patients are told apart.

    Attributes:
        auroc: of patients left out; of more than two classes the mean of each against the rest.
        balanced: balanced accuracy.
        auroc_interval, balanced_interval: 95 %, patients drawn with replacement inside each class.
    """

    auroc: float
    balanced: float
    auroc_interval: tuple[float, float]
    balanced_interval: tuple[float, float]


@dataclass(frozen=True)
class Null:
    """What permuted labels do; b permutations.

    Attributes:
        best: the input with the highest AUROC on the true labels.
        p_value: of that AUROC.
        permuted: (b,) highest AUROC over inputs of each permutation.
        maps: (2, b, N) necessity and sufficiency of the best input's permuted fits, float16.
        steady: (b, N) whether both are above 0 in so many of a permutation's fits as a drawn spot needs.
    """

    best: str
    p_value: float
    permuted: npt.NDArray[np.float64]
    maps: npt.NDArray[np.float16]
    steady: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SpotMap:
    """A map against maps of permuted labels; N spots.

    Attributes:
        z: (N,) mean of the z of necessity and of sufficiency, each map against all others.
        z_permuted: (b, N) the same of each permutation's map, float16.
        stability: (N,) part of fits and seeds in which both scores are above 0.
        threshold: of z; infinite where no threshold keeps the false ones few.
        shown: (N,) what passes threshold and stability.
        usable: (N,) spots of which anything may be said.
    """

    z: Floats
    z_permuted: npt.NDArray[np.float16]
    stability: Floats
    threshold: float
    shown: npt.NDArray[np.bool_]
    usable: npt.NDArray[np.bool_]


def patient_margins(bags: Bags, margin: Floats) -> Floats:
    """(P, C) mean over the slides of each patient."""
    total = np.zeros((len(bags.patient_names), margin.shape[1]))
    np.add.at(total, bags.patients, margin)
    return np.asarray(total / np.bincount(bags.patients)[:, None], np.float32)


def patient_labels(bags: Bags, labels: Ints) -> Ints:
    """(P,) of (B,)."""
    out = np.empty(len(bags.patient_names), np.intp)
    out[bags.patients] = labels
    return out


def auroc(margin: npt.NDArray[np.floating], labels: Ints) -> float:
    """Mean over classes of the chance that a patient of the class stands above one of another; ties count half."""
    from scipy.stats import rankdata

    found = []
    classes = range(margin.shape[1]) if margin.shape[1] > 2 else (1,)
    for c in classes:
        own = labels == c
        n, rest = int(own.sum()), int((~own).sum())
        if n and rest:
            above = rankdata(margin[:, c])[own].sum() - n * (n + 1) / 2
            found.append(above / (n * rest))
    return float(np.mean(found)) if found else float("nan")


def balanced_accuracy(margin: npt.NDArray[np.floating], labels: Ints) -> float:
    """Mean over classes of the part of its patients whose highest class it is."""
    right = margin.argmax(axis=1) == labels
    return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))


def scores(margin: Floats, labels: Ints, *, replicates: int = 1_000, seed: int = 0) -> Scores:
    """AUROC and balanced accuracy of patients with intervals."""
    rng = np.random.default_rng([seed, 4])
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    drawn = []
    for _ in range(replicates):
        rows = np.concatenate([rng.choice(m, len(m)) for m in members])
        drawn.append(
            (auroc(margin[rows], labels[rows]), balanced_accuracy(margin[rows], labels[rows]))
        )
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    return Scores(
        auroc(margin, labels), balanced_accuracy(margin, labels),
        (float(low[0]), float(high[0])), (float(low[1]), float(high[1])),
    )  # fmt: skip


def run_null(
    inputs: dict[str, Reduced],
    seen: dict[str, Passed],
    near: sparse.csr_matrix,
    *,
    permutations: int = PERMUTATIONS,
    enough: int = ENOUGH,
    seed: int = 0,
    advance: Advance = lambda _n: None,
) -> Null:
    """The whole procedure on permuted labels, all inputs on the same ones.

    The p-value is that of the highest AUROC over inputs against the highest of each permutation: looking at several
    inputs is paid for. Where `enough` permutations reach what was seen, no more are made.

    Args:
        inputs: by name; all on the same folds.
        seen: of the true labels, by name.
    """
    first = next(iter(inputs.values()))
    bags = first.bags
    drawn = permuted_labels(bags, first.folds, permutations, seed=seed)
    true = patient_labels(bags, bags.labels)
    observed = {name: auroc(patient_margins(bags, seen[name].margin[0]), true) for name in inputs}
    best = max(observed, key=lambda name: observed[name])
    highest: list[float] = []
    maps: list[npt.NDArray[np.float16]] = []
    steady: list[npt.NDArray[np.bool_]] = []
    reached = 0
    while len(highest) < permutations and reached < enough:
        labels = drawn[len(highest) : len(highest) + _AT_ONCE]
        found = np.empty((len(inputs), len(labels)))
        for own, (name, reduced) in zip(found, inputs.items(), strict=True):
            passed = nested_pass(reduced, labels, near, seed=seed)
            own[:] = [
                auroc(patient_margins(bags, margin), patient_labels(bags, row))
                for row, margin in zip(labels, passed.margin, strict=True)
            ]
            if name == best:
                maps.append(np.stack([passed.loss, passed.alone]).astype(np.float16))
                steady.append(passed.votes >= STABLE)
        highest += found.max(axis=0).tolist()
        reached = sum(value >= observed[best] - 1e-12 for value in highest)
        advance(len(labels))
    done = len(highest)
    p = (1 + reached) / (1 + done) if reached < enough else reached / done
    return Null(best, p, np.array(highest), np.concatenate(maps, axis=1), np.concatenate(steady))


def spot_map(seen: Sequence[Passed], null: Null, usable: npt.NDArray[np.bool_]) -> SpotMap:
    """Spots of the true labels' maps against those of permuted labels.

    The threshold is the lowest z from 1.645 on at which maps of permuted labels show, on average, at most a tenth of the
    spots that the true map shows. Theirs have to be steady over fewer fits than its own, so that they rather show more.

    Args:
        seen: passes on the true labels, one a seed; the first makes the map, all of them its stability.
        null: whose best input these are passes of.
        usable: (N,) spots of which anything may be said.
    """
    n = len(usable)
    z, z_permuted = np.empty(n, np.float32), np.empty((null.maps.shape[1], n), np.float16)
    for start in range(0, n, _BLOCK):  # of spots: in full precision only so many at a time
        rows = slice(start, start + _BLOCK)
        found = [
            z_against_others(np.concatenate([true[:1, rows], chance[:, rows]]))
            for true, chance in zip((seen[0].loss, seen[0].alone), null.maps, strict=True)
        ]
        of_all = np.clip(np.mean(found, axis=0), -_MOST_Z, _MOST_Z)
        z[rows], z_permuted[:, rows] = of_all[0], of_all[1:]
    stability = np.mean([p.votes[0] for p in seen], axis=0)
    steady = (stability >= STABLE) & usable
    high = [
        row[usable & also & (row >= _LOWEST_Z)]
        for row, also in zip(z_permuted, null.steady, strict=True)
    ]
    threshold = _threshold(z[steady], np.concatenate(high), len(z_permuted))
    return SpotMap(z, z_permuted, stability, threshold, steady & (z >= threshold), usable)


def z_against_others(maps: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(1 + b, n) z of each map against the b others, the first of which is that of the true labels.

    Were a permuted map part of the mean and the spread that it is held against, its z would be too small. Each map stands
    against all others, so that without a signal the true map's z is one like any.
    """
    known = maps.astype(np.float64)
    known -= known.mean(axis=0)
    n, square = len(known), (known**2).sum(axis=0)
    # Without itself the others' mean is -x / (n - 1), and their squares about it sum to x^2 n / (n - 1) less.
    left = np.maximum(square - known**2 * n / (n - 1), 0) / (n - 1)
    return np.asarray(known * n / (n - 1) / np.maximum(np.sqrt(left), _LEAST))


def _threshold(z: Floats, z_permuted: npt.NDArray[np.float16], n_maps: int) -> float:
    true, chance = np.sort(z), np.sort(z_permuted)
    for at in np.arange(_LOWEST_Z, 12.0, 0.05):
        n = len(true) - int(np.searchsorted(true, at))
        if n == 0:
            break
        if (len(chance) - int(np.searchsorted(chance, np.float16(at)))) / n_maps <= MAP_FDR * n:
            return float(at)
    return float("inf")
