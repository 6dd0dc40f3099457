"""Ridge from the mean raw feature of a patient's slides to the level of every gene: a baseline of levels; pure.

It sees whatever stain and scanner do to a whole slide. With many features it is kept by patients: what was seen of each, and a
weight for every gene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.models.default.level import by_patient, patient_names, slide_values
from hespotex.models.types import TrainingSection

Float64 = npt.NDArray[np.float64]

_PREFIX: Final = "level_ridge."
_LEAST_PENALTY: Final = 1e-9


@dataclass(frozen=True)
class LevelRidge:
    """A fitted ridge.

    Attributes:
        centre, spread: (F,) of what is seen of the training patients; spread 0 for a column that does not vary.
        known: (P, F) the training patients, standardised.
        weights: (P, G).
    """

    centre: npt.NDArray[np.floating[Any]]
    spread: npt.NDArray[np.floating[Any]]
    known: npt.NDArray[np.floating[Any]]
    weights: npt.NDArray[np.floating[Any]]

    @classmethod
    def fit(cls, seen: Float64, values: Float64) -> LevelRidge:
        """From (P, F) what is seen and (P, G) levels of mean 0; a penalty of the columns' own variance where they are many."""
        centre, spread = seen.mean(axis=0), seen.std(axis=0)
        known = _standardised(seen, centre, spread)
        kernel = known @ known.T
        penalty = float(np.trace(kernel)) / max(len(seen) - 1, 1) if seen.shape[1] > 1 else 0.0
        added = max(penalty, _LEAST_PENALTY) * np.eye(len(seen))
        return cls(centre, spread, known, np.linalg.solve(kernel + added, values))

    def predict(self, seen: Float64) -> Float64:
        """(n, G) levels of (n, F)."""
        return np.asarray(
            _standardised(seen, self.centre, self.spread) @ self.known.T @ self.weights
        )

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        return {f"{_PREFIX}{k}": np.asarray(v, np.float32) for k, v in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> LevelRidge | None:
        """What `tensors` wrote; None in a model without it."""
        names = [f"{_PREFIX}{k}" for k in ("centre", "spread", "known", "weights")]
        if any(name not in tensors for name in names):
            return None
        return cls(*(np.asarray(tensors[name], np.float64) for name in names))


def fit_level_ridge(sections: Sequence[TrainingSection]) -> dict[str, npt.NDArray[Any]]:
    """Arrays for the model file, of the patients of these sections; none with fewer than two patients."""
    owners = patient_names([s.patient_id for s in sections], [s.section_id for s in sections])
    names, seen = by_patient(np.stack([mean_feature(s.features) for s in sections]), owners)
    if len(names) < 2:
        return {}
    _, values = by_patient(slide_values(sections)[:, :-1], owners)
    return LevelRidge.fit(seen, values - values.mean(axis=0)).tensors()


def level_by_ridge(
    arrays: Mapping[str, npt.NDArray[Any]], mean: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float32] | None:
    """(G,) level of a slide by the ridge of a model file; None where it has none.

    Args:
        arrays: `trust` of a bundle.
        mean: (S, D) mean raw feature of the slide.
    """
    ridge = LevelRidge.from_tensors(arrays)
    if ridge is None:
        return None
    return np.asarray(ridge.predict(mean.astype(np.float64).reshape(1, -1))[0], np.float32)


def mean_feature(features: npt.NDArray[np.float32]) -> Float64:
    """(S x D,) mean of (n, S, D) raw features over the spots of a slide."""
    return np.asarray(features.mean(axis=0, dtype=np.float64).ravel())


def _standardised(
    seen: Float64, centre: npt.NDArray[np.floating[Any]], spread: npt.NDArray[np.floating[Any]]
) -> Float64:
    return np.asarray((seen - centre) / np.where(spread > 0, spread, np.inf))
