"""The denoising of training expression: its leading components, shrunk by how much is noise.

A spots x genes table of shallow counts is mostly noise, which a regression on its entries would fit. So the target of the
regressions is the table's low-rank part, with optimally shrunk singular values (Gavish and Donoho 2017,
doi 10.1109/TIT.2017.2653801, Frobenius loss). It needs expression, so it exists for training sections alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.genes.panel import Margins, pearson_residuals, sparse_log1p_cpm
from hespotex.models.types import TrainingSection
from hespotex.models.workers import Run, in_turn

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Rows = slice | npt.NDArray[np.intp]
Values = Callable[[TrainingSection], Callable[[Rows], Float32]]

_FIT_SPOTS = (
    8192  # spots that the directions are fitted on, at most; drawn evenly from the sections
)
_BLOCK_ENTRIES = 2**17  # what a block of rows needs fits into a core's cache


@dataclass(frozen=True)
class LowRank:
    """table ~ scores @ loadings.

    Attributes:
        scores: (n_i, rank) of each section, shrunk.
        loadings: (rank, G) orthonormal rows.
    """

    scores: tuple[Float64, ...]
    loadings: Float32


def residuals(section: TrainingSection) -> Callable[[Rows], Float32]:
    """The table of Pearson residuals, row by row; 0, their mean, for genes that the section did not measure."""
    margins, measured = Margins.of(section.counts), section.measured

    def rows(which: Rows) -> Float32:
        values = pearson_residuals(section.counts, margins=margins, rows=which)
        return values if measured.all() else values * measured

    return rows


def centred_log1p(section: TrainingSection) -> Callable[[Rows], Float32]:
    """The table of log1p(CPM over the panel) minus its mean over the section, row by row; 0 where unmeasured."""
    table = sparse_log1p_cpm(section.counts)
    mean = np.asarray(table.mean(axis=0, dtype=np.float64)).ravel().astype(np.float32)

    def rows(which: Rows) -> Float32:
        values: Float32 = table[which].toarray()
        values -= mean
        return values if section.measured.all() else values * section.measured

    return rows


def fit_low_rank(
    sections: Sequence[TrainingSection],
    values: Values,
    rank: int,
    *,
    seed: int,
    shrink: bool = True,
    run: Run = in_turn,
) -> LowRank:
    """Leading components of all sections' tables together; no whole table is ever held.

    Args:
        values: of a section, the function that gives rows of its table, e.g. `residuals`.
        rank: components; fewer where there are fewer spots or genes.
        seed: of the drawing of spots and of the randomised decomposition.
        shrink: take the noise out of the singular values; a component that is all noise becomes 0.
    """
    from sklearn.utils.extmath import randomized_svd

    sizes = [s.counts.shape[0] for s in sections]
    genes = sections[0].counts.shape[1]
    drawn = _draw(sizes, seed)
    table = np.concatenate(list(run(lambda i: values(sections[i])(drawn[i]), range(len(sections)))))
    k = min(rank, len(table) - 1, genes)
    _, _, directions = randomized_svd(table, k, n_iter=7, random_state=seed)
    del table
    parts = list(run(lambda section: _project(values(section), section, directions), sections))
    scores, energy = [part for part, _ in parts], sum(own for _, own in parts)
    if shrink:
        factor = _shrinkage(
            np.sqrt(sum(np.square(p).sum(axis=0) for p in scores)), energy, sum(sizes), genes
        )
        scores = [part * factor for part in scores]
    return LowRank(tuple(scores), directions.astype(np.float32))


def _project(
    values: Callable[[Rows], Float32], section: TrainingSection, directions: npt.NDArray[Any]
) -> tuple[Float64, float]:
    """Scores (n, k) of a section's table, and the sum of its squares; block of rows by block of rows."""
    n, genes = section.counts.shape
    height = max(1, _BLOCK_ENTRIES // genes)
    scores, energy = np.empty((n, len(directions))), 0.0
    for at in range(0, n, height):
        entries = values(slice(at, at + height))
        scores[at : at + height] = entries @ directions.T
        energy += float(np.vdot(entries, entries))
    return scores, energy


def _shrinkage(singular: Float64, energy: float, n: int, genes: int) -> Float64:
    """Factor of each singular value; the noise per entry is what the components leave over."""
    noise = np.sqrt(max(energy - float(np.square(singular).sum()), 0.0) / (n * genes))
    if noise == 0:
        return np.ones_like(singular)
    ratio = min(n, genes) / max(n, genes)
    y = singular / (noise * np.sqrt(max(n, genes)))
    under_root = np.maximum((y**2 - ratio - 1) ** 2 - 4 * ratio, 0)
    above = y > 1 + np.sqrt(ratio)
    factor: Float64 = np.where(above, np.sqrt(under_root) / np.maximum(y, 1e-12) ** 2, 0)
    return factor


def _draw(sizes: Sequence[int], seed: int) -> list[npt.NDArray[Any]]:
    rng = np.random.default_rng(seed)
    share = min(1.0, _FIT_SPOTS / sum(sizes))
    if share == 1:
        return [np.arange(n) for n in sizes]
    return [np.sort(rng.choice(n, min(n, max(2, round(share * n))), replace=False)) for n in sizes]
