"""The level of a slide: how far its composition and depth as a whole lie from the training mean.

Features are standardised inside every slide, so the rest of the model cannot see it. Here a slide is its look (`looks.py`):
where its mean spot lies along the inputs of the model. What a step along an input means for a gene is learned inside
training slides, from thousands of spots; how far slides follow it is learned between the P training patients. Per gene,

    y = b (look @ slope) + noise,   b ~ N(B, T^2) between 0 and 1,   y = log share (or log depth) less the training mean

B and T are estimated over all genes (empirical Bayes; moments of DerSimonian and Laird 1986). Where levels do not follow, B
and b are 0 by themselves. The level as a whole is kept where permuting patients against slides seldom follows as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.genes.panel import spot_totals
from hespotex.genes.parts import measured_parts
from hespotex.models.default.looks import directions_of, place_of, within
from hespotex.models.preprocessing import FeatureStats, InputProjection
from hespotex.models.types import TrainingSection

Float64 = npt.NDArray[np.float64]

CANNOT_TELL: Final = "this model cannot tell slides apart"
# With three patients the six ways to deal them are too few to reach one in twenty.
FEWEST_PATIENTS: Final = 4
_PERMUTATIONS: Final = 999
P_VALUE: Final = 0.05
# A gene of this many counts over all training spots keeps half of its slope.
_FEW_COUNTS: Final = 100.0
# Part of the spots' number that is added to the inputs' own squares: two inputs that agree share a slope.
_RIDGE: Final = 0.02
_TINY: Final = 1e-12


@dataclass(frozen=True)
class SlideLevel:
    """The part of a default model that says where a slide lies as a whole.

    Attributes:
        centre: (S, D) mean feature of the training patients.
        usual: (S, D) usual deviation of a feature inside a training slide; 0 for one that is never looked at.
        directions: (K, S x D) a place (`looks.place_of`), times these, is a look.
        farthest: () distance of the farthest training slide.
        slopes: (K, G + 1) what a step along a look means for the log share of each gene, and for log depth, inside slides.
        follows: (G + 1,) share of the slope that slides follow; all 0 where they cannot be told apart.
        looks: (n, K) of the training slides.
    """

    centre: npt.NDArray[np.float32]
    usual: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    farthest: npt.NDArray[np.float32]
    slopes: npt.NDArray[np.float32]
    follows: npt.NDArray[np.float32]
    looks: npt.NDArray[np.float32]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        return {f"level.{name}": value for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> SlideLevel | None:
        """The level of a stored model; None in a model of before it had one."""
        if "level.follows" not in tensors:
            return None
        names = ("centre", "usual", "directions", "farthest", "slopes", "follows", "looks")
        return cls(*(np.asarray(tensors[f"level.{name}"]) for name in names))

    @property
    def tells(self) -> bool:
        """Whether slides can be told apart at all."""
        return bool(np.any(self.follows))

    def look(self, stats: FeatureStats) -> Float64:
        """(K,) where a slide lies among the training slides, and no further away than they are."""
        place = place_of(stats, self.centre, self.usual)
        return within(self.directions.astype(np.float64) @ place, float(self.farthest))

    def __call__(self, stats: FeatureStats) -> tuple[npt.NDArray[np.float32], float]:
        """(G,) deviation of the log shares of a slide, and that of its mean log depth."""
        level = (self.look(stats) @ self.slopes) * self.follows
        return level[:-1].astype(np.float32), float(level[-1])


def fit_level(
    sections: Sequence[TrainingSection],
    stats: Sequence[FeatureStats],
    projection: InputProjection,
    inputs: Sequence[npt.NDArray[np.float32]],
    *,
    seed: int,
) -> tuple[SlideLevel, dict[str, Any]]:
    """Fit the level on training slides; and what `FittedModel.hyper` keeps of it.

    Args:
        stats: of the features of each section.
        projection: of the model, from features to inputs.
        inputs: (n_i, K) of each section, as the networks read its spots.
        seed: of the permutations.
    """
    usual = np.sqrt(np.mean([np.square(s.std, dtype=np.float64) for s in stats], axis=0))
    owners = patient_names([s.patient_id for s in sections], [s.section_id for s in sections])
    names, means = by_patient(np.stack([s.mean.astype(np.float64) for s in stats]), owners)
    centre = means.mean(axis=0)
    places = np.stack([place_of(s, centre, usual) for s in stats])
    directions = directions_of(by_patient(places, owners)[1], projection)
    looks = places @ directions.T
    values = slide_values(sections)
    slopes, follows, p = np.zeros((looks.shape[1], values.shape[1])), np.zeros(values.shape[1]), 1.0
    if len(names) >= FEWEST_PATIENTS:
        slopes = slopes_inside(sections, [z[:, : looks.shape[1]] for z in inputs])
        (_, told), (_, y) = by_patient(looks @ slopes, owners), by_patient(values, owners)
        y = y - y.mean(axis=0)
        p = dealt_p_value(told, y, seed)
        if p <= P_VALUE:
            told = told - told.mean(axis=0)
            follows = Following.of(told, y).share(told, y)
    farthest = np.linalg.norm(looks, axis=1).max(initial=0.0)
    arrays = (centre, usual, directions, farthest, slopes, follows, looks)
    level = SlideLevel(*(np.asarray(a, np.float32) for a in arrays))
    between, inside = _deviations(values[:, :-1], owners)
    record = {
        "tells_slides_apart": level.tells, "patients": len(names), "p_value": p,
        "deviation": float(np.std((looks @ slopes * follows)[:, :-1])) if level.tells else 0.0,
        "between_patients": between, "between_sections": inside,
    }  # fmt: skip
    return level, {"level": record}


def slopes_inside(
    sections: Sequence[TrainingSection], inputs: Sequence[npt.NDArray[np.floating[Any]]]
) -> Float64:
    """(K, G + 1) change of a gene's log share, and of log depth, per step along an input, from spots of one slide at a time.

    Counts are compared with what each spot would have at the slide's own shares: one step of Poisson regression. A
    slide that did not measure a gene says nothing of it.

    Args:
        inputs: (n_i, K) of each section.
    """
    k, n_genes = inputs[0].shape[1], sections[0].counts.shape[1]
    square, moved, depth = np.zeros((k, k)), np.zeros((k, n_genes)), np.zeros(k)
    totals, n = np.zeros(n_genes), 0
    for section, own in zip(sections, inputs, strict=True):
        z = own.astype(np.float64) - own.mean(axis=0, dtype=np.float64)
        of_spot, of_gene = spot_totals(section.counts), _totals(section)
        share = of_gene / max(of_gene.sum(), 1.0)
        moved += np.asarray(section.counts.T @ z).T - np.outer(z.T @ of_spot, share)
        depth += z.T @ np.log1p(of_spot)
        square, totals, n = square + z.T @ z, totals + of_gene, n + len(z)
    square += _RIDGE * n * np.eye(k)
    solved = np.linalg.solve(square, np.column_stack([n * moved / (totals + _FEW_COUNTS), depth]))
    return np.asarray(solved)


@dataclass(frozen=True)
class Following:
    """How far the genes of a table follow their slopes between patients: mean, 0 to 1, and variance of the share over genes."""

    mean: float
    variance: float

    @classmethod
    def of(cls, told: Float64, y: Float64) -> Following:
        """From (P, G) levels by the slopes and (P, G) measured ones, both of mean 0 over patients."""
        own, weight = _own_share(told, y)
        mean = float((weight * own).sum() / max(weight.sum(), _TINY))
        excess = (weight * np.square(own - mean)).sum() - (weight > 0).sum() + 1
        room = weight.sum() - np.square(weight).sum() / max(weight.sum(), _TINY)
        variance = max(float(excess / room), 0.0) if room > _TINY else 0.0
        weight = weight / (1 + weight * variance)
        mean = float((weight * own).sum() / max(weight.sum(), _TINY))
        return cls(min(max(mean, 0.0), 1.0), variance)

    def share(self, told: Float64, y: Float64) -> Float64:
        """(..., G) share that each gene follows, 0 to 1; of (P, ..., G) measured levels."""
        own, weight = _own_share(told, y)
        kept = weight * self.variance / (1 + weight * self.variance)
        return np.asarray(np.clip(kept * own + (1 - kept) * self.mean, 0.0, 1.0))


def _own_share(told: Float64, y: Float64) -> tuple[Float64, Float64]:
    """(..., G) least squares of each gene by itself, and its precision."""
    size = np.square(told).sum(axis=0)
    along, total = np.einsum("pg,p...g->...g", told, y), np.square(y).sum(axis=0)
    own = np.divide(along, size, out=np.zeros_like(along), where=size > _TINY)
    noise = np.maximum(total - own * along, _TINY * total) / max(len(y) - 2, 1)
    seen = (noise > 0) & (size > _TINY)
    return own, np.divide(size, noise, out=np.zeros_like(along), where=seen)


def slide_values(sections: Sequence[TrainingSection]) -> Float64:
    """(n, G + 1) log share of every gene over the panel, less the mean over the sections that measured it, and mean log depth.

    A gene that a section did not measure lies at that mean. Shares and depth of a section that measured a part of the panel are
    brought to the unit of the whole.
    """
    totals = np.stack([_totals(s) for s in sections])
    measured = np.stack([s.measured for s in sections])
    parts = measured_parts(totals, measured)
    shares = log_shares(totals) + np.log(parts)[:, None]
    n = measured.sum(axis=0)
    mean = np.where(measured, shares, 0).sum(axis=0) / np.maximum(n, 1)
    shares = np.where(measured, shares - mean, 0.0)
    both = zip(sections, parts, strict=True)
    depth = np.array([np.log1p(spot_totals(s.counts) / part).mean() for s, part in both])
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


def dealt_p_value(told: Float64, y: Float64, seed: int) -> float:
    """How often patients permuted against their slides follow the slopes as well, over all genes together.

    Genes move together, so only a test that deals whole patients can tell.
    """
    variance = np.square(y).mean(axis=0)
    scaled = np.divide(y, variance, out=np.zeros_like(y), where=variance > _TINY)
    agreement = (told - told.mean(axis=0)) @ scaled.T
    rng, every = np.random.default_rng([seed, 17]), np.arange(len(y))
    seen = float(np.trace(agreement))
    dealt = [agreement[every, rng.permutation(len(y))].sum() for _ in range(_PERMUTATIONS)]
    # Equal sums differ in their last bits with the order of adding.
    as_large = int((np.array(dealt) >= seen - 1e-9 * abs(seen)).sum())
    return (1 + as_large) / (1 + _PERMUTATIONS)


def _totals(section: TrainingSection) -> Float64:
    """(G,) counts of a slide."""
    return np.asarray(section.counts.sum(axis=0), np.float64).ravel()
