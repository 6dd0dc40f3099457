"""The closed-form parts of the default model: kernel regression of composition, ridge of log1p.

Both predict a few components of the training expression (see low_rank.py), so both are low rank and
linear in genes; both read the same context as the networks, weighted by the variance it carries in
the standardised features.

    composition   k(a, b) = exp(-|a - b| / s), s^2 the mean squared norm of the training contexts;
                  Nystroem: f(x) = k(x, landmarks) @ coefficients @ loadings
    log1p         x @ coefficients @ loadings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.config import ModelConfig
from hespotex.genes.panel import pooled_composition, spot_totals
from hespotex.models.default.low_rank import LowRank, centred_log1p, fit_low_rank
from hespotex.models.default.stacked_rows import StackedRows
from hespotex.models.types import TrainingSection
from hespotex.models.workers import Run, in_turn

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_ROWS = 4096
_JITTER = 1e-6
_DEPTH_POWER = 0.75  # a spot counts by its depth to this power: shallow spots are mostly noise
_DEPTH_RANGE = (0.05, 4.0)  # of a spot's depth over the section's typical one
DIRECT_PENALTY = 3.0


@dataclass(frozen=True)
class KernelComposition:
    """Log ratios of genes by kernel regression.

    Attributes:
        weight: (C,) factor of each column of the context.
        landmarks: (m, C) weighted contexts of training spots.
        width: s.
        coefficients: (m, rank).
        loadings: (rank, G).
    """

    weight: Float64
    landmarks: Float64
    width: float
    coefficients: Float64
    loadings: Float32

    def latent(self, context: Float32) -> Float32:
        """(n, C) -> (n, rank)."""
        rows = [
            _kernel(context[at : at + _ROWS] * self.weight, self.landmarks, self.width)
            @ self.coefficients
            for at in range(0, len(context), _ROWS)
        ]
        return np.concatenate([np.zeros((0, self.coefficients.shape[1])), *rows]).astype(np.float32)


@dataclass(frozen=True)
class DirectLog1p:
    """log1p(CPM) over the train mean by ridge.

    Attributes:
        coefficients: (C, rank).
        loadings: (rank, G).
        train_mean: (G,) mean log1p(CPM) over the training spots.
    """

    coefficients: Float32
    loadings: Float32
    train_mean: Float32

    def latent(self, context: Float32) -> Float32:
        """(n, C) -> (n, rank)."""
        latent: Float32 = context @ self.coefficients
        return latent


def fit_kernel_composition(
    sections: Sequence[TrainingSection],
    contexts: Sequence[Float32],
    table: LowRank,
    variance_share: Float64,
    config: ModelConfig,
    *,
    seed: int,
    run: Run = in_turn,
) -> KernelComposition:
    """Regress the denoised Pearson residuals, then turn them into log ratios.

    A residual is about sqrt(mu) times the relative deviation, with mu the expected count at the typical depth. The factor
    sqrt(mu) / (mu + 1) turns it back, and shrinks the deviation of a rare gene.

    Args:
        contexts: (n_i, C) of each.
        table: denoised Pearson residuals of the sections.
        variance_share: (C,) share of the features' variance along each column.
        config: penalty, landmarks.
        seed: of the landmarks.
    """
    x = _Weighted(StackedRows(contexts), np.sqrt(variance_share))
    depth = np.concatenate([_relative_depth(s) for s in sections])
    landmarks, width = x.drawn(config.landmarks, seed), float(np.sqrt(x.squares().mean()))
    width = width or 1.0  # features that never vary: every spot is like every other
    targets = np.concatenate(table.scores)
    coefficients = _solved(x, depth, targets, landmarks, width, config.kernel_penalty, run)
    return KernelComposition(
        x.weight, landmarks, width, coefficients, as_log_ratios(table.loadings, sections)
    )


def joined_kernel(
    known: KernelComposition,
    sections: Sequence[TrainingSection],
    contexts: Sequence[Float32],
    table: LowRank,
    penalty: float,
    config: ModelConfig,
    *,
    seed: int,
    run: Run = in_turn,
) -> KernelComposition:
    """A kernel regression and, added to it, one of what it leaves over in other sections, as a single one.

    Args:
        known: its weights of the context and its width are kept.
        sections: with what is left over; none of those that `known` was fitted on.
        contexts: (n_i, C) of each.
        table: denoised Pearson residuals of these sections around the model's prediction.
        penalty: of the added part.
    """
    x = _Weighted(StackedRows(contexts), known.weight)
    depth = np.concatenate([_relative_depth(s) for s in sections])
    targets, marks = np.concatenate(table.scores), x.drawn(config.landmarks, seed)
    added = _solved(x, depth, targets, marks, known.width, penalty, run)
    # The part that is there and the added one share no landmark and no component.
    coefficients = np.zeros(np.add(known.coefficients.shape, added.shape))
    coefficients[: len(known.landmarks), : known.coefficients.shape[1]] = known.coefficients
    coefficients[len(known.landmarks) :, known.coefficients.shape[1] :] = added
    loadings = as_log_ratios(table.loadings, sections) / np.float32(config.kernel_share)
    return KernelComposition(
        known.weight,
        np.concatenate([known.landmarks, marks]),
        known.width,
        coefficients,
        np.concatenate([known.loadings, loadings]),
    )


def as_log_ratios(loadings: Float32, sections: Sequence[TrainingSection]) -> Float32:
    """Loadings of Pearson residuals -> of log ratios: times sqrt(mu) / (mu + 1), mu expected at the typical depth."""
    pooled = pooled_composition([s.counts for s in sections], [s.measured for s in sections])
    totals = np.concatenate([spot_totals(s.counts) for s in sections])
    expected = max(float(np.median(totals)), 1.0) * pooled
    return loadings * (np.sqrt(expected) / (expected + 1)).astype(np.float32)


@dataclass(frozen=True)
class _Weighted:
    """Contexts of all sections times the weight of each column, in float64, some rows at a time.

    Attributes:
        contexts: (n, C).
        weight: (C,).
    """

    contexts: StackedRows
    weight: Float64

    def rows(self, which: slice) -> Float64:
        """(b, C)."""
        return self.contexts.block(which).astype(np.float64) * self.weight

    def drawn(self, at_most: int, seed: int) -> Float64:
        """(m, C) of rows that are drawn by chance."""
        n, rng = len(self.contexts), np.random.default_rng(seed)
        chosen = np.sort(rng.choice(n, min(at_most, n), replace=False))
        return self.contexts.take(chosen).astype(np.float64) * self.weight

    def squares(self) -> Float64:
        """(n,) squared norm of each row."""
        blocks = self.contexts.blocks(_ROWS)
        return np.concatenate([np.square(self.rows(rows)).sum(axis=1) for rows in blocks])


def _solved(
    x: _Weighted,
    depth: Float64,
    targets: Float64,
    landmarks: Float64,
    width: float,
    penalty: float,
    run: Run,
) -> Float64:
    """(m, rank) coefficients of the landmarks; the penalty is that of the function's norm: the landmarks' kernel."""
    from scipy.linalg import solve

    def sums(rows: slice) -> tuple[Float64, Float64]:
        features = _kernel(x.rows(rows), landmarks, width) * np.sqrt(depth[rows, None])
        return features.T @ features, features.T @ targets[rows]

    gram = penalty * (_kernel(landmarks, landmarks, width) + _JITTER * np.eye(len(landmarks)))
    right = np.zeros((len(landmarks), targets.shape[1]))
    for gram_of_rows, right_of_rows in run(sums, x.contexts.blocks(_ROWS)):
        gram += gram_of_rows
        right += right_of_rows
    return np.asarray(solve(gram, right, assume_a="pos"), np.float64)


def fit_direct_log1p(
    sections: Sequence[TrainingSection],
    contexts: Sequence[Float32],
    variance_share: Float64,
    train_mean: Float64,
    config: ModelConfig,
    *,
    seed: int,
    run: Run = in_turn,
) -> DirectLog1p:
    """Ridge on the leading components of log1p(CPM) centred per section."""
    table = fit_low_rank(
        sections, centred_log1p, config.direct_rank, seed=seed, shrink=False, run=run
    )
    coefficients = direct_coefficients(contexts, table, np.sqrt(variance_share), DIRECT_PENALTY)
    return DirectLog1p(coefficients, table.loadings, train_mean.astype(np.float32))


def direct_coefficients(
    contexts: Sequence[Float32], table: LowRank, weight: Float64, penalty: float
) -> Float32:
    """(C, rank) ridge of the table's scores on the weighted context, for the context as it is."""
    gram, right = penalty * np.eye(len(weight)), np.zeros((len(weight), len(table.loadings)))
    for context, scores in zip(contexts, table.scores, strict=True):
        x = context * weight
        gram += x.T @ x
        right += x.T @ scores
    coefficients = np.linalg.solve(gram, right)
    return np.asarray(weight[:, None] * coefficients, np.float32)


