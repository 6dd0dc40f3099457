"""Baselines that stand beside the model: train mean, depth, ridge, nearest patches, neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import HESpotExError
from hespotex.evaluation.components import Components, drawn_evenly, fit_components
from hespotex.evaluation.predictors import Baseline, Known, Rival
from hespotex.genes.panel import Margins, pearson_residuals, sparse_log1p_cpm, spot_totals
from hespotex.models.types import TrainingSection

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]

RIDGE_ALPHA = 1000.0
RIDGE_COMPONENTS = 64
_BLOCK_ENTRIES = 2**20  # (spots, genes) values that are worked on at once


def fit_train_mean(
    counts: Sequence[sparse.csr_matrix], measured: Sequence[npt.NDArray[np.bool_]] | None = None
) -> npt.NDArray[np.float32]:
    """(G,) mean log1p(CPM) over the training spots of the sections that measured the gene (0 if none did).

    Args:
        counts: per training section (n, G) raw counts over the panel.
        measured: per training section (G,); None if all genes were measured everywhere.
    """
    masks = _masks(counts, measured)
    total = np.zeros(counts[0].shape[1])
    spots = np.zeros(counts[0].shape[1])
    for table, mask in zip(counts, masks, strict=True):
        total += np.where(mask, _column_sums(sparse_log1p_cpm(table)), 0.0)
        spots += mask * table.shape[0]
    return (total / np.maximum(spots, 1)).astype(np.float32)


def depth_only(counts: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """(n, 1) the measured panel total of every held-out spot, as the prediction for every gene alike.

    An oracle: it reads the held-out counts. On the scale of log1p(total), as measured depth is
    compared throughout. It is no prediction in units, so it has no error in units.
    """
    return np.log1p(spot_totals(counts))[:, None]


def predicted_depth_only(predicted_depth: Array) -> npt.NDArray[np.float64]:
    """(n, 1) the depth predicted from the image, on the scale of log1p, for every gene alike.

    Args:
        predicted_depth: (n,) expected total count over the panel.
    """
    return np.log1p(np.maximum(np.asarray(predicted_depth, dtype=np.float64), 0.0))[:, None]


@dataclass(frozen=True)
class RidgeBaseline:
    """Ridge on principal components of the standardised features, once per target.

    Attributes:
        mean: (P,) of the standardised training features.
        components: (P, K) principal directions.
        coefficients: (2, K, G) for log1p centred per section, and for Pearson residuals.
        intercepts: (2, G).
        train_mean: (G,) added back to the first target.
    """

    mean: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]
    coefficients: npt.NDArray[np.float32]
    intercepts: npt.NDArray[np.float32]
    train_mean: npt.NDArray[np.float32]

    def predict(self, features: Array) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Predicted log1p(CPM over the panel) and composition (residual scale), (n, G) each.

        Args:
            features: (n, S, D) or (n, P) of one section.
        """
        z = self.project(features)
        log1p = z @ self.coefficients[0] + self.intercepts[0] + self.train_mean
        return log1p, z @ self.coefficients[1] + self.intercepts[1]

    def project(self, features: Array) -> npt.NDArray[np.float32]:
        """(n, K) principal components of one section's features."""
        return np.asarray((standardise_features(features) - self.mean) @ self.components)


