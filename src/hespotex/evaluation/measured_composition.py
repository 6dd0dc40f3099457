"""Measured composition in the unit of the predicted one, readable where counts are shallow; pure.

A spot of few molecules says little of a gene's part in it. The raw log ratio is minus infinity where no molecule was
caught, and a Pearson residual is in units of counting noise, not of composition. So the gene's rate in a spot is
estimated as its posterior mean under a gamma prior around the section's own rate. The prior is as wide as the gene varies
over the spots beyond counting noise (method of moments). Differences that noise explains are drawn to 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.genes.panel import Margins

Floats = npt.NDArray[np.float64]

# Variance of a rate over spots below which a gene is taken to be the same everywhere.
_LEAST_VARIANCE = 1e-4


def measured_composition(
    counts: sparse.csr_matrix, columns: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.float32]:
    """Log of a gene's rate in a spot over its rate in the section, less the mean over the spots.

    log((c + k) / (mu + k)): c the count, mu = spot total x gene total / grand total as for Pearson residuals,
    1 / k the gene's variance beyond counting noise, sum((c - mu)^2 - mu) / sum(mu^2) over the spots.

    Args:
        counts: (n, G) raw counts of ONE section over the panel.
        columns: genes to return; totals are over the whole panel all the same.

    Returns:
        (n, G), or fewer genes; natural logarithm. NaN in spots without any count.
    """
    known = Margins.of(counts)
    grand = known.gene.sum()
    rate = known.gene / grand if grand > 0 else known.gene
    part = counts if columns is None else counts[:, columns]
    rate = rate if columns is None else rate[columns]
    prior = (1 / _variance(part, known.spot, rate)).astype(np.float32)
    mu = np.multiply.outer(known.spot.astype(np.float32), rate.astype(np.float32))
    mu += prior
    result = np.asarray(part.toarray(), dtype=np.float32)
    result += prior
    result /= mu
    np.log(result, out=result)
    seen = known.spot > 0
    if seen.any():
        result -= result[seen].mean(axis=0, dtype=np.float64)
    result[~seen] = np.nan
    return result


def _variance(counts: sparse.csr_matrix, totals: Floats, rate: Floats) -> Floats:
    """(G,) variance over spots of a gene's rate, in units of its mean, beyond counting noise."""
    exact = counts.astype(np.float64)
    squares = exact.multiply(exact).sum(axis=0)
    cross = np.asarray(exact.T @ totals).ravel()
    expected = rate**2 * np.square(totals).sum()
    beyond = np.asarray(squares, dtype=np.float64).ravel() - 2 * rate * cross + expected
    beyond -= rate * totals.sum()
    variance = np.divide(beyond, expected, out=np.zeros_like(rate), where=expected > 0)
    return np.asarray(np.maximum(variance, _LEAST_VARIANCE))
