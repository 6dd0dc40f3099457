"""The pairs of sections on which features are judged: the default model is fitted on one side and scored on the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.ablation.run import C, pcc, score
from hespotex.config import ModelConfig
from hespotex.evaluation.baselines import depth_only
from hespotex.genes.panel import log1p_cpm, pearson_residuals
from hespotex.models.default.loop import fit_model
from hespotex.models.predict import predict_expression
from hespotex.models.types import TrainingSection

Sections = Mapping[str, TrainingSection]

# column: (trained on, scored on)
FOLDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **{held: (tuple(s for s in C if s != held), (held,)) for held in C},
    "C -> B4": (C, ("B4",)),
    "B4 -> C": (("B4",), C),
    "MOB4 -> MOB9": (("MOB4",), ("MOB9",)),
    "MOB9 -> MOB4": (("MOB9",), ("MOB4",)),
}
BETWEEN = tuple(name for name in FOLDS if "->" in name)
SCORES = ("log1p", "composition")


def fold_scores(
    train: Sections,
    held_out: Mapping[str, Sections],
    abundant: Mapping[str, list[int]],
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """Of each kind of features and each fold the mean PCC of log1p, and of composition over the 200 abundant genes.

    Args:
        train: the sections with the features that models are fitted on.
        held_out: the same sections, by the kind of features that are predicted from.
        abundant: places of the abundant genes of each section's panel.
    """
    found: dict[str, dict[str, dict[str, float]]] = {kind: {} for kind in held_out}
    for fold, (own, scored) in FOLDS.items():
        model = fit_model([train[name] for name in own], ModelConfig(), seed=seed)
        for kind, sections in held_out.items():
            values = []
            for name in scored:
                section = sections[name]
                p = predict_expression(model, section.features, section.xy_um, spread=False)
                values.append(_means(score(section, p.log1p, p.composition), abundant[name]))
            found[kind][fold] = {s: float(np.mean([v[s] for v in values])) for s in SCORES}
    return found


def depth_scores(
    held_out: Sections, abundant: Mapping[str, list[int]]
) -> dict[str, dict[str, float]]:
    """Likewise of a spot's measured total in every gene's place: an oracle, and no features enter."""
    found = {}
    for fold, (_, scored) in FOLDS.items():
        values = []
        for name in scored:
            counts = held_out[name].counts
            depth = depth_only(counts)
            genes = {
                "log1p": pcc(depth, log1p_cpm(counts)),
                "composition": pcc(depth, pearson_residuals(counts)),
            }
            values.append(_means(genes, abundant[name]))
        found[fold] = {s: float(np.mean([v[s] for v in values])) for s in SCORES}
    return found


def _means(genes: Mapping[str, Any], abundant: list[int]) -> dict[str, float]:
    return {
        "log1p": float(genes["log1p"].mean()),
        "composition": float(genes["composition"][abundant].mean()),
    }


def mean_over(scores: Mapping[str, Mapping[str, float]], which: str, folds: Any = FOLDS) -> float:
    """Mean of one score over folds."""
    return float(np.mean([scores[fold][which] for fold in folds]))
