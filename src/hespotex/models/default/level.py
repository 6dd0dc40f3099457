"""The level of a slide: how far its composition and depth as a whole lie from the training mean.

Features are standardised inside every slide, so the rest of the model cannot see it. Here a slide is its look (`looks.py`):
how far its raw features spread over spots and how skewed they are. Per gene, over the P training patients,

    y = log share (or log depth) less the training mean,   y ~ N(0, s^2 (h K + (1 - h) I)),   K the looks' linear kernel

h is the share of the variance between patients that looks explain. Every h of a grid has its marginal likelihood, and a
prior that gives half to h = 0; the prediction is the posterior mean. A gene without a signal shrinks to the mean by itself.
The level as a whole is kept where permuting patients against slides seldom gives as large a likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.genes.panel import spot_totals
from hespotex.models.default.looks import directions_of, shape_of, tissue_moves
from hespotex.models.preprocessing import FeatureStats
from hespotex.models.types import TrainingSection

Float64 = npt.NDArray[np.float64]

CANNOT_TELL: Final = "this model cannot tell slides apart"
SHARES: Final = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
_PRIOR: Final = np.log([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
# With three patients the six ways to deal them are too few to reach one in twenty.
FEWEST_PATIENTS: Final = 4
_PERMUTATIONS: Final = 199
_P_VALUE: Final = 0.05
_TESTED_GENES: Final = 2048
_COLUMNS: Final = 4096
_TINY: Final = 1e-6


@dataclass(frozen=True)
class LevelFit:
    """Levels by look, for patients in the rows of a table.

    Attributes:
        centre: (K,) mean look of the patients.
        basis: (P - 1, P) orthonormal, mean 0 in rows.
        variance: (P - 1,) of the looks along it, mean 1.
        looks: (P - 1, K) of the same, as looks are read.
    """

    centre: Float64
    basis: Float64
    variance: Float64
    looks: Float64

    @classmethod
    def of(cls, looks: Float64) -> LevelFit:
        """From (P, K) one look a patient."""
        centre = looks.mean(axis=0)
        u, s, v = np.linalg.svd(looks - centre, full_matrices=False)
        kept = s > _TINY * max(float(s[0]), 1e-300)
        u, s, v = u[:, kept], s[kept], v[kept]
        # Directions of the patients in which looks do not differ carry noise alone.
        rest = _complement(u)
        variance = np.concatenate([s**2, np.zeros(rest.shape[1])])
        scale = float(variance.mean()) or 1.0
        by_look = np.zeros((len(variance), looks.shape[1]))
        by_look[: len(s)] = s[:, None] * v
        return cls(centre, np.concatenate([u, rest], axis=1).T, variance / scale, by_look / scale)

    def weights(self, scores: Float64) -> Float64:
        """(H, G) posterior of every share in `SHARES`, from (P - 1, G) values along the basis."""
        log = self.log_likelihood(scores) + _PRIOR[:, None]
        log -= log.max(axis=0)
        weight = np.exp(log)
        return np.asarray(weight / weight.sum(axis=0))

    def log_likelihood(self, scores: Float64) -> Float64:
        """(H, G) with the best variance of each gene; a gene that does not vary says nothing."""
        spread = self._spread()
        left = (1 / spread) @ np.square(scores)
        constant = np.log(spread).sum(axis=1)[:, None]
        found = -0.5 * (constant + len(self.variance) * np.log(np.maximum(left, 1e-300)))
        return np.asarray(np.where(left > 1e-20, found, 0.0))

    def evidence(self, scores: Float64) -> Float64:
        """(G,) log of how much likelier the looks make the values of each gene."""
        log = self.log_likelihood(scores)
        gain = log - log[0] + _PRIOR[:, None]
        top = gain.max(axis=0)
        return np.asarray(top + np.log(np.exp(gain - top).sum(axis=0)))

    def coefficients(self, scores: Float64) -> Float64:
        """(K, G): the level of a look x is (x - centre) @ coefficients."""
        weight, factor = self.weights(scores), SHARES[:, None] / self._spread()
        shrunk = (factor.T @ weight) * scores
        return np.asarray(self.looks.T @ shrunk)

    def level(self, look: Float64, scores: Float64) -> Float64:
        """(G,) level of one look, without the table of coefficients: for many fits."""
        along = self.looks @ (look - self.centre)
        by_share = (along * SHARES[:, None] / self._spread()) @ scores
        return np.asarray((self.weights(scores) * by_share).sum(axis=0))

    def _spread(self) -> Float64:
        return np.asarray(SHARES[:, None] * self.variance + 1 - SHARES[:, None])


@dataclass(frozen=True)
class SlideLevel:
    """The part of a default model that says where a slide lies as a whole.

    Attributes:
        usual: (S, D) usual deviation of a feature inside a training slide; 0 for one that is never looked at.
        centre: (2 x S x D,) mean shape of the training patients.
        directions: (K, 2 x S x D) a shape less the centre, times these, is a look.
        coefficients: (K, G + 1) log share of each gene, and log depth, by look; all 0 where slides cannot be told apart.
        looks: (n, K) of the training slides.
    """

    usual: npt.NDArray[np.float32]
    centre: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    coefficients: npt.NDArray[np.float32]
    looks: npt.NDArray[np.float32]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        return {f"level.{name}": value for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> SlideLevel | None:
        """The level of a stored model; None in a model of before it had one."""
        if "level.coefficients" not in tensors:
            return None
        names = ("usual", "centre", "directions", "coefficients", "looks")
        return cls(*(np.asarray(tensors[f"level.{name}"]) for name in names))

    @property
    def tells(self) -> bool:
        """Whether slides can be told apart at all."""
        return bool(np.any(self.coefficients))

    def look(self, stats: FeatureStats) -> Float64:
        """(K,) where a slide lies among the training slides."""
        shape = shape_of(stats, self.usual) - self.centre
        return np.asarray(self.directions.astype(np.float64) @ shape)

    def __call__(self, stats: FeatureStats) -> tuple[npt.NDArray[np.float32], float]:
        """(G,) deviation of the log shares of a slide, and that of its mean log depth."""
        level = self.look(stats) @ self.coefficients
        return level[:-1].astype(np.float32), float(level[-1])


def fit_level(
    sections: Sequence[TrainingSection],
    stats: Sequence[FeatureStats],
    inputs: Sequence[npt.NDArray[np.float32]],
    *,
    seed: int,
) -> tuple[SlideLevel, dict[str, Any]]:
    """Fit the level on training slides; and what `FittedModel.hyper` keeps of it.

    Args:
        stats: of the features of each section.
        inputs: (n_i, K) of each section, as the networks read its spots.
        seed: of the permutations.
    """
    usual = np.sqrt(np.mean([np.square(s.std, dtype=np.float64) for s in stats], axis=0))
    shapes = np.stack([shape_of(s, usual) for s in stats])
    values = slide_values(sections)
    owners = patient_names([s.patient_id for s in sections], [s.section_id for s in sections])
    (names, of_patients), (_, y) = by_patient(shapes, owners), by_patient(values, owners)
    centre = of_patients.mean(axis=0)
    enough = len(names) >= FEWEST_PATIENTS
    slides = zip(sections, stats, inputs, strict=True) if enough else ()
    moves = [tissue_moves(section.features, own, z) for section, own, z in slides]
    directions = directions_of(of_patients - centre, moves)
    looks = (shapes - centre) @ directions.T
    coefficients, p = np.zeros((looks.shape[1], values.shape[1])), 1.0
    if enough:
        fit, y = LevelFit.of(by_patient(looks, owners)[1]), y - y.mean(axis=0)
        p = _p_value(fit, y, seed)
        if p <= _P_VALUE:
            coefficients = fit.coefficients(fit.basis @ y)
    arrays = (usual, centre, directions, coefficients, looks)
    level = SlideLevel(*(np.asarray(a, np.float32) for a in arrays))
    told = bool(np.any(coefficients))
    between, inside = _deviations(values[:, :-1], owners)
    record = {
        "tells_slides_apart": told, "patients": len(names), "p_value": p,
        "deviation": float(np.std(looks @ coefficients[:, :-1])) if told else 0.0,
        "between_patients": between, "between_sections": inside,
    }  # fmt: skip
    return level, {"level": record}


def slide_values(sections: Sequence[TrainingSection]) -> Float64:
    """(n, G + 1) log share of every gene over the panel, less the mean over the sections that measured it, and mean log depth.

    A gene that a section did not measure lies at that mean.
    """
    shares = np.stack([log_shares(np.asarray(s.counts.sum(axis=0)).ravel()) for s in sections])
    measured = np.stack([s.measured for s in sections])
    shares[~measured] = np.nan
    n = measured.sum(axis=0)
    mean = np.where(measured, shares, 0).sum(axis=0) / np.maximum(n, 1)
    shares = np.where(measured, shares - mean, 0.0)
    depth = np.array([np.log1p(spot_totals(s.counts)).mean() for s in sections])
    return np.column_stack([shares, depth])


def log_shares(totals: npt.ArrayLike) -> Float64:
    """(..., G) counts of slides -> log shares, half a count added to every gene."""
    filled = np.asarray(totals, np.float64) + 0.5
    return np.asarray(np.log(filled / filled.sum(axis=-1, keepdims=True)))


def patient_names(patients: Sequence[str], sections: Sequence[str]) -> list[str]:
    """Whose each slide is; one of nobody known is taken for a patient of its own."""
    return [p.strip() or f" {s}" for p, s in zip(patients, sections, strict=True)]


def by_patient(values: Float64, owners: Sequence[str]) -> tuple[list[str], Float64]:
    """Patients as they come, and (P, ...) means over the slides of each."""
    names = list(dict.fromkeys(owners))
    of = np.array([names.index(o) for o in owners])
    return names, np.stack([values[of == k].mean(axis=0) for k in range(len(names))])


def level_words(hyper: Mapping[str, Any]) -> str:
    """What a model says of its level, in a sentence; empty for a model that has none."""
    found = hyper.get("level")
    if not found:
        return ""
    n = found["patients"]
    whose = f"{n} training patient{'s' if n != 1 else ''}"
    if not found["tells_slides_apart"]:
        why = (
            f"{whose}, at least {FEWEST_PATIENTS} are needed"
            if n < FEWEST_PATIENTS
            else f"{whose}, whose slides do not show their level (p = {found['p_value']:.2g})"
        )
        return f"{CANNOT_TELL}: every slide's level is the training mean ({why})"
    return (
        f"the model says how far a slide as a whole lies from the training mean: {found['deviation']:.2f} in natural "
        f"log, usual deviation over genes and training slides ({whose}, p = {found['p_value']:.2g})"
    )


def _deviations(values: Float64, owners: Sequence[str]) -> tuple[float | None, float | None]:
    """Median over genes of the standard deviation between patients and between slides of one; None where there is no second."""
    names, means = by_patient(values, owners)
    place = [names.index(o) for o in owners]
    own, free = values - means[place], len(values) - len(names)
    inside = np.square(own).sum(axis=0) / free if free else np.zeros(values.shape[1])
    slides = np.bincount(place)
    if len(names) < 2:
        return None, float(np.median(np.sqrt(inside))) if free else None
    between = np.maximum(means.var(axis=0, ddof=1) - inside * float(np.mean(1 / slides)), 0)
    return float(np.median(np.sqrt(between))), float(np.median(np.sqrt(inside))) if free else None


def _p_value(fit: LevelFit, y: Float64, seed: int) -> float:
    """How often patients permuted against their slides give as much evidence."""
    y = y[:, :: -(-y.shape[1] // _TESTED_GENES)]
    seen, rng = float(fit.evidence(fit.basis @ y).sum()), np.random.default_rng([seed, 17])
    orders = [rng.permutation(len(y)) for _ in range(_PERMUTATIONS)]
    dealt = dealt_together(y, orders)
    evidence = np.concatenate(
        [fit.evidence(fit.basis @ block).reshape(-1, y.shape[1]).sum(axis=1) for block in dealt]
    )
    # Equal sums differ in their last bits with the order of adding.
    as_large = int((evidence >= seen - 1e-9 * abs(seen)).sum())
    return (1 + as_large) / (1 + _PERMUTATIONS)


def dealt_together(values: Float64, orders: Sequence[npt.NDArray[np.intp]]) -> Iterator[Float64]:
    """(P, k x G) values with patients in other orders, k orders side by side: few calls on wide tables."""
    at_once = max(1, _COLUMNS // max(values.shape[1], 1))
    for at in range(0, len(orders), at_once):
        part = np.stack([values[order] for order in orders[at : at + at_once]], axis=1)
        yield part.reshape(len(values), -1)


def _complement(u: Float64) -> Float64:
    """(P, P - 1 - r) orthonormal, orthogonal to the columns of u and to the mean."""
    n = len(u)
    spanned = np.column_stack([np.full(n, n**-0.5), u])
    q, _ = np.linalg.qr(spanned, mode="complete")
    return np.asarray(q[:, spanned.shape[1] :])
