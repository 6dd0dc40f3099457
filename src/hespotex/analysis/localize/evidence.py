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
_ENOUGH: Final = 20
_AT_ONCE: Final = 8
# Of the spots that a map shows, about so many would be shown by chance.
MAP_FDR: Final = 0.10
STABLE: Final = 0.8
_LOWEST_Z: Final = 1.645


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
    """

    best: str
    p_value: float
    permuted: npt.NDArray[np.float64]
    maps: npt.NDArray[np.float16]


@dataclass(frozen=True)
class SpotMap:
    """A map against maps of permuted labels; N spots.

    Attributes:
        z: (N,) mean of the z of necessity and of sufficiency.
        z_permuted: (b, N) the same of each permutation's map.
        stability: (N,) part of fits and seeds in which both scores are above 0.
        threshold: of z; infinite where no threshold keeps the false ones few.
        shown: (N,) what passes threshold and stability.
    """

    z: Floats
    z_permuted: Floats
    stability: Floats
    threshold: float
    shown: npt.NDArray[np.bool_]


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
    seed: int = 0,
    advance: Advance = lambda _n: None,
) -> Null:
    """The whole procedure on permuted labels, all inputs on the same ones.

    The p-value is that of the highest AUROC over inputs against the highest of each permutation: looking at several
    inputs is paid for. Where 20 permutations reach what was seen, no more are made.

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
    reached = 0
    while len(highest) < permutations and reached < _ENOUGH:
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
        highest += found.max(axis=0).tolist()
        reached = sum(value >= observed[best] - 1e-12 for value in highest)
        advance(len(labels))
    done = len(highest)
    p = (1 + reached) / (1 + done) if reached < _ENOUGH else reached / done
    return Null(best, p, np.array(highest), np.concatenate(maps, axis=1))


def spot_map(seen: Sequence[Passed], null: Null, usable: npt.NDArray[np.bool_]) -> SpotMap:
    """Spots of the true labels' maps against those of permuted labels.

    The threshold is the lowest z from 1.645 on at which maps of permuted labels show, on average, at most a tenth of the
    spots that the true map shows.

    Args:
        seen: passes on the true labels, one a seed; the first makes the map, all of them its stability.
        null: whose best input these are passes of.
        usable: (N,) spots of which anything may be said.
    """
    true = np.stack([seen[0].loss[0], seen[0].alone[0]])
    chance = null.maps.astype(np.float32)
    centre, spread = chance.mean(axis=1), np.maximum(chance.std(axis=1), 1e-6)
    z = ((true - centre) / spread).mean(axis=0)
    z_permuted = ((chance - centre[:, None]) / spread[:, None]).mean(axis=0)
    stability = np.mean([p.votes[0] for p in seen], axis=0)
    steady = (stability >= STABLE) & usable
    threshold = _threshold(z[steady], z_permuted[:, usable])
    return SpotMap(z, z_permuted, stability, threshold, steady & (z >= threshold))


def _threshold(z: Floats, z_permuted: Floats) -> float:
    for at in np.arange(_LOWEST_Z, 12.0, 0.05):
        n = int((z >= at).sum())
        if n == 0:
            break
        if (z_permuted >= at).sum() / len(z_permuted) <= MAP_FDR * n:
            return float(at)
    return float("inf")
