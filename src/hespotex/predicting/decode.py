"""The second pass over a slide: features on the disk -> predictions, tile by tile with a halo.

A tile is decoded together with every spot that its graph reaches, so its rows are those that the
whole graph would give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.evaluation.out_of_distribution import SlidePlace
from hespotex.evaluation.trust import Trust
from hespotex.features.appearance import Appearance
from hespotex.models.default.ensemble import Ensemble
from hespotex.models.graph import Neighbours
from hespotex.models.predict import predict_composition, predict_expression, restored
from hespotex.models.preprocessing import FeatureStats, nuclei_stats
from hespotex.models.types import FittedModel, Prediction
from hespotex.predicting.compact import COMPOSITION, Compact
from hespotex.predicting.encode import slide_stats
from hespotex.predicting.store import FeatureStore, PredictionStore, n_rows
from hespotex.progress import Advance

DEPTH, SCORE, FLAG = "depth", "ood_score", "ood"
LOG1P, LOWER, UPPER = "log1p", "lower", "upper"


@dataclass(frozen=True)
class Reach:
    """The reach of a spot's prediction over the graph.

    Attributes:
        neighbours: nearest spots that send a message.
        steps: messages one after another.
    """

    neighbours: int
    steps: int


def model_reach(model: FittedModel) -> Reach:
    """How far a model passes messages: over how many neighbours, and how often."""
    hyper = model.hyper
    if model.profile == "published":
        return Reach(4, 1)  # all layers read the latent itself
    layers = int(hyper["graph_layers"])
    steps = int(hyper["hops"]) + (layers if hyper["chained"] else min(layers, 1))
    return Reach(int(hyper["neighbours"]), steps)


def with_halo(tile: npt.NDArray[np.intp], graph: Neighbours, steps: int) -> npt.NDArray[np.intp]:
    """The spots of a tile and all that reach them in so many steps, ascending.

    Args:
        graph: of the whole slide.
        steps: messages one after another.
    """
    inside = front = np.asarray(tile, np.intp)
    for _ in range(steps):
        front = np.setdiff1d(graph.of(front), inside, assume_unique=True)
        inside = np.union1d(inside, front)
    return inside


def open_predictions(
    folder: Path, n_spots: int, n_genes: int, trust: Trust, compact: Compact | None = None
) -> PredictionStore:
    """The store with the arrays that this model and its trust fill."""
    columns = [DEPTH] + ([SCORE, FLAG] if trust.ood is not None else [])
    if compact is not None:
        return PredictionStore(folder, n_spots, compact.widths(), columns, dtype="float16")
    layers = [LOG1P, COMPOSITION] + ([LOWER, UPPER] if trust.intervals is not None else [])
    return PredictionStore(folder, n_spots, dict.fromkeys(layers, n_genes), columns)


def decode_slide(
    model: FittedModel,
    trust: Trust,
    xy_um: npt.NDArray[np.float64],
    features: FeatureStore,
    out: PredictionStore,
    *,
    nuclei: npt.NDArray[np.float64] | None = None,
    compact: Compact | None = None,
    whole: WholeSlide | None = None,
    device: str,
    advance: Advance,
) -> None:
    """Predict the chunks that the store lacks; spots that could not be read get NaN and send no messages.

    Args:
        compact: composition alone, of these genes; None: everything of all genes.
        whole: what these features say together, where more than this needs it.

    Raises:
        RunError: the disk is full.
        ModelFileError: the features do not fit the model.
    """
    missing = out.missing()
    advance(len(xy_um) - sum(n_rows(out.slices[n]) for n in missing))
    if not missing:
        return
    good = np.flatnonzero(~features.bad())
    if not len(good):
        for number in missing:
            out.write(number, _nothing(out, n_rows(out.slices[number])))
        return
    whole = whole or WholeSlide(features, trust)
    stats, reach, ensemble = whole.stats, model_reach(model), restored(model, device)
    if nuclei is not None:
        stats = replace(stats, nuclei=nuclei_stats(nuclei[good]))
    graph = Neighbours(xy_um[good], reach.neighbours)
    for number in missing:
        rows = out.slices[number]
        tile = np.arange(*np.searchsorted(good, (rows.start, rows.stop)))
        arrays = _nothing(out, n_rows(rows))
        note = None
        if len(tile):
            around = with_halo(tile, graph, reach.steps)
            chunk = features.read(number)
            values = _predict_tile(
                model,
                ensemble,
                trust,
                whole.place,
                stats,
                xy_um,
                features,
                good[around],
                np.isin(around, tile),
                chunk.appearance.spots(~chunk.bad),
                None if nuclei is None else nuclei[good[around]],
                compact,
                device,
            )
            for name, part in values.items():
                arrays[name][good[tile] - rows.start] = part
            if model.profile == "published":
                note = {"n": len(tile), "sum": values[LOG1P].sum(axis=0, dtype=np.float64).tolist()}
        out.write(number, arrays, note)
        advance(n_rows(rows))


@dataclass(frozen=True)
class WholeSlide:
    """What the features of all readable spots of a slide say together; the disk is read once for each."""

    features: FeatureStore
    trust: Trust

    @cached_property
    def stats(self) -> FeatureStats:
        """Mean and deviation of every feature."""
        return slide_stats(self.features)

    @cached_property
    def place(self) -> SlidePlace | None:
        """Where the slide lies beside the training slides; None without a check or a readable spot."""
        if self.trust.ood is None or bool(self.features.bad().all()):
            return None
        return self.trust.ood.place(
            (c.features[~c.bad], c.appearance.spots(~c.bad)) for c in self.features
        )


def _predict_tile(
    model: FittedModel,
    ensemble: Ensemble | None,
    trust: Trust,
    place: SlidePlace | None,
    stats: FeatureStats,
    xy_um: npt.NDArray[np.float64],
    store: FeatureStore,
    spots: npt.NDArray[np.intp],
    inner: npt.NDArray[np.bool_],
    appearance: Appearance,
    nuclei: npt.NDArray[np.float64] | None,
    compact: Compact | None,
    device: str,
) -> dict[str, npt.NDArray[Any]]:
    """Predict `spots` and keep the inner ones, whose appearance is given."""
    features = store.rows(spots)
    if compact is not None:
        rows = np.flatnonzero(inner)
        composition, depth = predict_composition(
            model,
            features,
            xy_um[spots],
            nuclei,
            rows=rows,
            stats=stats,
            device=device,
            ensemble=ensemble,
        )
        scores = trust.unlike(features[inner], appearance, place)
        found = {SCORE: scores[0], FLAG: scores[1]} if scores is not None else {}
        return {**compact.arrays(composition), DEPTH: depth, **found}
    whole = predict_expression(
        model,
        features,
        xy_um[spots],
        nuclei,
        stats=stats,
        spread=trust.intervals is not None,
        device=device,
        ensemble=ensemble,
    )
    kept = Prediction(
        whole.log1p[inner],
        whole.composition[inner],
        whole.depth[inner],
        None if whole.spread is None else whole.spread[inner],
    )
    arrays: dict[str, npt.NDArray[Any]] = {
        LOG1P: kept.log1p,
        # The published composition is centred over the whole slide: it is made when it is read.
        COMPOSITION: kept.log1p if model.profile == "published" else kept.composition,
        DEPTH: kept.depth,
    }
    # The one place where a slide's predictions get intervals and out-of-distribution scores.
    extras = trust.extras(kept, features[inner], appearance, place=place)
    optional = {LOWER: extras.lower, UPPER: extras.upper, SCORE: extras.ood_score, FLAG: extras.ood}
    return arrays | {name: values for name, values in optional.items() if values is not None}


def _nothing(out: PredictionStore, length: int) -> dict[str, npt.NDArray[Any]]:
    layers = {n: np.full((length, w), np.nan, np.float32) for n, w in out.widths.items()}
    return layers | {name: np.full(length, np.nan, np.float32) for name in out.columns}


def composition_shift(model: FittedModel, out: PredictionStore) -> npt.NDArray[np.float32] | None:
    """(G,) to subtract from the stored composition: the slide's mean, in the published profile alone."""
    if model.profile != "published":
        return None
    notes = [note for note in out.notes() if note is not None]
    total = sum((np.asarray(note["sum"]) for note in notes), np.zeros(out.widths[LOG1P]))
    return np.asarray(total / max(sum(note["n"] for note in notes), 1), np.float32)
