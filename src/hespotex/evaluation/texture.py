"""Whether a slide is as sharp and as coarse as the training slides: contrast, octave by octave.

Encoders see tissue alike over a range of scales and sharpness, so their features do not tell a pixel size that is wrong by
two, or coarse JPEG. Octave bands do: they move by a whole band, or lose one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hespotex.errors import HESpotExError
from hespotex.sections.splits import inner_folds

Floats = npt.NDArray[np.float64]

# What is added to every variance, as share of their mean.
_SHRINKAGE = 0.05
# Mean squared distance of centres, in variances of the spots of one section, that a slide of the same kind may have;
# with P patients in training times 1 + 1 / P: of what patients and their scans differ by, 1 / P is not known.
_LIMIT = 1.0
_MAX_FOLDS = 5
# Variance of a median of n normal values is about this over n.
MEDIAN_VARIANCE = np.pi / 2


@dataclass(frozen=True)
class TextureSpace:
    """Where the texture of the training sections lies.

    Attributes:
        centres: (S, T) median of every training section; NaN in the columns that one of them does not resolve.
        covariance: (T, T) of spots about the centre of their section; 0 in those columns.
        slide_limit: squared distance of centres from which on a slide is unlike.
    """

    centres: Floats
    covariance: Floats
    slide_limit: float

    def shift(self, textures: npt.NDArray[np.float32]) -> float:
        """Squared distance of a slide's spots, (n, T), from the nearest training section in units of the limit.

        Columns that either side does not resolve are left out; 0 where none is left.

        Raises:
            HESpotExError: another number of columns than in training.
        """
        if textures.shape[1] != self.centres.shape[1]:
            raise HESpotExError(
                expected=f"{self.centres.shape[1]} texture values a spot as in training",
                found=textures.shape[1],
            )
        return self._squares(_centre(textures), len(textures)) / self.slide_limit

    def _squares(self, centre: Floats, n_spots: int) -> float:
        known = np.isfinite(self.centres).all(axis=0) & np.isfinite(centre)
        size = int(known.sum())
        if not size:
            return 0.0
        covariance = self.covariance[np.ix_(known, known)]
        added = max(_SHRINKAGE * float(np.trace(covariance)) / size, 1e-12)
        inverse = np.linalg.inv(covariance + added * np.eye(size))
        away = centre[known] - self.centres[:, known]
        squares = np.einsum("si,ij,sj->s", away, inverse, away) / size
        return max(float(squares.min()) - MEDIAN_VARIANCE / n_spots, 0.0)


def fit_textures(
    textures: Sequence[npt.NDArray[np.float32]], patients: Sequence[str]
) -> TextureSpace | None:
    """Learn the texture of training sections; None where they resolve no octave in common.

    Args:
        textures: per section (n, T).
        patients: of every section.
    """
    space = _space(textures)
    if not np.isfinite(space.centres).all(axis=0).any():
        return None
    limit = _LIMIT * (1 + 1 / len(set(patients)))
    if len(textures) == 1:
        return replace(space, slide_limit=limit)
    names, shifts = [f"{i}" for i in range(len(textures))], []
    for fold in inner_folds(names, list(patients), max_folds=_MAX_FOLDS):
        rest = _space([textures[int(i)] for i in fold.train])
        shifts += [rest.shift(textures[int(i)]) for i in fold.held_out]
    # What training sections differ by is usual, however much.
    usual = float(np.quantile(shifts, 0.9, method="higher"))
    return replace(space, slide_limit=max(limit, usual))


def _space(textures: Sequence[npt.NDArray[np.float32]]) -> TextureSpace:
    centres = np.stack([_centre(t) for t in textures])
    known = np.asarray(np.isfinite(centres).all(axis=0), dtype=np.bool_)
    centres[:, ~known] = np.nan
    within = np.concatenate([t - c for t, c in zip(textures, centres, strict=True)])[:, known]
    covariance = np.zeros((len(known), len(known)))
    covariance[np.ix_(known, known)] = within.T @ within / max(len(within) - len(centres), 1)
    return TextureSpace(centres, covariance, _LIMIT)


def _centre(textures: npt.NDArray[np.float32]) -> Floats:
    return np.asarray(np.median(textures, axis=0), dtype=np.float64)
