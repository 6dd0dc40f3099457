"""Owns the denoising of training expression: its leading components, shrunk by how much is noise; pure.

A spots x genes table of shallow counts is mostly noise, and a regression on its entries spends itself
on that. What is regressed on instead is the table's low-rank part with optimally shrunk singular
values (Gavish and Donoho 2017, doi 10.1109/TIT.2017.2653801, Frobenius loss). It needs expression, so
it exists for training sections alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.expression import log1p_cpm, pearson_residuals
from hespotex.training.types import TrainingSection

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Values = Callable[[TrainingSection, slice], Float32]

_FIT_SPOTS = (
    8192  # spots that the directions are fitted on, at most; drawn evenly from the sections
)
_GENE_BLOCK = 1024


@dataclass(frozen=True)
class LowRank:
    """table ~ scores @ loadings.

    Attributes:
        scores: (n_i, rank) of each section, shrunk.
        loadings: (rank, G) orthonormal rows.
    """

    scores: tuple[Float64, ...]
    loadings: Float32


def residuals(section: TrainingSection, columns: slice) -> Float32:
    """(n, columns) Pearson residuals; 0, their mean, for genes that the section did not measure."""
    return pearson_residuals(section.counts, columns=columns) * section.measured[columns]


def centred_log1p(section: TrainingSection, columns: slice) -> Float32:
    """(n, columns) log1p(CPM over the panel) minus its mean over the section; 0 where unmeasured."""
    values = log1p_cpm(section.counts, columns)
    values -= values.mean(axis=0, dtype=np.float64).astype(np.float32)
    return values * section.measured[columns]


def fit_low_rank(
    sections: Sequence[TrainingSection],
    values: Values,
    rank: int,
    *,
    seed: int,
    shrink: bool = True,
) -> LowRank:
    """Leading components of all sections' tables together; no whole table is ever held.

    Args:
        sections: training sections.
        values: the table of a section for some genes, e.g. `residuals`.
        rank: components; fewer where there are fewer spots or genes.
        seed: of the drawing of spots and of the randomised decomposition.
        shrink: take the noise out of the singular values; a component that is all noise becomes 0.
    """
    from sklearn.utils.extmath import randomized_svd

    sizes = [s.counts.shape[0] for s in sections]
    genes = sections[0].counts.shape[1]
    blocks = [slice(at, min(at + _GENE_BLOCK, genes)) for at in range(0, genes, _GENE_BLOCK)]
    table = np.concatenate(
        [
            np.concatenate([values(section, b)[rows] for b in blocks], axis=1)
            for section, rows in zip(_by_gene(sections), _draw(sizes, seed), strict=True)
        ]
    )
    k = min(rank, len(table) - 1, genes)
    _, _, directions = randomized_svd(table, k, n_iter=7, random_state=seed)
    del table
    scores, energy = [], 0.0
    for section in _by_gene(sections):
        part = np.zeros((section.counts.shape[0], k))
        for block in blocks:
            entries = values(section, block)
            part += entries @ directions[:, block].T
            energy += float(np.square(entries, dtype=np.float64).sum())
        scores.append(part)
    if shrink:
        factor = _shrinkage(
            np.sqrt(sum(np.square(p).sum(axis=0) for p in scores)), energy, sum(sizes), genes
        )
        scores = [part * factor for part in scores]
    return LowRank(tuple(scores), directions.astype(np.float32))


def _by_gene(sections: Sequence[TrainingSection]) -> Iterator[TrainingSection]:
    """The sections one after the other, counts stored by gene: blocks of genes are cut out at once."""
    for section in sections:
        yield replace(section, counts=section.counts.tocsc())


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
    return [np.sort(rng.choice(n, max(2, round(share * n)), replace=False)) for n in sizes]
