"""The trust of a model, stored with it: intervals, distance limits, grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hespotex.evaluation.claims import Claims
from hespotex.evaluation.intervals import ConformalIntervals
from hespotex.evaluation.out_of_distribution import OodModel, SectionSpace, SlidePlace
from hespotex.evaluation.region_intervals import RegionIntervals
from hespotex.evaluation.regions import SIZES
from hespotex.evaluation.ridge_maps import RidgeMaps
from hespotex.evaluation.texture import TextureSpace
from hespotex.features.appearance import Appearance
from hespotex.genes.gene_sets import SetScores
from hespotex.models.bundle import Bundle
from hespotex.models.types import EncodedSection, Prediction
from hespotex.sections.splits import inner_note

Floats = npt.NDArray[np.float32]
Tensors = Mapping[str, npt.NDArray[Any]]

# Coverage of the interval that predictions carry.
LEVEL = 0.9

NO_INTERVALS = (
    "the model carries no intervals of composition, so nothing is said of how far a value may be off; training anew, with "
    "two sections or blocks to leave out, adds them"
)

_REGIONS = "regions"
_QUARTILE = "training.upper_quartile"

_Space = TypeVar("_Space", SectionSpace, TextureSpace)


@dataclass(frozen=True)
class Extras:
    """What some predictions carry besides; None where they do not.

    Attributes:
        lower, upper: (n, G) interval for log1p.
        half_width: (S, G) how far the interval of composition reaches to either side, for regions of `regions.SIZES` spots.
        ood_score: (n,) distance from the training features, in units of the threshold.
        ood: (n,) True where that distance is unusual.
        grades: (G,) trust in each gene.
        verdict: on the slide as a whole.
        gene_sets: scores of gene sets.
        claims: what may be claimed of each gene on this slide; `read_prediction` always gives them.
        pooled_share: (G,) each gene's part of all counts of the training sections, which composition is against.
        upper_quartile: (G,) of composition over training spots, each predicted by a model that had not seen it.
        level_grades: (G,) trust in where the slide lies as a whole.
        ridge_level: (G,) deviation of the slide's log share from the training's, by ridge on its mean feature.
        ridge: the ridge baseline's maps, where the section was predicted whole; not read back with the others.
    """

    lower: Floats | None = None
    upper: Floats | None = None
    half_width: Floats | None = None
    ood_score: Floats | None = None
    ood: npt.NDArray[np.bool_] | None = None
    grades: Sequence[str] | None = None
    verdict: str | None = None
    gene_sets: SetScores | None = None
    claims: Claims | None = None
    pooled_share: Floats | None = None
    upper_quartile: Floats | None = None
    level_grades: Sequence[str] | None = None
    ridge_level: Floats | None = None
    ridge: RidgeMaps | None = None

    def with_claims(self, claims: Claims, level_grades: Sequence[str] | None = None) -> Extras:
        """The same with what may be claimed of each gene."""
        grades = claims.grade.tolist()
        return replace(self, claims=claims, grades=grades, level_grades=level_grades)


@dataclass(frozen=True)
class Trust:
    """What was learnt on held-out training sections; None where it was not.

    Attributes:
        intervals: for log1p, per gene.
        ood: what training slides look like.
        regions: intervals of composition, by size of region and gene.
        training_mpp: of the coarsest training slide; 0 where it is not known.
        upper_quartile: (G,) of composition over training spots, each predicted by a model that had not seen it.
        pooled_share: (G,) what composition is against; of the bundle, not learnt here.
    """

    intervals: ConformalIntervals | None = None
    ood: OodModel | None = None
    regions: RegionIntervals | None = None
    training_mpp: float = 0.0
    upper_quartile: Floats | None = None
    pooled_share: Floats | None = None

    def coarseness(self, mpp: float) -> float:
        """How many times larger the pixels of a slide are than those of the coarsest training slide; 1 if unknown."""
        return mpp / self.training_mpp if self.training_mpp > 0 else 1.0

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        if self.intervals is not None:
            arrays |= _arrays("intervals", self.intervals)
        if self.regions is not None:
            arrays |= _arrays(_REGIONS, self.regions)
        if self.upper_quartile is not None:
            arrays[_QUARTILE] = np.asarray(self.upper_quartile, dtype=np.float32)
        if self.ood is not None:
            arrays |= _arrays("ood.features", self.ood.features)
            if self.ood.colours is not None:
                arrays |= _arrays("ood.colours", self.ood.colours)
            if self.ood.textures is not None:
                arrays |= _arrays("ood.textures", self.ood.textures)
        return arrays

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> Trust:
        """What `tensors` wrote; parts that are not there are None."""
        intervals = _values("intervals", tensors)
        features = _space(SectionSpace, "ood.features", tensors)
        colours = _space(SectionSpace, "ood.colours", tensors)
        textures = _space(TextureSpace, "ood.textures", tensors)
        return cls(
            None
            if intervals is None
            else ConformalIntervals(
                levels=tuple(float(level) for level in intervals.pop("levels")),
                n_sections=int(intervals.pop("n_sections")),
                **intervals,
            ),
            None if features is None else OodModel(features, colours, textures),
            _regions(tensors),
            upper_quartile=tensors.get(_QUARTILE),
        )

    def half_width(self) -> Floats | None:
        """(S, G) of the interval of composition at LEVEL; None in a model without such intervals."""
        return None if self.regions is None else self.regions.half_width(LEVEL)

    def extras_of(self, prediction: Prediction, item: EncodedSection) -> Extras:
        """What the prediction of a whole section carries."""
        coarser = self.coarseness(item.section.geometry.mpp)
        return self.extras(prediction, item.features, item.appearance, coarser=coarser)

    def extras(
        self,
        prediction: Prediction,
        features: npt.NDArray[np.float32],
        appearance: Appearance | None = None,
        place: SlidePlace | None = None,
        *,
        coarser: float = 1.0,
    ) -> Extras:
        """What a prediction of these spots carries; works on any part of a slide.

        Args:
            prediction: of n spots.
            features: (n, S, D) raw features of the same spots.
            appearance: of the same spots, where it is known.
            place: of the whole slide; None: these spots are the whole slide.
            coarser: `coarseness` of the slide.
        """
        lower = upper = score = flagged = verdict = None
        if self.intervals is not None:
            lower, upper = self.intervals.interval(prediction.log1p, prediction.spread, level=LEVEL)
        if self.ood is not None:
            report = self.ood.report(features, appearance, place, coarser=coarser)
            score, flagged = report.score.astype(np.float32), report.flagged
            verdict = str(report.verdict)
        return self.of_genes(Extras(lower, upper, None, score, flagged, verdict=verdict))

    def of_genes(self, extras: Extras) -> Extras:
        """The same with what the model says of each gene, whatever the slide."""
        return replace(
            extras,
            half_width=self.half_width(),
            pooled_share=self.pooled_share,
            upper_quartile=self.upper_quartile,
        )

    def unlike(
        self,
        features: npt.NDArray[np.float32],
        appearance: Appearance | None,
        place: SlidePlace | None,
    ) -> tuple[Floats, npt.NDArray[np.bool_]] | None:
        """How unlike the training each spot is and whether it is flagged, as `extras`; None without a check."""
        if self.ood is None:
            return None
        report = self.ood.report(features, appearance, place)
        return report.score.astype(np.float32), report.flagged


def bundle_trust(bundle: Bundle) -> Trust:
    """What a bundle carries of trust."""
    coarsest = max((s.mpp for s in bundle.sections if s.mpp > 0), default=0.0)
    pooled = bundle.pooled.astype(np.float32)
    return replace(
        Trust.from_tensors(bundle.trust),
        training_mpp=coarsest,
        pooled_share=pooled if len(pooled) else None,  # an imported model knows no training counts
    )


def inner_folds_note(bundle: Bundle) -> str:
    """Caveats about a model's intervals, thresholds and searched values; empty where they are sound."""
    if not (bundle.config.trust.calibrate or bundle.config.search.grid):
        return ""
    sections = bundle.sections
    return inner_note([s.section_id for s in sections], [s.patient_id for s in sections])


def _arrays(
    prefix: str, value: ConformalIntervals | RegionIntervals | SectionSpace | TextureSpace
) -> dict[str, npt.NDArray[Any]]:
    return {f"{prefix}.{f.name}": np.asarray(getattr(value, f.name)) for f in fields(value)}


def _values(prefix: str, tensors: Tensors) -> dict[str, Any] | None:
    found = {
        name.removeprefix(prefix + "."): value
        for name, value in tensors.items()
        if name.startswith(prefix + ".")
    }
    return found or None


def _regions(tensors: Tensors) -> RegionIntervals | None:
    """None also for sizes that this version does not know: their numbers would stand under other names."""
    values = _values(_REGIONS, tensors)
    if values is None or tuple(values["sizes"].tolist()) != SIZES:
        return None
    levels = tuple(float(level) for level in values.pop("levels"))
    return RegionIntervals(**{**values, "sizes": SIZES, "levels": levels})


def _space(kind: type[_Space], prefix: str, tensors: Tensors) -> _Space | None:
    values = _values(prefix, tensors)
    if values is None:
        return None
    scalars = {name: float(v) for name, v in values.items() if np.ndim(v) == 0}
    return kind(**{**values, **scalars})
