"""Owns how far a slide's raw features lie from the training slides', and the verdict in words; pure.

Mean distance to the nearest training spots in the principal components of the training features, together
with what the components leave out. Raw features: standardising within a section would hide the very shift that
is looked for. The threshold comes from training sections that were left out of the fit in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from hespotex.errors import HESpotExError
from hespotex.evaluation.components import drawn_evenly, fit_components
from hespotex.splits import spatial_blocks

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Verdict = Literal["like the training slides", "unlike: staining", "unlike: tissue"]

_N_COMPONENTS = 32
_N_NEIGHBOURS = 5
# Enough to cover the training tissue, few enough to travel in a model file.
_MAX_REFERENCE = 5000
# A spot is flagged beyond what so many of the spots of held-out training sections reach: about 6 % in all.
_QUANTILE = 0.95
_COLOUR_QUANTILE = 0.99
# A slide is unlike when most of its spots are.
_SLIDE_SHARE = 0.5
_N_BLOCKS = 4


@dataclass(frozen=True)
class DistanceModel:
    """Distance from a cloud of training spots.

    Attributes:
        mean: (P,) of the training spots.
        scale: (P,) standard deviation, not below half the median one: a column that hardly moves in
            training would otherwise decide alone.
        components: (P, K) principal directions of the scaled columns.
        reference: (R, K) training spots in the components.
        threshold: distance beyond which a spot is flagged.
    """

    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]
    reference: npt.NDArray[np.float32]
    threshold: float

    def distance(self, values: Array) -> npt.NDArray[np.float64]:
        """(n,) distance from the nearest training spots, in the unit of the scaled features.

        Raises:
            HESpotExError: another number of columns than in training.
        """
        from sklearn.neighbors import NearestNeighbors

        flat = _flat(values)
        if flat.shape[1] != len(self.mean):
            raise HESpotExError(
                f"expected {len(self.mean)} features a spot as in training, found {flat.shape[1]}"
            )
        z = np.asarray((flat - self.mean) / self.scale, dtype=np.float32)
        projected = z @ self.components
        squares = np.square(z).sum(axis=1, dtype=np.float64)
        rest = np.maximum(squares - np.square(projected).sum(axis=1, dtype=np.float64), 0)
        k = min(_N_NEIGHBOURS, len(self.reference))
        near, _ = NearestNeighbors(n_neighbors=k).fit(self.reference).kneighbors(projected)
        return np.asarray(np.sqrt(near.mean(axis=1) ** 2 + rest))


@dataclass(frozen=True)
class OodReport:
    """How one slide compares with the training slides.

    Attributes:
        score: (n,) distance of every spot in units of the threshold: above 1 is flagged.
        flagged: (n,).
        share: of flagged spots.
        verdict: on the slide.
    """

    score: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    share: float
    verdict: Verdict


@dataclass(frozen=True)
class OodModel:
    """What training slides look like.

    Attributes:
        features: of the encoder's raw features.
        colours: of colour statistics per spot; None if there were none.
    """

    features: DistanceModel
    colours: DistanceModel | None = None

    def report(self, features: Array, colours: Array | None = None) -> OodReport:
        """Compare the spots of one slide.

        Args:
            features: (n, S, D) or (n, P) raw features.
            colours: (n, C) colour statistics, as in training; without them every unlike slide is `tissue`.
        """
        score = self.features.distance(features) / self.features.threshold
        if self.colours is not None and colours is not None:
            # Encoders are trained to look past colour; who trusts a prediction should not.
            score = np.maximum(score, self.colours.distance(colours) / self.colours.threshold)
        flagged = score > 1
        share = float(flagged.mean())
        return OodReport(score, flagged, share, self.verdict(flagged, colours))

    def verdict(self, flagged: npt.NDArray[np.bool_], colours: Array | None = None) -> Verdict:
        """On a whole slide, from the flags (n,) and colours (n, C) of its spots."""
        if float(flagged.mean()) <= _SLIDE_SHARE:
            return "like the training slides"
        if self.colours is not None and colours is not None:
            distance = self.colours.distance(colours) / self.colours.threshold
            if float((distance > 1).mean()) > _SLIDE_SHARE:
                return "unlike: staining"
        return "unlike: tissue"


def fit_ood(
    features: Sequence[Array],
    xy_um: Sequence[npt.NDArray[np.float64]],
    colours: Sequence[Array] | None = None,
) -> OodModel:
    """Learn what the training slides look like.

    Args:
        features: per training section (n, S, D) or (n, P) raw features.
        xy_um: per section (n, 2); with one section, spatial blocks of it are left out in turn.
        colours: per section (n, C) colour statistics, for instance mean and deviation of R, G and B.

    Raises:
        HESpotExError: no section, or too few spots.
    """
    colour_model = None if colours is None else _fit(colours, xy_um, _COLOUR_QUANTILE)
    return OodModel(_fit(features, xy_um, _QUANTILE), colour_model)


def _fit(
    values: Sequence[Array], xy_um: Sequence[npt.NDArray[np.float64]], quantile: float
) -> DistanceModel:
    parts = [_flat(v) for v in values]
    if not parts or sum(map(len, parts)) < 2 * _N_BLOCKS:
        raise HESpotExError(
            f"expected at least {2 * _N_BLOCKS} training spots to learn what slides look like, "
            f"found {sum(map(len, parts))}"
        )
    distances, weights = [], []
    for held_out, train in _left_out(parts, xy_um):
        distances.append(_cloud(train).distance(held_out))
        weights.append(np.full(len(held_out), 1 / len(held_out)))
    reached, weight = np.concatenate(distances), np.concatenate(weights)
    order = np.argsort(reached, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    threshold = float(reached[order][np.searchsorted(share, quantile)])
    return replace(_cloud(_drawn(parts)), threshold=max(threshold, 1e-12))


def _left_out(
    parts: Sequence[Array], xy_um: Sequence[npt.NDArray[np.float64]]
) -> Iterator[tuple[Array, Array]]:
    if len(parts) > 1:
        for i, part in enumerate(parts):
            yield part, _drawn([p for j, p in enumerate(parts) if j != i])
        return
    for fold in spatial_blocks(xy_um[0], _N_BLOCKS, 0):
        yield parts[0][fold.held_out], _drawn([parts[0][fold.train]])


def _drawn(parts: Sequence[Array]) -> Array:
    """Spots of all sections, drawn evenly where there are more than a cloud needs."""
    rows = drawn_evenly([len(p) for p in parts])
    return np.concatenate([part[row] for part, row in zip(parts, rows, strict=True)])


def _cloud(values: Array) -> DistanceModel:
    mean = values.mean(axis=0, dtype=np.float64)
    sd = values.std(axis=0, dtype=np.float64)
    smallest = 0.5 * float(np.median(sd))
    sd = np.maximum(sd, smallest if smallest > 0 else max(float(sd.max()), 1e-12))
    z = np.asarray((values - mean) / sd, dtype=np.float32)
    components = fit_components(z, max(1, min(_N_COMPONENTS, len(z) // 4))).directions
    (kept,) = drawn_evenly([len(z)], _MAX_REFERENCE)
    return DistanceModel(
        mean.astype(np.float32), sd.astype(np.float32), components, z[kept] @ components, np.inf
    )


def _flat(values: Array) -> npt.NDArray[np.float32]:
    return np.asarray(np.reshape(values, (len(values), -1)), dtype=np.float32)
