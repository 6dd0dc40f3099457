"""Baselines that average other spots: similar training patches, and measured neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.evaluation.baselines import project_features, standardise_features
from hespotex.evaluation.components import Components, drawn_evenly
from hespotex.evaluation.predictors import Baseline, Known, Rival
from hespotex.evaluation.spatial_structure import lattice_weights, row_normalised
from hespotex.genes.panel import Margins, log1p_cpm, pearson_residuals, spot_totals
from hespotex.models.fit import training_section
from hespotex.models.types import TrainingSection

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]

N_NEAREST = 20
_N_COMPONENTS = 64
# Training spots that are searched, at most, drawn evenly: time stays linear in the spots of a section.
MAX_REFERENCE = 16384


@dataclass(frozen=True)
class NearestPatches:
    """Training spots to look among.

    Attributes:
        mean: (P,) of the standardised training features.
        directions: (P, K) principal directions.
        projected: (R, K) the spots in them.
        counts: (R, G) their raw counts over the panel.
        section: (R,) which training section a spot is of, ascending.
        gene_totals: (S, G) total of every gene over all spots of a section.
        measured: (S, G) genes that a section's assay looked for.
    """

    mean: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    projected: npt.NDArray[np.float32]
    counts: sparse.csr_matrix
    section: npt.NDArray[np.int32]
    gene_totals: npt.NDArray[np.float64]
    measured: npt.NDArray[np.bool_]

    def predict(
        self, features: Array, *, k: int = N_NEAREST
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Mean over those of the k spots whose patches look most alike that measured the gene.

        Where none of them did, log1p is the mean over all spots that did, and composition is 0.

        Args:
            features: (m, S, D) or (m, P) of the held-out section; standardised within it.

        Returns:
            Predicted log1p(CPM over the panel) and composition (residual scale), (m, G) each.
        """
        from sklearn.neighbors import NearestNeighbors

        k = min(k, len(self.projected))
        index = NearestNeighbors(n_neighbors=k).fit(self.projected)
        own = Components(self.mean, self.directions).transform(standardise_features(features))
        alike = index.kneighbors(own, return_distance=False)
        rows = np.repeat(np.arange(len(alike)), k)
        pick = sparse.csr_matrix(
            (np.full(alike.size, 1 / k, dtype=np.float32), (rows, alike.ravel())),
            shape=(len(alike), len(self.projected)),
        )
        log1p = np.zeros((len(alike), self.counts.shape[1]), dtype=np.float32)
        composition, weight = np.zeros_like(log1p), np.zeros_like(log1p)
        total, n_spots = np.zeros(log1p.shape[1]), np.zeros(log1p.shape[1])
        for number, genes in enumerate(self.gene_totals):
            spots, measured = np.flatnonzero(self.section == number), self.measured[number]
            if len(spots):
                part, counts = pick[:, spots], self.counts[spots]
                values = log1p_cpm(counts)
                log1p += measured * (part @ values)
                margins = Margins(spot_totals(counts), genes)
                composition += measured * (part @ pearson_residuals(counts, margins=margins))
                weight += np.multiply.outer(np.asarray(part.sum(axis=1)).ravel(), measured)
                total += measured * values.sum(axis=0, dtype=np.float64)
                n_spots += measured * len(spots)
        if not self.measured.all():
            seen = weight > 0.5 / k
            np.divide(log1p, weight, out=log1p, where=seen)
            np.divide(composition, weight, out=composition, where=seen)
            mean = (total / np.maximum(n_spots, 1)).astype(np.float32)
            log1p = np.where(seen, log1p, mean)
        return log1p, composition

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        return {
            "mean": self.mean,
            "directions": self.directions,
            "projected": self.projected,
            "section": self.section,
            "gene_totals": self.gene_totals,
            "measured": self.measured,
            "data": self.counts.data.astype(np.float32),
            "indices": self.counts.indices.astype(np.int32),
            "indptr": self.counts.indptr.astype(np.int64),
        }

    @classmethod
    def from_tensors(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> NearestPatches:
        """Read what `tensors` wrote. Version 0.1 wrote no `measured`: every gene counts as measured there."""
        shape = (len(arrays["projected"]), arrays["gene_totals"].shape[1])
        counts = sparse.csr_matrix(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape
        )
        names = ("mean", "directions", "projected", "section", "gene_totals")
        measured = arrays.get("measured", np.ones(arrays["gene_totals"].shape, dtype=np.bool_))
        return cls(counts=counts, measured=measured, **{name: arrays[name] for name in names})


def fit_nearest(
    features: Sequence[Array],
    counts: Sequence[sparse.csr_matrix],
    at_most: int = MAX_REFERENCE,
    *,
    measured: Sequence[npt.NDArray[np.bool_]] | None = None,
) -> NearestPatches:
    """The training spots, drawn evenly where there are more than `at_most`.

    Args:
        features: per training section (n, S, D) or (n, P), the model's input; standardised within it.
        counts: per training section (n, G) raw counts over the panel.
        measured: per training section (G,); None if all genes were measured everywhere.
    """
    components, projected = project_features(features, _N_COMPONENTS)
    sizes = [c.shape[0] for c in counts]
    (kept,), of_each = drawn_evenly([len(projected)], at_most), drawn_evenly(sizes, at_most)
    section = np.repeat(np.arange(len(counts)), sizes)
    totals = np.stack([np.asarray(c.sum(axis=0, dtype=np.float64)).ravel() for c in counts])
    return NearestPatches(
        components.mean,
        components.directions,
        projected[kept],
        sparse.vstack([c[rows] for c, rows in zip(counts, of_each, strict=True)], format="csr"),
        section[kept].astype(np.int32),
        totals,
        np.ones(totals.shape, dtype=np.bool_) if measured is None else np.stack(list(measured)),
    )


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
    mean, alone = row_normalised(weights).astype(np.float32), np.diff(weights.indptr) == 0
    results = []
    for values in (log1p_cpm(counts), pearson_residuals(counts)):
        around = mean @ values
        around[alone] = values.mean(axis=0)
        results.append(around)
    return results[0], results[1]


def _fit_nearest(
    sections: Sequence[TrainingSection], n_spots: int = MAX_REFERENCE
) -> NearestPatches:
    return fit_nearest(
        [s.features for s in sections],
        [s.counts for s in sections],
        n_spots,
        measured=[s.measured for s in sections],
    )


def _kept_spots(sections: Sequence[TrainingSection], n: int) -> Mapping[str, npt.NDArray[Any]]:
    return _fit_nearest(sections, n).tensors() if n else {}


def _nearest(known: Known) -> Rival | None:
    if known.train is not None:
        nearest = _fit_nearest([training_section(t, known.panel) for t in known.train.items])
    elif "projected" in known.arrays:
        nearest = NearestPatches.from_tensors(known.arrays)
    else:
        return None
    return Rival(*nearest.predict(known.item.features))


def _neighbours(known: Known) -> Rival | None:
    if known.counts is None:
        return None
    return Rival(*measured_neighbours(known.counts, known.item.section.xy_um))


NEAREST_PATCHES = Baseline(_nearest, _kept_spots, stored_as="nearest")
NEIGHBOURS = Baseline(_neighbours)
