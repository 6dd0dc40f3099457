"""Values reduced to 64 principal components of the training patients of each fold; read slide by slide from the disk."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.analysis.localize.bags import Bags, Ints, touching

Floats = npt.NDArray[np.float32]

COMPONENTS: Final = 64
VARIANTS: Final = ("spots", "neighbours")
# What the smooth variant keeps of a spot itself, and how often it looks to its neighbours.
ALPHA: Final = 0.5
STEPS: Final = 10


@dataclass(frozen=True)
class Components:
    """A projection: (x - mean) @ axes, each component of variance 1 over the training spots.

    Attributes:
        mean: (D,).
        axes: (D, k).
    """

    mean: Floats
    axes: Floats

    def of(self, values: Floats) -> Floats:
        """(n, k) of (n, D)."""
        return np.asarray((values - self.mean) @ self.axes, dtype=np.float32)


def fit_components(bags: Bags, kept: npt.NDArray[np.bool_]) -> Components:
    """Components of the spots of some slides, each slide as heavy as any other; several kinds of values share the number.

    Args:
        kept: (B,) the training slides; the others are not read.
    """
    width = bags.read(0).shape[1]
    blocks = bags.blocks or (width,)
    ends = np.cumsum((0, *blocks)).tolist()
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    total = np.zeros(width)
    square = [np.zeros((n, n)) for n in blocks]
    for slide in np.flatnonzero(kept).tolist():
        values = bags.read(slide).astype(np.float64)
        total += values.mean(axis=0)
        for k, part in enumerate(parts):
            square[k] += values[:, part].T @ values[:, part] / len(values)
    n = int(kept.sum())
    mean, axes = total / n, []
    for k, part in enumerate(parts):
        spread, own = _spectrum(square[k] / n - np.outer(mean[part], mean[part]))
        order = np.argsort(spread)[::-1][: COMPONENTS // len(blocks)]
        order = order[spread[order] > 1e-9 * max(float(spread.max()), 1e-30)]
        placed = np.zeros((width, len(order)))
        placed[part] = own[:, order] / np.sqrt(spread[order])
        axes.append(placed)
    return Components(mean.astype(np.float32), np.hstack(axes).astype(np.float32))


def _spectrum(
    covariance: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The largest eigenvalues, at least `COMPONENTS` of them, and their axes as columns."""
    n = len(covariance)
    if n <= 4 * COMPONENTS:
        spread, axes = np.linalg.eigh(covariance)
        return spread, axes
    # All of them take ten times as long where several thousand features are given.
    from scipy.linalg import eigh

    spread, axes = eigh(covariance, subset_by_index=(n - COMPONENTS, n - 1))
    return spread, axes


def smoothed(values: Floats, xy_um: npt.NDArray[np.float64]) -> Floats:
    """(n, k) values drawn towards those of touching spots by torchmil's Sm operator, as its SmABMIL does before attention.

    With a stated alpha the operator is fixed and linear, so that it is applied once instead of in every step of a fit. It
    expects an adjacency whose rows sum to one; torchmil does not make them so.
    """
    import torch
    from torchmil.nn import Sm

    near = touching(xy_um).tocoo()
    other = near.row != near.col
    rows, columns = near.row[other], near.col[other]
    degree = np.bincount(rows, minlength=len(values))
    lone = np.flatnonzero(degree == 0)
    rows, columns = np.concatenate([rows, lone]), np.concatenate([columns, lone])
    weight = 1 / np.maximum(degree, 1)[rows]
    place = torch.tensor(np.stack([np.zeros_like(rows), rows, columns]), dtype=torch.int64)
    size = (1, len(values), len(values))
    adjacency = torch.sparse_coo_tensor(
        place, torch.tensor(weight, dtype=torch.float32), size, check_invariants=False
    )
    operator = Sm(alpha=ALPHA, num_steps=STEPS)
    return np.asarray(operator(torch.tensor(values)[None], adjacency)[0].numpy())


@dataclass(frozen=True)
class Reduced:
    """What the fits of one cohort read: for every fold and variant one file of (N, k)."""

    bags: Bags
    folds: Ints
    files: dict[tuple[int, str], Path]

    def read(self, fold: int, variant: str) -> Floats:
        """(N, k) components; those of the fold's own patients were projected alone."""
        return np.asarray(np.load(self.files[fold, variant]))


def reduce_folds(bags: Bags, folds: Ints) -> Reduced:
    """Components of every fold's training slides, for all slides, as they are (`spots`) and smoothed (`neighbours`).

    Each call has files of its own: other folds of the same bags must not replace these.
    """
    files, folder = {}, Path(tempfile.mkdtemp(prefix="folds-", dir=bags.folder))
    for fold in range(int(folds.max()) + 1):
        components = fit_components(bags, folds != fold)
        plain = [components.of(bags.read(b)) for b in range(len(bags.slides))]
        for variant in VARIANTS:
            path = folder / f"fold-{fold}-{variant}.npy"
            np.save(path, np.concatenate(project(bags, plain, variant)))
            files[fold, variant] = path
    return Reduced(bags, folds, files)


def project(bags: Bags, plain: list[Floats], variant: str) -> list[Floats]:
    """Components of slides as a variant wants them."""
    if variant == "spots":
        return plain
    return [smoothed(v, s.xy_um) for v, s in zip(plain, bags.slides, strict=True)]