def fit_ridge(
    features: Sequence[Array],
    counts: Sequence[sparse.csr_matrix],
    measured: Sequence[npt.NDArray[np.bool_]] | None = None,
    *,
    alpha: float = RIDGE_ALPHA,
    n_components: int = RIDGE_COMPONENTS,
) -> RidgeBaseline:
    """Fit ridge on training sections.

    Args:
        features: per section (n, S, D) or (n, P), the model's input; standardised here within the section.
        counts: per section (n, G) raw counts over the panel.
        measured: per section (G,); a gene is fitted on the sections that measured it. None: all.

    Raises:
        HESpotExError: features and counts do not belong together, or fewer than two spots.
    """
    masks = _masks(counts, measured)
    if [len(f) for f in features] != [c.shape[0] for c in counts]:
        raise HESpotExError(
            expected=f"features for {[c.shape[0] for c in counts]} spots",
            found=[len(f) for f in features],
        )
    sizes = [len(f) for f in features]
    if sum(sizes) < 2:
        raise HESpotExError(expected="at least two training spots for ridge", found=sum(sizes))
    pca, projected = project_features(features, n_components)
    parts = np.split(projected.astype(np.float64), np.cumsum(sizes)[:-1])
    # Genes that the same sections measured share their spots, and so what is known of the features there.
    patterns, which = np.unique(masks, axis=1, return_inverse=True)
    moments = _RidgeMoments.of(parts, counts, masks, patterns)
    coefficients = np.zeros(moments.moved.shape, dtype=np.float32)
    intercepts = np.zeros(moments.of_y.shape, dtype=np.float32)
    for number in np.flatnonzero(moments.n).tolist():
        genes = np.flatnonzero(which.ravel() == number)
        solved, intercepts[:, genes] = moments.solved(number, genes, alpha)
        coefficients[:, :, genes] = solved
    mean = fit_train_mean(counts, list(masks))
    return RidgeBaseline(pca.mean, pca.directions, coefficients, intercepts, mean)


