"""The correlation with measured counts that a perfect prediction would reach, gene by gene.

Every count is split at random into two halves, as if the same tissue had been measured twice at half the
depth. The halves agree in the signal alone. Spearman-Brown's formula carries their correlation to full depth; the root of
that is the correlation of the measured values with the noise-free ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import HESpotExError
from hespotex.evaluation.scores import block_size, gene_blocks, pcc_per_gene
from hespotex.genes.panel import Margins, log1p_cpm, pearson_residuals

# Fewer spots need more splits for the same precision of a gene's ceiling.
_SPOTS_TIMES_SPLITS = 4000
_MIN_SPLITS, _MAX_SPLITS = 3, 20
_FLOOR = 0.1


@dataclass(frozen=True)
class NoiseCeiling:
    """Largest PCC that a noise-free prediction could reach on one section; NaN for constant genes.

    Attributes:
        log1p: (G,) on log1p(CPM), in [0, 1]; approximate, since halves have half the depth, where the logarithm
            bends otherwise; the usual definition all the same.
        composition: (G,) on Pearson residuals, in [0, 1].
    """

    log1p: npt.NDArray[np.float64]
    composition: npt.NDArray[np.float64]


def noise_ceiling(
    counts: sparse.csr_matrix, *, n_splits: int | None = None, seed: int = 0
) -> NoiseCeiling:
    """Ceiling of every gene: root of the Spearman-Brown corrected split-half correlation.

    ceiling = sqrt(2 r / (1 + r)), r the mean over splits of the PCC between the halves; 0 where r < 0.

    Args:
        counts: (n, G) raw counts of one section over the panel.
        n_splits: random splits; None: 3 to 20, fewer on more spots.

    Raises:
        HESpotExError: counts are no whole numbers, which cannot be split.
    """
    if counts.nnz and not np.array_equal(counts.data, np.rint(counts.data)):
        raise HESpotExError(
            expected="whole numbers as counts for a noise ceiling",
            found="fractions",
            remedy="give raw counts",
        )
    n, n_genes = counts.shape
    if n_splits is None:
        n_splits = int(np.clip(round(_SPOTS_TIMES_SPLITS / max(n, 1)), _MIN_SPLITS, _MAX_SPLITS))
    rng = np.random.default_rng(seed)
    table = counts.tocsc()
    totals = table.data.astype(np.int64)
    log1p, composition = np.zeros(n_genes), np.zeros(n_genes)
    for _ in range(n_splits):
        first = table.copy()
        first.data = rng.binomial(totals, 0.5).astype(np.float32)
        second = table.copy()
        second.data = table.data - first.data
        margins = [Margins.of(half) for half in (first, second)]
        for genes in gene_blocks(n_genes, block_size(n)):
            # Where a half does not vary, the two halves share nothing: the gene counts as 0 and is not left out.
            log1p[genes] += np.nan_to_num(
                pcc_per_gene(
                    log1p_cpm(first, genes, margins[0]), log1p_cpm(second, genes, margins[1])
                )
            )
            composition[genes] += np.nan_to_num(
                pcc_per_gene(
                    pearson_residuals(first, columns=genes, margins=margins[0]),
                    pearson_residuals(second, columns=genes, margins=margins[1]),
                )
            )
    constant = _constant(table)
    return NoiseCeiling(
        _full_depth(log1p / n_splits, constant), _full_depth(composition / n_splits, constant)
    )


def share_of_ceiling(
    pcc: npt.NDArray[np.float64], ceiling: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(G,) a score as share of its ceiling; NaN where the ceiling is below 0.1 and the share means nothing."""
    share = np.divide(pcc, ceiling, out=np.full(len(pcc), np.nan), where=ceiling >= _FLOOR)
    return np.asarray(share)


def _full_depth(
    half: npt.NDArray[np.float64], constant: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    half = np.clip(half, 0.0, 1.0)
    ceiling = np.sqrt(2 * half / (1 + half))
    ceiling[constant] = np.nan
    return np.asarray(ceiling)


def _constant(table: sparse.csc_matrix) -> npt.NDArray[np.bool_]:
    """(G,) genes without any count, or all of them if there is one spot: nothing varies."""
    seen = np.asarray((table > 0).sum(axis=0)).ravel()
    return np.asarray((seen == 0) | (table.shape[0] < 2))
