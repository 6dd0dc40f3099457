"""Nested cross-validation over patients of many label vectors at once, and the maps of the slides left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.analysis.localize.attention import Attention, fit_attention, softmax_by_slide
from hespotex.analysis.localize.bags import Bags
from hespotex.analysis.localize.reduce import VARIANTS, Reduced

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Passed:
    """One nested pass of m label vectors; every slide was left out once, with all slides of its patient.

    Attributes:
        margin: (m, B, C) of each slide: log odds of a class against the others.
        loss: (m, N) what a slide's margin towards its class loses where a spot's group (it and what touches it) is
            replaced by tissue that speaks for no class: necessity.
        alone: (m, N) what the group says alone, against such tissue: sufficiency.
        votes: (m, N) part of the fits without the slide in which both are above 0.
        attention: (m, N) of the spot itself; sums to 1 in every slide.
        speaks: (m, N) the spot's own margin towards its slide's class, less that of tissue that speaks for no class.
        variant: (m, K) which of `VARIANTS` each fold chose.
    """

    margin: Floats
    loss: Floats
    alone: Floats
    votes: Floats
    attention: Floats
    speaks: Floats
    variant: Ints


def nested_pass(
    reduced: Reduced, labels: Ints, near: sparse.csr_matrix, *, seed: int = 0
) -> Passed:
    """Leave out each fold; two inner splits of the rest choose the variant; a fit on the whole rest predicts.

    Args:
        labels: (m, B) one row a label vector; maps look towards the slides' own diagnoses all the same.
        near: (N, N) groups, from `Bags.neighbours`.
    """
    bags, folds = reduced.bags, reduced.folds
    m, n_slides = labels.shape
    n_classes, n_folds = len(bags.classes), int(folds.max()) + 1
    margin = np.zeros((m, n_slides, n_classes), np.float32)
    maps = np.zeros((5, m, near.shape[0]), np.float32)
    variant = np.zeros((m, n_folds), np.intp)
    for fold in range(n_folds):
        inner = _inner(folds, fold)
        masks = np.stack([folds != fold, *((folds != fold) & ~held for held in inner)])
        every = np.repeat(labels, len(masks), axis=0)
        weights = slide_weights(bags, every, np.tile(masks, (m, 1)), n_classes)
        found = []
        for name in VARIANTS:
            values = reduced.read(fold, name)
            fits = fit_attention(values, bags.starts, every, weights, n_classes, seed=seed)
            found.append(_looked(bags, fits, values, near, folds == fold, inner, labels))
        best = np.stack([f[0] for f in found]).argmin(axis=0)
        variant[:, fold] = best
        test = folds == fold
        spots = np.repeat(test, np.diff(bags.starts))
        for k in range(m):
            margin[k, test] = found[best[k]][1][k]
            maps[:, k, spots] = found[best[k]][2][:, k]
    loss, alone, votes, attention, speaks = maps
    return Passed(margin, loss, alone, votes, attention, speaks, variant)


def slide_weights(bags: Bags, labels: Ints, masks: npt.NDArray[np.bool_], n_classes: int) -> Floats:
    """(m, B) weights by which patients of a class share what the class has; classes weigh the same."""
    per_patient = np.bincount(bags.patients)
    weights = masks / per_patient[bags.patients]
    for k, of in enumerate(labels):
        total = np.bincount(of, weights=weights[k], minlength=n_classes)
        weights[k] /= np.maximum(total, 1e-12)[of]
    return np.asarray(weights, np.float32)


def group_scores(
    attention: Floats, toward: Floats, neutral: Floats, near: sparse.csr_matrix
) -> tuple[Floats, Floats]:
    """Necessity and sufficiency (m, N) of each spot's group.

    Args:
        attention: (m, N), sums to 1 in every slide.
        toward: (m, N) margin of each spot towards its slide's class.
        neutral: (m, N) the same of tissue that speaks for no class.
    """
    weight = (near @ attention.T.astype(np.float64)).T
    said = (near @ (attention * toward).T.astype(np.float64)).T
    alone = said / np.maximum(weight, 1e-30) - neutral
    return np.asarray(weight * alone, np.float32), np.asarray(alone, np.float32)


def _inner(folds: Ints, fold: int) -> tuple[npt.NDArray[np.bool_], ...]:
    """Two halves of the other folds, as masks of slides; one other fold cannot be split and is no inner loop."""
    others = [k for k in range(int(folds.max()) + 1) if k != fold]
    if len(others) < 2:
        return ()
    return tuple(np.isin(folds, others[half::2]) for half in (0, 1))


def _looked(
    bags: Bags,
    fits: Attention,
    values: Floats,
    near: sparse.csr_matrix,
    test: npt.NDArray[np.bool_],
    inner: tuple[npt.NDArray[np.bool_], ...],
    labels: Ints,
) -> tuple[npt.NDArray[np.float64], Floats, Floats]:
    """Inner error (m,), margins (m, T, C) of the fold's slides and their maps (5, m, spots)."""
    starts, n_fits = bags.starts, 1 + len(inner)
    m = len(labels)
    raised, said = fits.spots(values)
    attention = softmax_by_slide(raised, starts)
    of_slide = np.add.reduceat(attention[..., None] * said, starts[:-1], axis=1)
    of_slide = of_slide.reshape(m, n_fits, len(starts) - 1, -1)
    error = np.zeros(m)
    for part, held in enumerate(inner, start=1):
        true = np.take_along_axis(of_slide[:, part], labels[:, :, None], axis=2)[..., 0]
        error += np.logaddexp(0, -true[:, held]).mean(axis=1)
    lengths, spot = np.diff(starts), np.repeat(test, np.diff(starts))
    toward = np.repeat(bags.labels, lengths)[spot]
    own = np.take_along_axis(said[:, spot], toward[None, :, None], axis=2)[..., 0]
    neutral = fits.neutral[:, toward]
    loss, alone = group_scores(attention[:, spot], own, neutral, near[spot][:, spot])
    votes = ((loss > 0) & (alone > 0)).reshape(m, n_fits, -1).mean(axis=1)
    first = [
        a.reshape(m, n_fits, -1)[:, 0] for a in (loss, alone, attention[:, spot], own - neutral)
    ]
    maps = np.stack([*first[:2], votes.astype(np.float32), *first[2:]])
    return error, of_slide[:, 0, test], maps
