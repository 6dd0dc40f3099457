"""Prediction: features of a section or slide -> log1p(CPM), composition and depth.

No measured expression is used. Features are standardised within the section or slide itself, but for the level of the slide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hespotex.config import Machine
from hespotex.errors import ModelFileError, SpotTableError
from hespotex.models.bundle import Bundle
from hespotex.models.default.calibration import Readout
from hespotex.models.default.ensemble import Ensemble
from hespotex.models.default.level import SlideLevel
from hespotex.models.fit import device_name
from hespotex.models.preprocessing import (
    FeatureStats,
    InputProjection,
    feature_stats,
    with_nuclei,
)
from hespotex.models.types import EncodedSection, FittedModel, Prediction

Floats = npt.NDArray[np.float32]


def restored(model: FittedModel, device: str = "cpu") -> Ensemble | None:
    """The networks of a model of the default profile, ready for many calls; None of the published one."""
    return None if model.profile == "published" else Ensemble.from_model(model, device)


def predict_section(
    bundle: Bundle, item: EncodedSection, *, machine: Machine | None = None
) -> Prediction:
    """Predict a section with the model of a bundle, whichever its profile.

    Args:
        item: the section with its features; its counts are not looked at.
    """
    return predict_expression(
        bundle.model, item.features, item.section.xy_um, item.nuclei, device=device_name(machine)
    )


def predict_expression(
    model: FittedModel,
    features: npt.NDArray[np.float32],
    xy_um: npt.NDArray[np.float64],
    nuclei: npt.NDArray[np.float64] | None = None,
    *,
    stats: FeatureStats | None = None,
    spread: bool = True,
    device: str = "cpu",
    ensemble: Ensemble | None = None,
) -> Prediction:
    """Predict the spots of one section or slide.

    Args:
        model: a fitted model of either profile.
        features: (n, S, D) raw encoder features, smallest patch first.
        xy_um: (n, 2) spot centres in microns.
        nuclei: (n,) nuclei factor; needed if, and only if, the model was trained with one.
        stats: mean and deviation of features and nuclei over the whole slide, where `features` are a
            part of it; None takes them from what is given.
        spread: also the deviation between the ensemble's members (about 3 times the work).
        ensemble: `restored` networks of the model, for whoever predicts part by part; None restores them now.

    Raises:
        ModelFileError: features do not fit the model, or it was trained with nuclei and none are given.
        SpotTableError: features and positions differ in number, or a feature is not finite.
    """
    _check(features, xy_um)
    if model.profile == "published":
        return _predict_published(model, features, xy_um, nuclei, device)
    ensemble = ensemble or Ensemble.from_model(model, device)
    readout = Readout.from_tensors(model.tensors)
    stats = stats or feature_stats(features)
    inputs = _inputs(model, features, nuclei, stats)
    depth, blocks = ensemble.decode(*ensemble.context(inputs, xy_um), members=spread)
    shape = (len(features), len(readout.log_pooled))
    log1p, composition = np.empty(shape, np.float32), np.empty(shape, np.float32)
    deviation = np.zeros(shape, np.float32) if spread else None
    for block in blocks:
        log_share = readout.log_share(block.log_ratio)
        composition[block.rows] = log_share - readout.log_pooled
        log1p[block.rows] = readout.log1p(log_share, depth[block.rows])
        if block.log1p is not None:
            share = np.float32(model.hyper["direct_share"])
            log1p[block.rows] = (1 - share) * log1p[block.rows] + share * block.log1p
        if deviation is not None and block.members is not None:
            shares = readout.log_share(block.members)
            deviation[block.rows] = np.std(
                [readout.log1p(share, depth[block.rows]) for share in shares], axis=0
            )
    level = _level(model, readout, stats)
    if level is not None:
        composition += level.composition
        log1p += level.log1p
        depth = depth + level.depth
    return Prediction(log1p, composition, _expected_total(model, readout, depth), deviation)


def predict_composition(
    model: FittedModel,
    features: npt.NDArray[np.float32],
    xy_um: npt.NDArray[np.float64],
    nuclei: npt.NDArray[np.float64] | None = None,
    *,
    rows: npt.NDArray[np.intp],
    stats: FeatureStats | None = None,
    device: str = "cpu",
    ensemble: Ensemble | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Composition (b, G) and depth (b,) of some spots of a model of the default profile, without log1p and spread.

    Args:
        rows: (b,) the spots that are read out; the others send messages alone.
        ensemble: see `predict_expression`.

    Raises:
        ModelFileError, SpotTableError: as `predict_expression`.
    """
    _check(features, xy_um)
    ensemble = ensemble or Ensemble.from_model(model, device)
    readout = Readout.from_tensors(model.tensors)
    stats = stats or feature_stats(features)
    inputs = _inputs(model, features, nuclei, stats)
    graph = ensemble.context(inputs, xy_um)
    depth, blocks = ensemble.decode(*graph, rows=rows, members=False)
    composition = np.empty((len(rows), len(readout.log_pooled)), np.float32)
    for block in blocks:
        composition[block.rows] = readout.log_share(block.log_ratio) - readout.log_pooled
    level = _level(model, readout, stats)
    if level is not None:
        composition += level.composition
        depth = depth + level.depth
    return composition, _expected_total(model, readout, depth)


