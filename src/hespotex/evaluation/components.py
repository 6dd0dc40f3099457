"""Principal components that baselines and the out-of-distribution check rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# The directions are fitted on so many spots at most, drawn evenly: the model's are, too.
FIT_SPOTS = 8192
# Up to so many spots (or columns) the decomposition is exact; above it is randomised, with a fixed seed.
_EXACT = 2048
_POWER_ITERATIONS = 7


@dataclass(frozen=True)
class Components:
    """Leading principal components.

    Attributes:
        mean: (P,) of the rows that they were fitted on.
        directions: (P, K) orthonormal columns, largest variance first.
    """

    mean: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]

    def transform(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(n, P) -> (n, K)."""
        # (x - mean) @ directions without a centred copy of x.
        return np.asarray(x @ self.directions - self.mean @ self.directions)


def drawn_evenly(sizes: Sequence[int], at_most: int = FIT_SPOTS) -> list[npt.NDArray[np.intp]]:
    """Rows of tables of these sizes, laid end to end, evenly spaced; all of them if there are few."""
    total = sum(sizes)
    kept = np.unique(np.linspace(0, total - 1, min(total, at_most)).astype(np.intp))
    ends = np.cumsum(sizes)
    parts = np.split(kept, np.searchsorted(kept, ends[:-1]))
    return [part - start for part, start in zip(parts, ends - np.asarray(sizes), strict=True)]


def fit_components(x: npt.NDArray[np.float32], n_components: int) -> Components:
    """Principal components of (n, P) features, at most as many as there can be; the same on every run."""
    rows = x if len(x) <= FIT_SPOTS else x[drawn_evenly([len(x)])[0]]
    k = max(1, min(n_components, len(rows) - 1, rows.shape[1]))
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows - mean
    directions = _exact(centred, k) if min(centred.shape) <= _EXACT else _randomised(centred, k)
    return Components(mean, np.asarray(directions, dtype=np.float32))


def _exact(centred: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float64]:
    """From the smaller of the two matrices of scalar products: a tenth of the work of an SVD."""
    from scipy.linalg import eigh, qr

    x: npt.NDArray[Any] = centred.astype(np.float64)
    n, p = x.shape
    if p <= n:
        _, vectors = eigh(x.T @ x, subset_by_index=[p - k, p - 1])
        return np.asarray(vectors[:, ::-1])
    _, vectors = eigh(x @ x.T, subset_by_index=[n - k, n - 1])
    # Orthonormal also where a component has no variance, and x.T @ vector is rounding alone.
    return np.asarray(qr(x.T @ vectors[:, ::-1], mode="economic")[0])


def _randomised(centred: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    from sklearn.utils.extmath import randomized_svd

    _, _, directions = randomized_svd(centred, k, n_iter=_POWER_ITERATIONS, random_state=0)
    return np.asarray(directions.T)
