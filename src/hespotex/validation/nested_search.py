"""The choice of searched values by inner folds of a training part; it never sees a held-out section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hespotex.config import Machine, RunConfig
from hespotex.errors import ConfigError
from hespotex.evaluation.scores import Targets, aggregate, score_section
from hespotex.evaluation.units import units_compare
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_section
from hespotex.models.types import Cohort
from hespotex.storage.metrics import Candidate, ScoreSummary, Search


@dataclass(frozen=True)
class Choice:
    """The choice of inner folds.

    Attributes:
        config: the configuration with the chosen values in it.
        record: what was tried and chosen; empty where nothing was searched.
    """

    config: RunConfig
    record: Search


def choose(
    config: RunConfig, parts: Sequence[tuple[Cohort, Cohort]], *, machine: Machine | None = None
) -> Choice:
    """Fit every candidate on the rest of each inner fold, and keep the best on what was left out.

    The score is the mean over the sections of an inner fold, then over inner folds; of equal scores
    the first candidate wins. Each fit takes its gene panel from its own part, the same for all candidates.

    Args:
        config: with the grid in `config.search`.
        parts: (left out, rest) of every inner fold, all of them training sections.

    Raises:
        ConfigError: no inner fold can be made, or no candidate has a score.
    """
    if not config.search.grid:
        return Choice(config, Search())
    candidates = config.candidates()
    if len(candidates) == 1:  # nothing to choose among, but asked for all the same
        values, only = candidates[0]
        return Choice(only, _record(config, [Candidate(values=dict(values), score=None)], values))
    if not parts:
        raise ConfigError(
            expected="training sections, or one large enough for spatial blocks, to search on",
            found="too few spots",
            remedy="leave out --search",
        )
    name = config.search.score
    scores = []
    for _, candidate in candidates:
        folds = []
        for left_out, rest in parts:
            bundle = fit_bundle(rest, candidate, machine=machine)
            folds.append([_score(bundle, item, machine) for item in left_out.items])
        scores.append(float(getattr(aggregate(folds), name)))
    known = np.array(scores) if name != "rmse_log1p" else -np.array(scores)
    if np.isnan(known).all():
        raise ConfigError(
            expected=f"a {name} for some searched value",
            found="none: no gene varies in the inner folds",
            remedy="leave out --search, or choose another search.score",
        )
    best = int(np.nanargmax(known))
    rows = [
        Candidate(values=dict(values), score=score)
        for (values, _), score in zip(candidates, scores, strict=True)
    ]
    values, chosen = candidates[best]
    return Choice(chosen, _record(config, rows, values))


def _record(config: RunConfig, candidates: list[Candidate], chosen: Mapping[str, Any]) -> Search:
    return Search(score=config.search.score, candidates=candidates, chosen=dict(chosen))


def _score(bundle: Bundle, item: Any, machine: Machine | None) -> ScoreSummary:
    panel = GenePanel(bundle.genes, bundle.training_totals)
    prediction = predict_section(bundle, item.without_expression(), machine=machine)
    counts = panel.counts(item.section)
    scored = score_section(
        prediction.log1p,
        prediction.composition,
        Targets.of(counts.counts, counts.measured),
        panel.abundant(),
        in_units=units_compare(bundle.pooled, counts.measured),
    )
    return scored.summary
