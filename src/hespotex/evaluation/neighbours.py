"""Owns the baselines that average other spots: the training patches that look alike, and the spots next door; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.evaluation.baselines import project_features, standardise_features
from hespotex.evaluation.components import drawn_evenly
from hespotex.evaluation.spatial_structure import lattice_weights
from hespotex.expression import log1p_cpm, pearson_residuals

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]

N_NEAREST = 20
_N_COMPONENTS = 64
# Training spots that are searched, at most, drawn evenly: time stays linear in the spots of a section.
_MAX_REFERENCE = 16384


def nearest_patches(
    train_features: Sequence[Array],
    train_counts: Sequence[sparse.csr_matrix],
    features: Array,
    *,
    k: int = N_NEAREST,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean over the k training spots whose patches look most alike.

    Args:
        train_features: per training section (n, S, D) or (n, P), the model's input; standardised within it.
        train_counts: per training section (n, G) raw counts over the panel.
        features: of the held-out section.
        k: how many.

    Returns:
        Predicted log1p(CPM over the panel) and composition (residual scale), (m, G) each.
    """
    from sklearn.neighbors import NearestNeighbors

    pca, known = project_features(train_features, _N_COMPONENTS)
    k = min(k, len(known))
    (kept,) = drawn_evenly([len(known)], _MAX_REFERENCE)
    index = NearestNeighbors(n_neighbors=k).fit(known[kept])
    alike = index.kneighbors(pca.transform(standardise_features(features)), return_distance=False)
    alike = kept[alike]
    rows = np.repeat(np.arange(len(alike)), k)
    pick = sparse.csr_matrix(
        (np.full(alike.size, 1 / k, dtype=np.float32), (rows, alike.ravel())),
        shape=(len(alike), len(known)),
    )
    n_genes = train_counts[0].shape[1]
    log1p = np.zeros((len(alike), n_genes), dtype=np.float32)
    composition = np.zeros_like(log1p)
    start = 0
    for counts in train_counts:
        part = pick[:, start : start + counts.shape[0]]
        log1p += part @ log1p_cpm(counts)
        composition += part @ pearson_residuals(counts)
        start += counts.shape[0]
    return log1p, composition


def measured_neighbours(
    counts: sparse.csr_matrix, xy_um: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean of what was measured in the lattice neighbours of a spot, the spot itself left out.

    An upper mark, not a prediction: it reads the held-out expression. A spot without neighbours gets the
    section's mean.

    Returns:
        log1p(CPM over the panel) and composition (residual scale), (n, G) each.
    """
    weights = lattice_weights(xy_um)
    number = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1.0, number, out=np.zeros_like(number), where=number > 0)
    mean = sparse.csr_matrix(sparse.diags(scale) @ weights, dtype=np.float32)
    results = []
    for values in (log1p_cpm(counts), pearson_residuals(counts)):
        around = mean @ values
        around[number == 0] = values.mean(axis=0)
        results.append(around)
    return results[0], results[1]