def regression_tensors(
    kernel: KernelComposition | None, direct: DirectLog1p | None
) -> dict[str, npt.NDArray[Any]]:
    """Arrays for the model file."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    for prefix, part in (("kernel", kernel), ("direct", direct)):
        if part is not None:
            tensors |= {f"{prefix}.{k}": np.asarray(v) for k, v in vars(part).items()}
    return tensors


def read_kernel(tensors: Mapping[str, npt.NDArray[Any]]) -> KernelComposition | None:
    """The kernel regression of a stored model; None if it has none."""
    if "kernel.weight" not in tensors:
        return None
    names = ("weight", "landmarks", "width", "coefficients", "loadings")
    weight, landmarks, width, coefficients, loadings = (
        np.asarray(tensors[f"kernel.{k}"]) for k in names
    )
    return KernelComposition(weight, landmarks, float(width), coefficients, loadings)


def read_direct(tensors: Mapping[str, npt.NDArray[Any]]) -> DirectLog1p | None:
    """The direct regression of a stored model; None if it has none."""
    if "direct.coefficients" not in tensors:
        return None
    return DirectLog1p(
        *(np.asarray(tensors[f"direct.{k}"]) for k in ("coefficients", "loadings", "train_mean"))
    )


def _relative_depth(section: TrainingSection) -> Float64:
    """Depth over the section's typical one, clipped, to the power that makes it a weight."""
    totals = spot_totals(section.counts)
    typical = max(float(np.expm1(np.log1p(totals).mean())), 1e-9)
    weight: Float64 = np.clip(totals / typical, *_DEPTH_RANGE) ** _DEPTH_POWER
    return weight


def _kernel(a: npt.NDArray[Any], b: npt.NDArray[Any], width: float) -> Float64:
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    kernel: Float64 = np.exp(-np.sqrt(np.maximum(squared, 0)) / width)
    return kernel
