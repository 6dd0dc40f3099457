"""Whole profiles of patients in cross-validation: components fitted on training patients alone; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Split = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]

FOLDS: Final = 5
_COMPONENTS: Final = 10
_AT_ONCE: Final = 512  # genes, or patients, of a block
# Components are those of at most so many training patients: time grows with the cube of their number.
_MOST_FITTED: Final = 1_500


def blocks(n_columns: int) -> Iterator[slice]:
    """Parts of the genes that are worked on at a time, so that memory does not grow with copies of all."""
    for start in range(0, n_columns, _AT_ONCE):
        yield slice(start, min(start + _AT_ONCE, n_columns))


def products(values: npt.NDArray[np.floating[Any]]) -> Floats:
    """(P, P) inner products of patients: components of any fold follow from these, however many genes there are."""
    out = np.zeros((len(values), len(values)))
    for part in blocks(values.shape[1]):
        block = values[:, part].astype(np.float64)
        for rows in blocks(len(values)):
            out[rows] += block[rows] @ block.T
    return out


def splits(labels: npt.NDArray[np.int_], seed: int) -> list[Split]:
    """Training and held-out patients of each fold, every label in each as evenly as its number allows."""
    from sklearn.model_selection import StratifiedKFold

    n = int(min(FOLDS, np.bincount(labels).min()))
    folds = StratifiedKFold(max(n, 2), shuffle=True, random_state=seed)
    return list(folds.split(np.zeros(len(labels)), labels))


def components(
    kernel: Floats, order: npt.NDArray[np.intp], folds: Sequence[Split]
) -> Iterator[tuple[Split, Floats, Floats]]:
    """Each fold with the components of its training and held-out patients, scaled to unit variance in training.

    Of more than 1,500 training patients components rest on as many, drawn at random, and all others are projected on them.

    Args:
        kernel: (P, P) inner products.
        order: (P,) whose profile each patient has: a permutation shuffles them.
        folds: of places in `order`.
    """
    from sklearn.decomposition import KernelPCA

    for train, held in folds:
        own, other = order[train], order[held]
        few = own
        n = min(_COMPONENTS, len(train) // 3)
        model = KernelPCA(max(n, 1), kernel="precomputed", eigen_solver="dense")
        if len(own) > _MOST_FITTED:
            few = own[np.random.default_rng(len(own)).permutation(len(own))[:_MOST_FITTED]]
            fitted = model.fit(kernel[np.ix_(few, few)]).transform(kernel[np.ix_(own, few)])
        else:
            fitted = model.fit_transform(kernel[np.ix_(own, own)])
        scale = fitted.std(axis=0).clip(1e-9)
        yield (train, held), fitted / scale, model.transform(kernel[np.ix_(other, few)]) / scale
