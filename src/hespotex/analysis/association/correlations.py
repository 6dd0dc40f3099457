"""Correlations over patients given covariates, and Steiger's test of two that share a variable; pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]


def residuals(values: Floats, design: Floats) -> Floats:
    """(P, F) what a constant and the columns of a design leave of each column."""
    full = np.column_stack([np.ones(len(values)), design])
    basis, singular, _ = np.linalg.svd(full, full_matrices=False)
    basis = basis[:, singular > 1e-10 * singular[0]]
    return np.asarray(values - basis @ (basis.T @ values))


def effective_n(n: int, design: Floats) -> int:
    """Patients less one for each covariate: a partial correlation is tested as a plain one of so many."""
    return n - int(np.linalg.matrix_rank(np.column_stack([np.ones(n), design]))) + 1


def correlate(first: Floats, second: Floats) -> Floats:
    """(F,) PCC of paired columns; NaN where a column does not vary."""
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    product = (a * b).sum(axis=0)
    out = np.full(product.shape, np.nan)
    np.divide(product, size, out=out, where=size > 1e-12)
    return np.clip(out, -1, 1)


def ranks(values: Floats) -> Floats:
    """Ranks down every column, ties shared."""
    return np.asarray(stats.rankdata(values, axis=0), dtype=np.float64)


def p_values(r: Floats, n: int) -> Floats:
    """(F,) two-sided, of Student's t with n - 2 degrees of freedom; NaN below 3 patients."""
    if n < 3:
        return np.full_like(r, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt((n - 2) / (1 - r**2))
    return np.asarray(2 * stats.t.sf(np.abs(t), n - 2))


def interval(r: Floats, n: int, level: float = 0.95) -> tuple[Floats, Floats]:
    """(F,) both ends by Fisher's z; NaN below 4 patients."""
    if n < 4:
        return np.full_like(r, np.nan), np.full_like(r, np.nan)
    half = stats.norm.ppf((1 + level) / 2) / np.sqrt(n - 3)
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    return np.tanh(z - half), np.tanh(z + half)


def steiger(r_first: Floats, r_second: Floats, r_between: Floats, n: int) -> tuple[Floats, Floats]:
    """Steiger's Z of two correlations with the same variable, and its one-sided p (first above second).

    Source: Steiger (1980), Psychological Bulletin 87, 245-251, equations 12 to 14: covariance at the mean correlation.

    Args:
        r_first, r_second: of either predictor with the measured value.
        r_between: of the two predictors.
        n: patients; NaN below 4.
    """
    if n < 4:
        return np.full_like(r_first, np.nan), np.full_like(r_first, np.nan)
    r_first, r_second = (np.clip(r, -1 + 1e-9, 1 - 1e-9) for r in (r_first, r_second))
    mean = (r_first + r_second) / 2
    psi = r_between * (1 - 2 * mean**2) - 0.5 * mean**2 * (1 - 2 * mean**2 - r_between**2)
    covariance = np.clip(psi / (1 - mean**2) ** 2, -1, 1 - 1e-9)
    z = (np.arctanh(r_first) - np.arctanh(r_second)) * np.sqrt((n - 3) / (2 - 2 * covariance))
    return z, np.asarray(stats.norm.sf(z))


def q_values(p: Floats, kind: npt.NDArray[np.str_]) -> Floats:
    """(F,) Benjamini-Hochberg within each kind of feature; NaN where a p-value does not exist."""
    q = np.full(len(p), np.nan)
    for name in np.unique(kind):
        own = np.flatnonzero((kind == name) & np.isfinite(p))
        if len(own):
            q[own] = stats.false_discovery_control(p[own])
    return q
