"""Levels of a model that is adapted: of genes, and what the look of a slide says of them; pure.

The level of a gene goes to that of the own sections. Looks are counted from the own slides on. From four own patients on these
say how far slides follow: along the model's slopes where it has some, for its new genes and for a model without along slopes
from inside the own slides. Where permuting own patients against their slides follows as well, all stays as it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.genes.panel import pooled_composition
from hespotex.models.default.level import (
    FEWEST_PATIENTS,
    P_VALUE,
    Following,
    SlideLevel,
    by_patient,
    dealt_p_value,
    patient_names,
    slide_values,
    slopes_inside,
)
from hespotex.models.default.looks import directions_of, place_of, within
from hespotex.models.preprocessing import FeatureStats, InputProjection
from hespotex.models.types import FittedModel, TrainingSection

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]


def level_of_own(
    model: FittedModel, sections: Sequence[TrainingSection], expected: Float64
) -> tuple[Float64, Float64]:
    """(G,) log shares of own sections, shrunk towards what the model says of them, and (G,) how far they went.

    Levels of P own patients differ from what the model says by a lab's shift of variance t2 (its mean over genes, by
    moments), by the patients' variance s2 / P, as far as the model's own patients showed it, and by counting noise v. The
    posterior mean goes t2 / (t2 + s2 / P + v) of the way; a gene that was not measured goes none.

    Args:
        expected: (G,) log shares, as the model has them for these slides.
    """
    owners = patient_names([s.patient_id for s in sections], [s.section_id for s in sections])
    totals = np.sum([np.asarray(s.counts.sum(axis=0)).ravel() for s in sections], axis=0)
    measured = np.any(_measured(sections), axis=0)
    shares = pooled_composition([s.counts for s in sections], [s.measured for s in sections])
    part = np.exp(expected)[measured].sum() / shares[measured].sum()
    shift = np.log(shares * part) - expected
    between = (model.hyper.get("level") or {}).get("between_patients") or 0.0
    noise = 1 / (totals + 0.5) + float(between) ** 2 / len(set(owners))
    often = measured & (totals >= np.median(totals[measured]))
    lab = max(float(np.mean((np.square(shift) - noise)[often])), 0.0)
    weight = np.where(measured, lab / (lab + noise), 0.0)
    moved = expected + weight * shift
    return moved - np.log(np.exp(moved).sum()), weight


def counted_from_own(
    model: FittedModel, sections: Sequence[TrainingSection], stats: Sequence[FeatureStats]
) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[Any]]]:
    """(G,) what the model says of the own slides' level, and its arrays with looks counted from these on."""
    level = SlideLevel.from_tensors(model.tensors)
    if level is None:
        return np.zeros(1, np.float32), {}
    owners = patient_names([s.patient_id for s in sections], [s.section_id for s in sections])
    means = np.stack([s.mean.astype(np.float64) for s in stats])
    centre = by_patient(means, owners)[1].mean(axis=0)
    directions = level.directions.astype(np.float64)
    away = replace(stats[0], mean=centre.astype(np.float32))
    moved = directions @ place_of(away, level.centre, level.usual)
    look = within(moved, float(level.farthest))
    told = ((look @ level.slopes) * level.follows)[:-1].astype(np.float32)
    own = np.stack([directions @ place_of(s, centre, level.usual) for s in stats])
    looks = np.concatenate([level.looks - moved, own]).astype(np.float32)
    return told, replace(level, centre=centre.astype(np.float32), looks=looks).tensors()


def with_own_slopes(
    tensors: Mapping[str, npt.NDArray[Any]],
    hyper: Mapping[str, Any],
    projection: InputProjection,
    sections: Sequence[TrainingSection],
    stats: Sequence[FeatureStats],
    inputs: Sequence[Float32],
    *,
    seed: int,
) -> tuple[Arrays, dict[str, Any]]:
    """How far slides follow, as the own patients show it; and what `FittedModel.hyper` keeps of it.

    Args:
        tensors: of the level, counted from the own slides on (`counted_from_own`).
        hyper: of the model as it came.
        projection: of its inputs.
        stats, inputs: of each own section.
    """
    known = SlideLevel.from_tensors(tensors)
    owners = patient_names([s.patient_id for s in sections], [s.section_id for s in sections])
    n = len(set(owners))
    if known is None or n < FEWEST_PATIENTS:
        return dict(tensors), {}
    fresh = not known.slopes.any()
    level = _with_own_looks(known, projection, owners, stats) if fresh else known
    places = np.stack([place_of(s, level.centre, level.usual) for s in stats])
    looks = places @ level.directions.T.astype(np.float64)
    inside = slopes_inside(sections, [z[:, : looks.shape[1]] for z in inputs])
    slopes = np.where(level.slopes.any(axis=0), level.slopes, inside)
    (_, told), (_, y) = (
        by_patient(looks @ slopes, owners),
        by_patient(slide_values(sections), owners),
    )
    told, y = told - told.mean(axis=0), y - y.mean(axis=0)
    p = dealt_p_value(told, y, seed)
    if p > P_VALUE and not fresh:
        return dict(tensors), {}
    follows = Following.of(told, y).share(told, y) if p <= P_VALUE else np.zeros(y.shape[1])
    seen = np.append(np.any(_measured(sections), axis=0), True)  # and depth
    follows = np.where(seen, follows, level.follows)
    farthest = max(float(level.farthest), float(np.linalg.norm(looks, axis=1).max()))
    level = replace(level, slopes=slopes.astype(np.float32), follows=follows.astype(np.float32),
                    farthest=np.asarray(farthest, np.float32))  # fmt: skip
    deviation = float(np.std((looks @ slopes * follows)[:, :-1])) if level.tells else 0.0
    record = {
        "tells_slides_apart": level.tells,
        "patients": n,
        "p_value": p,
        "deviation": deviation,
    }
    return level.tensors(), {"level": {**(hyper.get("level") or {}), **record}}


def _with_own_looks(
    known: SlideLevel,
    projection: InputProjection,
    owners: Sequence[str],
    stats: Sequence[FeatureStats],
) -> SlideLevel:
    """A level without slopes whose looks leave out what moves the own slides, and no more the foreign ones, beyond tissue.

    Both kinds of looks are linear in where a slide lies along the inputs, so that those of foreign slides are turned.
    """
    places = np.stack([place_of(s, known.centre, known.usual) for s in stats])
    directions = directions_of(by_patient(places, owners)[1], projection)
    turn = directions @ np.linalg.pinv(known.directions.astype(np.float64))
    looks = known.looks.astype(np.float64) @ turn.T
    return replace(known, directions=directions.astype(np.float32), looks=looks.astype(np.float32))


def _measured(sections: Sequence[TrainingSection]) -> npt.NDArray[np.bool_]:
    return np.stack([s.measured for s in sections])