@dataclass(frozen=True)
class _RidgeMoments:
    """Sums over spots that ridge is solved from, by pattern of sections that measured a gene; M patterns, two targets.

    Attributes:
        square: (M, K, K) z' z.
        of_z: (M, K) z.
        n: (M,) spots.
        moved: (2, K, G) z' y.
        of_y: (2, G) y.
    """

    square: npt.NDArray[np.float64]
    of_z: npt.NDArray[np.float64]
    n: npt.NDArray[np.float64]
    moved: npt.NDArray[np.float64]
    of_y: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls,
        parts: Sequence[npt.NDArray[np.float64]],
        counts: Sequence[sparse.csr_matrix],
        masks: npt.NDArray[np.bool_],
        patterns: npt.NDArray[np.bool_],
    ) -> _RidgeMoments:
        """From (n_i, K) projected features of sections and their counts, one section at a time."""
        k, n_genes, m = parts[0].shape[1], counts[0].shape[1], patterns.shape[1]
        found = cls(
            np.zeros((m, k, k)), np.zeros((m, k)), np.zeros(m),
            np.zeros((2, k, n_genes)), np.zeros((2, n_genes)),
        )  # fmt: skip
        for z, table, mask, pattern in zip(parts, counts, masks, patterns, strict=True):
            found.square[pattern] += z.T @ z
            found.of_z[pattern] += z.sum(axis=0)
            found.n[pattern] += len(z)
            for target, (products, sums) in enumerate(_ridge_products(z, table)):
                found.moved[target] += products * mask
                found.of_y[target] += sums * mask
        return found

    def solved(
        self, number: int, genes: npt.NDArray[np.intp], alpha: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(2, K, g) coefficients and (2, g) intercepts of genes of a pattern, targets and features centred over its spots."""
        z, y = self.of_z[number] / self.n[number], self.of_y[:, genes] / self.n[number]
        gram = self.square[number] - np.outer(self.of_z[number], z) + alpha * np.eye(len(z))
        right = self.moved[:, :, genes] - np.einsum("k,tg->tkg", self.of_z[number], y)
        coefficients = np.linalg.solve(gram, right)
        return coefficients, y - np.einsum("k,tkg->tg", z, coefficients)


def _ridge_products(
    z: npt.NDArray[np.float64], table: sparse.csr_matrix
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Of both targets of a section: z' y, (K, G), and the sum over its spots, (G,); no table of the section is ever dense."""
    margins = Margins.of(table)
    values = sparse_log1p_cpm(table, margins=margins)
    mean = _column_sums(values) / len(z)
    yield np.asarray(values.T @ z).T - np.outer(z.sum(axis=0), mean), np.zeros(len(mean))
    products, sums = np.zeros((z.shape[1], len(mean))), np.zeros(len(mean))
    height = max(1, _BLOCK_ENTRIES // len(mean))
    for rows in (slice(at, at + height) for at in range(0, len(z), height)):
        residuals = pearson_residuals(table, margins=margins, rows=rows)
        products += z[rows].T @ residuals
        sums += residuals.sum(axis=0, dtype=np.float64)
    yield products, sums


def project_features(
    features: Sequence[Array], n_components: int
) -> tuple[Components, npt.NDArray[np.float32]]:
    """Principal components of the sections' standardised features, and (n, K) all spots in them.

    One section is standardised at a time, so that no table of all spots and features is held twice.
    """
    rows = drawn_evenly([len(f) for f in features])
    drawn = [standardise_features(f)[r] for f, r in zip(features, rows, strict=True)]
    components = fit_components(np.concatenate(drawn), n_components)
    return components, np.concatenate(
        [components.transform(standardise_features(f)) for f in features]
    )


def standardise_features(features: Array) -> npt.NDArray[np.float32]:
    """(n, P) features of one section with mean 0 and standard deviation 1 in every column.

    Scales are laid side by side; a constant column becomes 0.
    """
    flat = np.reshape(features, (len(features), -1))
    mean = flat.mean(axis=0, dtype=np.float64)
    sd = flat.std(axis=0, dtype=np.float64)
    sd[sd <= 1e-6 * np.abs(mean)] = np.inf
    sd[sd == 0] = np.inf
    return np.asarray((flat - mean) / sd, dtype=np.float32)


def _column_sums(table: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    return np.asarray(table.sum(axis=0, dtype=np.float64)).ravel()


def _masks(
    counts: Sequence[sparse.csr_matrix], measured: Sequence[npt.NDArray[np.bool_]] | None
) -> npt.NDArray[np.bool_]:
    if not counts:
        raise HESpotExError(expected="counts of at least one training section", found="none")
    if measured is None:
        return np.ones((len(counts), counts[0].shape[1]), dtype=np.bool_)
    return np.stack(list(measured))


def _kept_ridge(sections: Sequence[TrainingSection], _n: int) -> Mapping[str, npt.NDArray[Any]]:
    ridge = fit_ridge(
        [s.features for s in sections], [s.counts for s in sections], [s.measured for s in sections]
    )
    return {f.name: getattr(ridge, f.name) for f in fields(ridge)}


def _ridge(known: Known) -> Rival | None:
    if "mean" not in known.arrays:
        return None
    return Rival(*_restored(known.arrays).predict(known.item.features))


def stored_ridge(arrays: Mapping[str, npt.NDArray[Any]]) -> RidgeBaseline | None:
    """The ridge of a model file's arrays of trust; None where it has none."""
    own = {k.removeprefix("ridge."): v for k, v in arrays.items() if k.startswith("ridge.")}
    return _restored(own) if own else None


def _restored(arrays: Mapping[str, npt.NDArray[Any]]) -> RidgeBaseline:
    return RidgeBaseline(**{f.name: arrays[f.name] for f in fields(RidgeBaseline)})


def _kept_mean(sections: Sequence[TrainingSection], _n: int) -> Mapping[str, npt.NDArray[Any]]:
    return {"log1p": fit_train_mean([s.counts for s in sections], [s.measured for s in sections])}


def _train_mean(known: Known) -> Rival | None:
    if "log1p" not in known.arrays:
        return None
    mean = known.arrays["log1p"]
    return Rival(np.broadcast_to(mean, (known.item.section.n_spots, len(mean))))


def _depth(known: Known) -> Rival | None:
    if known.counts is None:
        return None
    depth = depth_only(known.counts)
    return Rival(depth, depth, in_units=False)


def _predicted_depth(known: Known) -> Rival:
    depth = predicted_depth_only(known.prediction.depth)
    return Rival(depth, depth, in_units=False)


RIDGE = Baseline(_ridge, _kept_ridge)
TRAIN_MEAN = Baseline(_train_mean, _kept_mean)
DEPTH_ONLY = Baseline(_depth)
PREDICTED_DEPTH_ONLY = Baseline(_predicted_depth)
