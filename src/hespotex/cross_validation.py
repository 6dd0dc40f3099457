"""Owns the run of one fold: the only place that fits on a part and scores on the rest.

A fit gets the training sections alone. A held-out section enters twice: without its expression when
it is predicted, and with it when the prediction is scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hespotex.config import Machine, RunConfig
from hespotex.evaluation.baselines import (
    RidgeBaseline,
    TrainMean,
    depth_only,
    fit_ridge,
    fit_train_mean,
    predicted_depth_only,
)
from hespotex.evaluation.scores import SectionScores, score_section
from hespotex.expression import GenePanel, PanelCounts
from hespotex.predict import predict_section
from hespotex.runs import StageClock
from hespotex.splits import Fold
from hespotex.training.bundle import Bundle
from hespotex.training.fit import fit_bundle, training_section
from hespotex.training.preprocessing import model_inputs
from hespotex.training.types import Cohort, EncodedSection, Prediction, TrainingSection

PREDICTORS = ("model", "ridge", "train_mean", "depth_only", "predicted_depth_only")


@dataclass(frozen=True)
class HeldOut:
    """What a fold says of one held-out section.

    Attributes:
        item: the section with its measured counts.
        counts: its counts over the fold's panel.
        prediction: made without the counts.
        scores: by predictor, in the order of PREDICTORS.
    """

    item: EncodedSection
    counts: PanelCounts
    prediction: Prediction
    scores: Mapping[str, SectionScores]


@dataclass(frozen=True)
class FoldOutcome:
    """A fold's model and what it says of every held-out section."""

    fold: Fold
    bundle: Bundle
    held_out: tuple[HeldOut, ...]


def run_fold(
    cohort: Cohort,
    fold: Fold,
    config: RunConfig,
    *,
    nan_as_zero: bool = False,
    machine: Machine | None = None,
    clock: StageClock | None = None,
) -> FoldOutcome:
    """Fit model and baselines on the fold's training sections, then predict and score the others.

    Args:
        cohort: all sections of the run.
        fold: which are held out, and which are fitted on.
        config: panel, profile, model and seed.
        nan_as_zero: a PCC that does not exist counts as 0 in means.
        machine: device and threads.
        clock: gets the seconds of fit, baselines, predict and score.
    """
    clock = clock or StageClock()
    train = cohort.subset(fold.train)
    with clock.stage("fit"):
        bundle = fit_bundle(train, config, machine=machine)
    panel = GenePanel(bundle.genes, bundle.training_totals)
    with clock.stage("baselines"):
        baselines = _Baselines.fit([training_section(item, panel) for item in train.items], bundle)
    held_out = []
    for item in cohort.subset(fold.held_out).items:
        with clock.stage("predict"):
            prediction = predict_section(bundle, item.without_expression(), machine=machine)
            rivals = baselines.predict(item.without_expression())
        with clock.stage("score"):
            counts = panel.counts(item.section)
            scores = _score(prediction, rivals, counts, panel.abundant(), nan_as_zero=nan_as_zero)
        held_out.append(HeldOut(item, counts, prediction, scores))
    return FoldOutcome(fold, bundle, tuple(held_out))


Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]


@dataclass(frozen=True)
class _Baselines:
    """Ridge and train mean of one fold; `predict` gives (log1p, composition or None) by name."""

    bundle: Bundle
    ridge: RidgeBaseline
    train_mean: TrainMean

    @classmethod
    def fit(cls, sections: list[TrainingSection], bundle: Bundle) -> _Baselines:
        counts, measured = [s.counts for s in sections], [s.measured for s in sections]
        inputs = [model_inputs(s.features, s.xy_um, bundle.config.model) for s in sections]
        return cls(bundle, fit_ridge(inputs, counts, measured), fit_train_mean(counts, measured))

    def predict(self, item: EncodedSection) -> dict[str, Pair]:
        inputs = model_inputs(item.features, item.section.xy_um, self.bundle.config.model)
        return {
            "ridge": self.ridge.predict(inputs),
            "train_mean": (self.train_mean.predict(item.section.n_spots), None),
        }


def _score(
    prediction: Prediction,
    rivals: Mapping[str, Pair],
    counts: PanelCounts,
    abundant: npt.NDArray[np.intp],
    *,
    nan_as_zero: bool,
) -> dict[str, SectionScores]:
    measured_depth = depth_only(counts.counts)
    image_depth = predicted_depth_only(prediction.depth)
    tables: dict[str, tuple[npt.NDArray[np.floating], npt.NDArray[np.floating] | None, bool]] = {
        "model": (prediction.log1p, prediction.composition, True),
        **{name: (log1p, composition, True) for name, (log1p, composition) in rivals.items()},
        "depth_only": (measured_depth, measured_depth, False),
        "predicted_depth_only": (image_depth, image_depth, False),
    }
    return {
        name: score_section(
            tables[name][0],
            tables[name][1],
            counts.counts,
            counts.measured,
            abundant,
            nan_as_zero=nan_as_zero,
            in_units=tables[name][2],
        )
        for name in PREDICTORS
    }
