"""Distance of a slide's features from those of the training slides, and the verdict in words.

The distance is Mahalanobis' in the principal components of the training features. It is taken in two steps, since a
whole slide can be unlike, or single spots of it. First, the slide's centre is compared with the nearest training section's
centre; the limit is how far spots of one section lie from their own centre. Second, a spot is compared with its slide's
centre. Both limits are measured on training sections that were left out of the fit in turn. Features are raw:
standardising within a section would hide the very shift that is looked for. Colour statistics are compared likewise;
`evaluation.texture` compares slides by texture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from hespotex.errors import HESpotExError
from hespotex.evaluation.components import drawn_evenly, fit_components
from hespotex.evaluation.texture import MEDIAN_VARIANCE, TextureSpace, fit_textures
from hespotex.features.appearance import Appearance
from hespotex.sections.splits import inner_folds, spatial_blocks

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]
Verdict = Literal[
    "like the training slides",
    "unlike: staining",
    "unlike: scale or sharpness",
    "unlike: resolution",
    "unlike: tissue",
]

_N_COMPONENTS = 32
# What is added to every variance, as share of their mean: weak directions are not trusted.
_SHRINKAGE = 0.05
# This share of the spots of left-out training sections lies within the limit.
_QUANTILE = 0.95
_COLOUR_QUANTILE = 0.99
# Squared distance of centres, in variances of the spots of one section, that a slide of the same kind may have.
# Stains differ between batches and the model standardises features in the section: colours may differ by two deviations.
_SLIDE_LIMIT = 1.0
_COLOUR_SLIDE_LIMIT = 4.0
# A slide is also unlike when most of its spots are.
_SLIDE_SHARE = 0.5
# Pixels so many times larger than in training can be the reason for any shift of the features.
COARSER = 2.0
_N_BLOCKS = 4
_MAX_FOLDS = 5


@dataclass(frozen=True)
class Place:
    """Where a slide lies.

    Attributes:
        centre: (K,) median of its spots.
        shift: squared distance from the nearest training section's centre, in units of the limit: above 1 is unlike.
    """

    centre: Floats
    shift: float


@dataclass(frozen=True)
class SectionSpace:
    """Coordinates in which the spots of a training section scatter alike in every direction.

    Attributes:
        mean: (P,) of the training spots.
        projection: (P, K) from centred columns to the coordinates.
        centres: (S, K) median of every training section.
        scatter: mean squared coordinate of left-out spots about their centre.
        slide_limit: squared distance of centres, in units of `scatter`, from which on a slide is unlike.
        spot_limit: root mean squared coordinate about the slide's centre beyond which a spot is flagged.
    """

    mean: npt.NDArray[np.float32]
    projection: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    scatter: float
    slide_limit: float
    spot_limit: float

    def project(self, values: Array) -> Floats:
        """(n, K) coordinates of spots.

        Raises:
            HESpotExError: another number of columns than in training.
        """
        flat = _flat(values)
        if flat.shape[1] != len(self.mean):
            raise HESpotExError(
                expected=f"{len(self.mean)} features a spot as in training", found=flat.shape[1]
            )
        return np.asarray((flat - self.mean) @ self.projection, dtype=np.float64)

    def place(self, projected: Floats) -> Place:
        """Where the slide of these spots lies, (n, K); the uncertainty of a centre of few spots counts in its favour."""
        centre = np.median(projected, axis=0)
        squares = np.square(centre - self.centres).mean(axis=1).min() / self.scatter
        error = MEDIAN_VARIANCE / len(projected)
        return Place(centre, float(max(squares - error, 0.0) / self.slide_limit))

    def spot_score(self, projected: Floats, centre: Floats) -> Floats:
        """(n,) distance from the slide's centre in units of the limit."""
        return _spot_distance(projected, centre) / self.spot_limit


@dataclass(frozen=True)
class SlidePlace:
    """Where a slide lies by its features, and by its appearance where that is known.

    Attributes:
        features: by raw features.
        colours: by colour statistics, or None.
        texture: shift of its texture, in units of the limit.
    """

    features: Place
    colours: Place | None = None
    texture: float = 0.0

    @property
    def shift(self) -> float:
        """The largest of the shifts."""
        return max(self.features.shift, self.colour, self.texture)

    @property
    def colour(self) -> float:
        """Shift of its colours, in units of the limit."""
        return self.colours.shift if self.colours else 0.0


@dataclass(frozen=True)
class OodReport:
    """How one slide compares with the training slides.

    Attributes:
        score: (n,) above 1 is flagged: distance of the spot from its slide's centre, or of the slide from
            the training slides if that is more, each in units of its limit.
        flagged: (n,).
        share: of flagged spots.
        verdict: on the slide.
    """

    score: Floats
    flagged: npt.NDArray[np.bool_]
    share: float
    verdict: Verdict