def _check(features: npt.NDArray[np.float32], xy_um: npt.NDArray[np.float64]) -> None:
    if len(features) != len(xy_um):
        raise SpotTableError(
            expected="as many features as positions",
            found=f"{len(features)} and {len(xy_um)}: encode again",
        )
    if not np.isfinite(features).all():
        raise SpotTableError(expected="finite features", found="NaN or infinity: encode again")


def _inputs(
    model: FittedModel,
    features: npt.NDArray[np.float32],
    nuclei: npt.NDArray[np.float64] | None,
    stats: FeatureStats,
) -> npt.NDArray[np.float32]:
    """What the networks of the default profile read of every spot."""
    if model.hyper["uses_nuclei"] and nuclei is None:
        raise ModelFileError(
            "the model was trained with nuclei, found none: say where the nuclei come from"
        )
    inputs = InputProjection.from_tensors(model.tensors).apply(features, stats)
    factor = nuclei if model.hyper["uses_nuclei"] else None
    return with_nuclei(inputs, factor, stats.nuclei)


@dataclass(frozen=True)
class _Level:
    """By how much the level of a slide moves every spot's composition and log1p(CPM), (G,) each, and log depth.

    The same in every spot, so that correlations inside the slide stay what they are. The shares of the training mean,
    moved by the level, sum to 1, and log1p(CPM) moves as it does for them at the mean depth; other spots' nearly so.
    """

    composition: Floats
    log1p: Floats
    depth: float


def _level(model: FittedModel, readout: Readout, stats: FeatureStats) -> _Level | None:
    """The level of a slide; None where the model cannot tell slides apart."""
    level = SlideLevel.from_tensors(model.tensors)
    if level is None or not level.tells:
        return None
    shift, deeper = level(stats)
    shares = readout.log_share(np.stack([shift, np.zeros_like(shift)]))
    of_slide, usual = readout.log1p(shares, np.array([deeper, 0.0]))
    return _Level(shares[0] - shares[1], np.asarray(of_slide - usual, np.float32), deeper)


def _expected_total(
    model: FittedModel, readout: Readout, centred: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Mean of the total when log(1 + total) is normal around its prediction."""
    centre = centred + readout.mean_log_depth + float(model.hyper["depth_residual_sd"]) ** 2 / 2
    return np.maximum(np.expm1(centre), 0).astype(np.float32)


def _predict_published(
    model: FittedModel,
    features: npt.NDArray[np.float32],
    xy_um: npt.NDArray[np.float64],
    nuclei: npt.NDArray[np.float64] | None,
    device: str,
) -> Prediction:
    """The published network knows no depth; its composition is its prediction, centred per gene."""
    from hespotex.models.published.published import predict_published

    log1p = predict_published(model, features, xy_um, nuclei, device=device).astype(np.float32)
    depth = np.full(len(features), np.nan, np.float32)
    return Prediction(log1p, log1p - log1p.mean(axis=0), depth)
