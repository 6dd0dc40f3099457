"""Scores of one held-out section of squares at every size, from its single bins up.

A map of squares is set against the counts of larger and smaller ones: a larger square gets the mean of those inside it, a
smaller one the value of that which it lies in. So what stands at a size below the fitted one is what the map of fitted
squares says of single bins, not what a finer map would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.evaluation.noise_ceiling import noise_ceiling
from hespotex.evaluation.predictors import MODEL, Rival
from hespotex.evaluation.scores import block_size, gene_blocks, pcc_per_gene, summarise
from hespotex.genes.panel import GenePanel, Margins, log1p_cpm, pearson_residuals
from hespotex.sections.fine import Squares, own_squares, sizes_of, squares
from hespotex.sections.section import Section
from hespotex.storage.metrics import ScoreSummary, SizeScores

Floats = npt.NDArray[np.float64]

# Whose maps are scored at every size; the others stand beside the model at the fitted size alone.
_SCORED: Final = (MODEL, "ridge")


@dataclass(frozen=True)
class OfSize:
    """What was found at one size of square.

    Attributes:
        summary: means over genes, of every predictor that was scored.
        pcc: (G,) PCC of the model's composition; NaN for constant or unmeasured genes.
        ceiling: (G,) the largest that counting noise leaves.
    """

    summary: SizeScores
    pcc: Floats
    ceiling: Floats


def score_sizes(
    section: Section,
    maps: Mapping[str, Rival],
    panel: GenePanel,
    abundant: npt.NDArray[np.intp],
    *,
    fitted: OfSize,
    nan_as_zero: bool = False,
    seed: int = 0,
) -> tuple[OfSize, ...]:
    """Scores at each size of `sizes_of`, smallest first; none for a section whose spots are no squares.

    Args:
        section: with its counts and its bins.
        maps: by predictor, at the section's squares.
        abundant: places of the most abundant genes of the training sections.
        fitted: scores at the section's own size, taken as they are.
        nan_as_zero: a PCC that does not exist counts as 0 in means.
        seed: of the noise ceiling.
    """
    if section.bins is None:
        return ()
    own = own_squares(section)
    found = []
    for size in sizes_of(section.bins):
        if abs(size - fitted.summary.size_um) < 0.01 * size:
            found.append(fitted)
            continue
        other = squares(section.bins, size)
        carry = _carried(own, other)
        seen = np.flatnonzero(np.diff(carry.indptr) > 0)
        counts = panel.counts(other.section)
        of_size = sparse.csr_matrix(counts.counts[seen])
        scored = {
            name: _score(maps[name], carry[seen], of_size, counts.measured, abundant, nan_as_zero)
            for name in _SCORED
            if name in maps
        }
        scores = {name: summary for name, (summary, _) in scored.items()}
        best = noise_ceiling(of_size, seed=seed)
        none = np.full(len(panel.genes), np.nan)
        best_here = np.where(counts.measured, best.composition, np.nan)
        ceiling = summarise(
            np.where(counts.measured, best.log1p, np.nan),
            best_here,
            none,
            np.isnan(best.log1p) & counts.measured,
            counts.measured,
            abundant,
            nan_as_zero=nan_as_zero,
        )
        summary = SizeScores(size_um=size, n_squares=len(seen), scores=scores, ceiling=ceiling)
        found.append(OfSize(summary, scored[MODEL][1] if MODEL in scored else none, best_here))
    return tuple(found)


def _carried(own: Squares, other: Squares) -> sparse.csr_matrix:
    """(k, n) what each of k squares gets of n others: the mean over the bins that both hold."""
    both = (own.member >= 0) & (other.member >= 0)
    shape = (other.section.n_spots, own.section.n_spots)
    shared = sparse.csr_matrix(
        (np.ones(int(both.sum()), np.float32), (other.member[both], own.member[both])), shape=shape
    )
    total = np.asarray(shared.sum(axis=1)).ravel()
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return sparse.csr_matrix(sparse.diags(scale.astype(np.float32)) @ shared)


def _score(
    rival: Rival,
    carry: sparse.csr_matrix,
    counts: sparse.csr_matrix,
    measured: npt.NDArray[np.bool_],
    abundant: npt.NDArray[np.intp],
    nan_as_zero: bool,
) -> tuple[ScoreSummary, Floats]:
    """Scores of one predictor and its (G,) PCC of composition, without an error: the mean of logarithms is not the logarithm of a mean."""
    n_spots, n_genes = counts.shape
    table, margins = counts.tocsc(), Margins.of(counts)
    pcc = np.full((2, n_genes), np.nan)
    for genes in gene_blocks(n_genes, block_size(n_spots)):
        pcc[0, genes] = pcc_per_gene(
            carry @ rival.log1p[:, genes], log1p_cpm(table, genes, margins)
        )
        if rival.composition is not None:
            residuals = pearson_residuals(table, columns=genes, margins=margins)
            pcc[1, genes] = pcc_per_gene(carry @ rival.composition[:, genes], residuals)
    pcc[:, ~measured] = np.nan
    none, constant = np.full(n_genes, np.nan), measured & (margins.gene == 0)
    summary = summarise(pcc[0], pcc[1], none, constant, measured, abundant, nan_as_zero=nan_as_zero)
    return summary, pcc[1]
