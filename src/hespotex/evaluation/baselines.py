"""Baselines that stand beside the model: train mean, depth, ridge, nearest patches, neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import HESpotExError
from hespotex.evaluation.components import Components, drawn_evenly, fit_components
from hespotex.evaluation.predictors import Baseline, Known, Rival
from hespotex.genes.panel import Margins, log1p_cpm, pearson_residuals, spot_totals
from hespotex.models.types import TrainingSection

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]

RIDGE_ALPHA = 1000.0
RIDGE_COMPONENTS = 64
_GENE_BLOCK = 512


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
        total += np.where(mask, log1p_cpm(table).sum(axis=0, dtype=np.float64), 0.0)
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
    from sklearn.linear_model import Ridge

    masks = _masks(counts, measured)
    if [len(f) for f in features] != [c.shape[0] for c in counts]:
        raise HESpotExError(
            expected=f"features for {[c.shape[0] for c in counts]} spots",
            found=[len(f) for f in features],
        )
    n_spots = sum(len(f) for f in features)
    if n_spots < 2:
        raise HESpotExError(expected="at least two training spots for ridge", found=n_spots)
    pca, projected = project_features(features, n_components)
    z = projected.astype(np.float64)
    section = np.repeat(np.arange(len(counts)), [c.shape[0] for c in counts])

    n_genes = counts[0].shape[1]
    coefficients = np.zeros((2, z.shape[1], n_genes), dtype=np.float32)
    intercepts = np.zeros((2, n_genes), dtype=np.float32)
    tables, margins = [c.tocsc() for c in counts], [Margins.of(c) for c in counts]
    for genes in (slice(s, min(s + _GENE_BLOCK, n_genes)) for s in range(0, n_genes, _GENE_BLOCK)):
        targets = _ridge_targets(tables, margins, genes)
        # Genes that the same sections measured share their rows, and so one fit.
        patterns, which = np.unique(masks[:, genes], axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            if not pattern.any():
                continue
            rows = pattern[section]
            chosen = np.flatnonzero(which.ravel() == number)
            for target in (0, 1):
                model = Ridge(alpha=alpha, solver="cholesky").fit(
                    z[rows], targets[target][np.ix_(rows, chosen)]
                )
                columns = genes.start + chosen
                coefficients[target][:, columns] = np.reshape(model.coef_, (len(chosen), -1)).T
                intercepts[target, columns] = model.intercept_
    return RidgeBaseline(
        pca.mean, pca.directions, coefficients, intercepts, fit_train_mean(counts, list(masks))
    )


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


def _ridge_targets(
    tables: Sequence[sparse.csc_matrix], margins: Sequence[Margins], genes: slice
) -> tuple[Array, Array]:
    log1p, residuals = [], []
    for table, totals in zip(tables, margins, strict=True):
        values = log1p_cpm(table, genes, totals)
        log1p.append(values - values.mean(axis=0))
        residuals.append(pearson_residuals(table, columns=genes, margins=totals))
    return np.concatenate(log1p), np.concatenate(residuals)


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