@dataclass(frozen=True)
class OodModel:
    """A description of the training slides, with which other slides are compared.

    Attributes:
        features: of the encoder's raw features.
        colours: of colour statistics per spot; None if there were none.
        textures: of texture per spot; None if there was none.
    """

    features: SectionSpace
    colours: SectionSpace | None = None
    textures: TextureSpace | None = None

    def place(self, parts: Iterable[tuple[Array, Appearance | None]]) -> SlidePlace:
        """Where a slide lies, from (features, appearance) of all its spots, part by part.

        Raises:
            HESpotExError: no spot, or another encoder's features.
        """
        features, looks = [], []
        for values, appearance in parts:
            features.append(self.features.project(values))
            if appearance is not None:
                looks.append(appearance)
        if not sum(map(len, features)):
            raise HESpotExError(expected="spots to compare with the training slides", found="none")
        place = SlidePlace(self.features.place(np.concatenate(features)))
        if not looks:
            return place
        seen = Appearance.joined(looks)
        if self.colours is not None:
            place = replace(place, colours=self.colours.place(self.colours.project(seen.colours)))
        if self.textures is not None:
            place = replace(place, texture=self.textures.shift(seen.textures))
        return place

    def report(
        self,
        features: Array,
        appearance: Appearance | None = None,
        place: SlidePlace | None = None,
        *,
        coarser: float = 1.0,
    ) -> OodReport:
        """Compare the spots of one slide, or of a part of it.

        Args:
            features: (n, S, D) or (n, P) raw features.
            appearance: of the same spots; without it every unlike slide is `tissue`.
            place: of the whole slide; None: these spots are the whole slide.
            coarser: microns per pixel of the slide, divided by those of the coarsest training slide.
        """
        where = place or self.place([(features, appearance)])
        score = self.features.spot_score(self.features.project(features), where.features.centre)
        if self.colours is not None and appearance is not None and where.colours is not None:
            # Encoders are trained to look past colour; who trusts a prediction should not.
            projected = self.colours.project(appearance.colours)
            of_colour = self.colours.spot_score(projected, where.colours.centre)
            score = np.maximum(score, of_colour)
        score = np.maximum(score, np.sqrt(where.shift))
        flagged = score > 1
        verdict = self.verdict(flagged, where, coarser=coarser)
        return OodReport(score, flagged, float(flagged.mean()), verdict)

    def verdict(
        self, flagged: npt.NDArray[np.bool_], place: SlidePlace, *, coarser: float = 1.0
    ) -> Verdict:
        """On a whole slide, from the flags (n,) of its spots and where it lies.

        Pixels much larger than in training move the features as another tissue does. The two cannot be told apart, so
        the cause that is known is named: the pixels.

        Args:
            flagged: (n,).
            place: where the slide lies.
            coarser: microns per pixel of the slide, divided by those of the coarsest training slide.
        """
        if place.colour > max(place.features.shift, 1.0):
            return "unlike: staining"
        unlike = place.shift > 1 or float(flagged.mean()) > _SLIDE_SHARE
        if unlike and coarser > COARSER:
            return "unlike: resolution"
        # Another tissue has another texture, too: that alone names scale or sharpness.
        if place.texture > 1 >= place.features.shift:
            return "unlike: scale or sharpness"
        if unlike:
            return "unlike: tissue"
        return "like the training slides"


def fit_ood(
    features: Sequence[Array],
    xy_um: Sequence[npt.NDArray[np.float64]],
    appearance: Sequence[Appearance] | None = None,
    patients: Sequence[str] | None = None,
) -> OodModel:
    """Learn what the training slides look like.

    Args:
        features: per training section (n, S, D) or (n, P) raw features.
        xy_um: per section (n, 2); with one section, spatial blocks of it are left out in turn.
        appearance: per section, of its spots.
        patients: of every section; None: all different.

    Raises:
        HESpotExError: no section, or too few spots.
    """
    owners = list(patients) if patients is not None else [f"{i}" for i in range(len(features))]
    space = _fit(features, xy_um, owners, _QUANTILE, _SLIDE_LIMIT)
    if appearance is None:
        return OodModel(space)
    colours = [a.colours for a in appearance]
    return OodModel(
        space,
        _fit(colours, xy_um, owners, _COLOUR_QUANTILE, _COLOUR_SLIDE_LIMIT),
        fit_textures([a.textures for a in appearance], owners),
    )


