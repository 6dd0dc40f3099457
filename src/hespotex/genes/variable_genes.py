"""Which genes of a section vary most (seurat_v3), small sections included."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

# seurat_v3's own span. Where a stretch of genes shares few means its local fit fails, and after several
# failures the process can crash, so it is not even tried there.
_LOESS_SPAN = 0.3
_MIN_MEANS = 8


def highly_variable(
    counts: sparse.csr_matrix, candidates: npt.NDArray[np.intp], n_top: int
) -> npt.NDArray[np.intp]:
    """Places in the union of a section's `n_top` highly variable genes among the candidates.

    seurat_v3, except that its local trend of variance over mean cannot be fitted where many genes share
    few means (small sections): there the trend is one quadratic over all genes.
    """
    from sklearn.utils.sparsefuncs import mean_variance_axis

    table = counts[:, candidates].astype(np.float64)
    mean, variance = mean_variance_axis(table, axis=0)
    varies = variance > 1e-12
    candidates, table = candidates[varies], table[:, varies]
    mean, variance = mean[varies], variance[varies]
    if len(candidates) <= n_top:
        return candidates
    normalised = _seurat_v3(table) if _can_fit_locally(mean) else None
    if normalised is None:
        normalised = _variance_over_quadratic_trend(table, mean, variance)
    return candidates[np.argsort(-normalised, kind="stable")[:n_top]]


def _seurat_v3(table: sparse.csr_matrix) -> npt.NDArray[np.float64] | None:
    """(g,) scanpy's normalised variance; None where its local fit gives up."""
    import anndata
    import scanpy

    try:
        result = scanpy.pp.highly_variable_genes(
            anndata.AnnData(table),
            flavor="seurat_v3",
            n_top_genes=1,
            span=_LOESS_SPAN,
            inplace=False,
        )
    except ValueError as error:
        if "singular" not in str(error) and "condition number" not in str(error):
            raise
        return None
    return np.asarray(result["variances_norm"], dtype=np.float64)


def _can_fit_locally(mean: npt.NDArray[np.float64]) -> bool:
    """Whether every stretch of genes that the local fit looks at holds enough different means."""
    window = int(_LOESS_SPAN * len(mean))
    steps = np.concatenate([[0], np.cumsum(np.diff(np.sort(mean)) > 0)])
    return window > _MIN_MEANS and bool(
        (steps[window - 1 :] - steps[: len(steps) - window + 1]).min() >= _MIN_MEANS
    )


def _variance_over_quadratic_trend(
    table: sparse.csr_matrix, mean: npt.NDArray[np.float64], variance: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(g,) variance of the clipped standardised counts, as seurat_v3 has it, with a quadratic trend."""
    n = table.shape[0]
    x, y = np.log10(mean), np.log10(variance)
    trend = np.polynomial.Polynomial.fit(x, y, min(2, len(np.unique(x)) - 1))
    sd = np.sqrt(10 ** trend(x))
    clipped = table.copy()
    clipped.data = np.minimum(clipped.data, (mean + sd * np.sqrt(n))[clipped.indices])
    sums = np.asarray(clipped.sum(axis=0)).ravel()
    squares = np.asarray(clipped.power(2).sum(axis=0)).ravel()
    return np.asarray((n * mean**2 + squares - 2 * sums * mean) / (max(n - 1, 1) * sd**2))
