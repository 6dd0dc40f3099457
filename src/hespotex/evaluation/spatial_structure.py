"""Measures on the lattice of spots: neighbours, Moran's I, structural similarity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import HESpotExError
from hespotex.evaluation.scores import gene_blocks

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]

# Wider than the pitch (positions of printed arrays wobble by some percent), narrower than the diagonal
# of a square lattice (1.41) and the second ring of a hexagonal one (1.73).
_NEIGHBOUR_FACTOR = 1.3
_SSIM_K1, _SSIM_K2 = 0.01, 0.03


def lattice_weights(
    xy_um: npt.NDArray[np.float64], factor: float = _NEIGHBOUR_FACTOR
) -> sparse.csr_matrix:
    """(n, n) symmetric 0/1 weights between lattice neighbours; a spot without neighbours has none.

    Args:
        xy_um: (n, 2) spot centres.
        factor: neighbours are nearer than `factor` times the median distance to the nearest spot.
    """
    n = len(xy_um)
    if n < 2:
        return sparse.csr_matrix((n, n), dtype=np.float64)
    from scipy.spatial import cKDTree

    tree = cKDTree(xy_um)
    nearest = tree.query(xy_um, 2)[0][:, 1]
    pairs = tree.query_pairs(factor * float(np.median(nearest)), output_type="ndarray")
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, n))


def morans_i(values: Array, weights: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """Moran's I per gene with row-normalised weights, as squidpy computes it.

    I = (n / W) * sum_ij w_ij z_i z_j / sum_i z_i^2, z centred, W the sum of weights.

    Args:
        values: (n, G).
        weights: (n, n), as `lattice_weights` gives them.

    Returns:
        (G,); NaN for a constant gene, or where no spot has a neighbour.
    """
    _check_spots(values, weights)
    normalised = row_normalised(weights)
    total = normalised.sum()
    result = np.full(values.shape[1], np.nan)
    if total == 0:
        return result
    for genes in gene_blocks(values.shape[1]):
        block = values[:, genes]
        z = block - block.mean(axis=0, dtype=np.float64)
        squares = np.einsum("ij,ij->j", z, z)
        squares[block.max(axis=0) == block.min(axis=0)] = np.nan
        result[genes] = len(values) / total * np.einsum("ij,ij->j", z, normalised @ z) / squares
    return result


def ssim_per_gene(
    predicted: Array, measured: Array, weights: sparse.csr_matrix
) -> npt.NDArray[np.float64]:
    """Structural similarity per gene, with a spot and its lattice neighbours as the window.

    Both maps are standardised first, since a prediction shrinks, and moved so that the measured minimum is 0,
    since the formula is made for intensities; L is the range of the measured map. Formula: Wang et al. 2004, doi 10.1109/TIP.2003.819861, equal weights in the window.

    Returns:
        (G,) in [-1, 1]; NaN where either map is constant.
    """
    _check_spots(measured, weights)
    window = row_normalised(weights + sparse.identity(weights.shape[0], format="csr"))
    result = np.empty(measured.shape[1])
    for genes in gene_blocks(measured.shape[1]):
        p, m = _z(predicted[:, genes]), _z(measured[:, genes])
        span, offset = np.ptp(m, axis=0), m.min(axis=0)
        p, m = p - offset, m - offset
        c1, c2 = (_SSIM_K1 * span) ** 2, (_SSIM_K2 * span) ** 2
        mean_p, mean_m = window @ p, window @ m
        variance_p = window @ p**2 - mean_p**2
        variance_m = window @ m**2 - mean_m**2
        covariance = window @ (p * m) - mean_p * mean_m
        similarity = (2 * mean_p * mean_m + c1) * (2 * covariance + c2)
        similarity /= (mean_p**2 + mean_m**2 + c1) * (variance_p + variance_m + c2)
        result[genes] = similarity.mean(axis=0)
    return result


def _z(values: Array) -> npt.NDArray[np.float64]:
    centred = values - values.mean(axis=0, dtype=np.float64)
    sd = centred.std(axis=0)
    sd[values.max(axis=0) == values.min(axis=0)] = np.nan
    return np.asarray(centred / sd)


def row_normalised(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """Weights of every spot that sum to 1; a spot without neighbours keeps none."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
    return sparse.csr_matrix(sparse.diags(scale) @ weights)


def _check_spots(values: Array, weights: sparse.csr_matrix) -> None:
    if weights.shape != (len(values), len(values)):
        raise HESpotExError(
            expected=f"weights between {len(values)} spots",
            found=f"a table of shape {weights.shape}",
        )