def _fit(
    values: Sequence[Array],
    xy_um: Sequence[npt.NDArray[np.float64]],
    patients: Sequence[str],
    quantile: float,
    slide_limit: float,
) -> SectionSpace:
    parts = [_flat(v) for v in values]
    if not parts or sum(map(len, parts)) < 2 * _N_BLOCKS:
        raise HESpotExError(
            expected=f"at least {2 * _N_BLOCKS} training spots to learn what slides look like",
            found=sum(map(len, parts)),
        )
    shifts: list[float] = []
    if len(parts) == 1:
        distances = _left_out_blocks(parts[0], xy_um[0])
    else:
        distances, shifts = _left_out_sections(parts, patients)
    weight = np.concatenate([np.full(len(d), 1 / len(d)) for d in distances])
    reached = np.concatenate(distances)
    order = np.argsort(reached, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    limit = float(reached[order][np.searchsorted(share, quantile)])
    scatter = max(float(np.average(np.square(reached), weights=weight)), 1e-12)
    # Shifts seen between training sections count as usual, however large.
    usual = float(np.quantile(shifts, 0.9, method="higher")) / scatter if shifts else 0.0
    # Of what patients may differ by (as much as spots of one section) 1 / P is not known yet.
    unknown = 1 + 1 / len(set(patients))
    return replace(
        _space(parts),
        scatter=scatter,
        slide_limit=max(slide_limit, usual),
        spot_limit=max(limit * float(np.sqrt(unknown)), 1e-12),
    )


def _left_out_blocks(part: Array, xy_um: npt.NDArray[np.float64]) -> list[Floats]:
    """Distances of spots from the centre of the rest of their section."""
    distances = []
    for block in spatial_blocks(xy_um, _N_BLOCKS, 0):
        space = _space([part[block.train]])
        projected = space.project(part[block.held_out])
        distances.append(_spot_distance(projected, space.centres[0].astype(np.float64)))
    return distances


def _left_out_sections(
    parts: Sequence[Array], patients: Sequence[str]
) -> tuple[list[Floats], list[float]]:
    """Distances of spots from their section's centre, and of centres from the nearest one in training."""
    names = [f"{i}" for i in range(len(parts))]
    distances, shifts = [], []
    for fold in inner_folds(names, list(patients), max_folds=_MAX_FOLDS):
        space = _space([parts[int(i)] for i in fold.train])
        for i in fold.held_out:
            projected = space.project(parts[int(i)])
            centre = np.median(projected, axis=0)
            distances.append(_spot_distance(projected, centre))
            shifts.append(float(np.square(centre - space.centres).mean(axis=1).min()))
    return distances, shifts


def _space(parts: Sequence[Array]) -> SectionSpace:
    """Coordinates of these sections; the limits are left open."""
    drawn = list(_drawn(parts))
    values = np.concatenate(drawn)
    mean = values.mean(axis=0, dtype=np.float64)
    sd = values.std(axis=0, dtype=np.float64)
    # A column that hardly moves in training would otherwise decide alone.
    smallest = 0.5 * float(np.median(sd))
    sd = np.maximum(sd, smallest if smallest > 0 else max(float(sd.max()), 1e-12))
    z = np.asarray((values - mean) / sd, dtype=np.float32)
    directions = fit_components(z, max(1, min(_N_COMPONENTS, len(z) // 4))).directions
    projected = np.asarray(z @ directions, dtype=np.float64)
    ends = np.cumsum([len(d) for d in drawn])[:-1]
    within = np.concatenate([p - np.median(p, axis=0) for p in np.split(projected, ends)])
    covariance = within.T @ within / max(len(within) - len(parts), 1)
    size = len(covariance)
    covariance += max(_SHRINKAGE * np.trace(covariance) / size, 1e-12) * np.eye(size)
    variance, axes = np.linalg.eigh(covariance)
    whiten = axes / np.sqrt(variance)
    space = SectionSpace(
        mean.astype(np.float32),
        (directions @ whiten / sd[:, None]).astype(np.float32),
        np.zeros((0, size), np.float32),
        1.0,
        1.0,
        1.0,
    )
    centres = np.stack([np.median(space.project(d), axis=0) for d in drawn])
    return replace(space, centres=centres.astype(np.float32))


def _drawn(parts: Sequence[Array]) -> Iterator[Array]:
    """Spots of every section, drawn evenly where there are more than the components need."""
    rows = drawn_evenly([len(p) for p in parts])
    return (part[row] for part, row in zip(parts, rows, strict=True) if len(row))


def _spot_distance(projected: Floats, centre: Floats) -> Floats:
    return np.asarray(np.sqrt(np.square(projected - centre).mean(axis=1)))


def _flat(values: Array) -> npt.NDArray[np.float32]:
    columns = int(np.prod(values.shape[1:]))
    return np.asarray(np.reshape(values, (len(values), columns)), dtype=np.float32)
