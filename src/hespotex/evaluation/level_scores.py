"""Scores of the level of slides: across held-out patients, the predicted deviation from the training mean against the measured.

A patient's level is the mean over the patient's slides of the log share of every gene. Everything is a deviation from the mean of
the fold's training patients: a model that says nothing predicts 0 for everybody and has no score. (Scored as it is, the mean of
the others would have a correlation of -1 with who is left out.) The null deals the patients' expression to other patients' slides and fits
the level anew in every fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import false_discovery_control, rankdata

from hespotex import keys
from hespotex.evaluation import run_tables
from hespotex.evaluation.grades import UNGRADED
from hespotex.evaluation.level_ridge import LevelRidge
from hespotex.models.default.level import FEWEST_PATIENTS as FEWEST_TRAINING
from hespotex.models.default.level import Following

Float64 = npt.NDArray[np.float64]

FEWEST_PATIENTS: Final = 8
_FDR: Final = 0.05
_PCC_A, _RMSE_A = 0.5, 0.9
_PERMUTATIONS, _REPLICATES = 499, 1000
_COLUMNS: Final = 4096
# Most deals hold a level that chance lines up; where none has a spread, no gene is found.
_LEAST_SPREAD: Final = 1e-9
BASELINES: Final = {
    "area": "tissue area",
    "depth": "predicted depth",
    "ridge": "ridge on the mean feature",
}
LEVEL_RULE: Final = (
    f"C: across held-out patients the predicted deviation from the training mean follows the measured one (q at most {_FDR:.0%}, "
    "patients' expression permuted against their slides with the level fitted anew), and its PCC is above 0 and above that of "
    "every baseline (train mean, tissue area, predicted depth, ridge on the mean feature).",
    "B: also the lower 95 % end of the PCC, by bootstrap over patients, is above 0.",
    f"A: also PCC of at least {_PCC_A:g}, and an RMSE at least {1 - _RMSE_A:.0%} below the train mean's.",
    f"D: everything else. {UNGRADED}: fewer than {FEWEST_PATIENTS} patients.",
)


@dataclass(frozen=True)
class LevelFold:
    """Who was held out, and where everybody's slides lie for the model of this fold.

    Attributes:
        train, held_out: places of patients.
        looks: (P, K) mean look of each patient's slides.
        slopes: (K, G) what a step along a look means inside the training slides.
        tells: whether the model of the fold tells slides apart.
    """

    train: npt.NDArray[np.intp]
    held_out: npt.NDArray[np.intp]
    looks: Float64
    slopes: Float64
    tells: bool = True

    def told(self) -> Float64:
        """(P, G) levels by the slopes, from the mean of the training patients."""
        away = self.looks - self.looks[self.train].mean(axis=0)
        return np.asarray(away @ self.slopes)


@dataclass(frozen=True)
class LevelScores:
    """What was found.

    Attributes:
        table: one row a gene, columns of `run_tables.LEVEL`.
        predicted, measured: (P, G) deviations from the training mean of the fold; NaN where not measured.
        n_patients: held out.
        across_genes: mean over patients of the correlation across genes, of the model and of the train mean alone.
    """

    table: pd.DataFrame
    predicted: Float64
    measured: Float64
    n_patients: int
    across_genes: tuple[float, float]


def score_levels(
    folds: Sequence[LevelFold],
    values: Float64,
    genes: Sequence[str],
    baselines: Mapping[str, Float64],
    *,
    seed: int = 0,
    n_permutations: int | None = None,
) -> LevelScores:
    """Score the levels of folds that hold out every patient once.

    Args:
        values: (P, G) measured mean log share of each patient; NaN where not measured.
        baselines: (P, F) what each baseline sees of a patient.
        n_permutations: of the null; None: 499.
    """
    following, measured = _following(folds, values), deviations(folds, values)
    predicted = _predict(folds, following, values, gated=True)
    beside = {name: _pcc(_ridge(folds, values, x), measured) for name, x in baselines.items()}
    n = _PERMUTATIONS if n_permutations is None else n_permutations
    deals = (_dealt(folds, following, values, seed, n)) if len(values) >= FEWEST_PATIENTS else None
    return _scored(predicted, measured, genes, beside, deals, values - measured, seed)


def score_external(
    predicted: Float64,
    values: Float64,
    genes: Sequence[str],
    baselines: Mapping[str, Float64],
    mean: Float64,
    *,
    ridge: Float64 | None = None,
    seed: int = 0,
    n_permutations: int | None = None,
) -> LevelScores:
    """Score the levels of a fitted model on new patients; the null deals their expression, and nothing is fitted anew.

    Args:
        predicted: (P, G) deviations of each patient.
        values: (P, G) measured mean log share.
        baselines: (P, 1) numbers that a deviation may follow, in either direction.
        mean: (G,) the model's training mean of the log share.
        ridge: (P, G) deviations by the model's own ridge; None where its file has none.
    """
    measured = values - mean
    beside = {name: np.abs(_pcc(np.tile(x, len(genes)), measured)) for name, x in baselines.items()}
    if ridge is not None:
        beside["ridge"] = _pcc(ridge, measured)
    rng = np.random.default_rng([seed, 23])
    n = _PERMUTATIONS if n_permutations is None else n_permutations
    deals = (_pcc(predicted, measured[rng.permutation(len(values))]) for _ in range(n))
    enough = len(values) >= FEWEST_PATIENTS
    told = np.broadcast_to(mean, values.shape)
    return _scored(predicted, measured, genes, beside, deals if enough else None, told, seed)


def _scored(
    predicted: Float64,
    measured: Float64,
    genes: Sequence[str],
    beside: Mapping[str, Float64],
    deals: Iterable[Float64] | None,
    mean: Float64,
    seed: int,
) -> LevelScores:
    pcc = _pcc(predicted, measured)
    q = np.full(len(genes), np.nan)
    lower, upper = q.copy(), q.copy()
    if deals is not None and np.isfinite(pcc).any():
        q = _q_values(pcc, np.stack([np.nan_to_num(d, nan=0.0) for d in deals]))
        lower, upper = _bootstrap(predicted, measured, seed)
    ends = run_tables.ends(run_tables.LEVEL_PCC)
    columns = {
        run_tables.LEVEL_PCC: pcc,
        run_tables.LEVEL_SPEARMAN: _spearman(predicted, measured),
        **dict(zip(ends, (lower, upper), strict=True)),
        run_tables.LEVEL_Q: q,
        run_tables.LEVEL_RMSE: _rms(measured - predicted),
        run_tables.TRAIN_MEAN_LEVEL_RMSE: _rms(measured),
        **{run_tables.of_predictor(run_tables.LEVEL_PCC, name): b for name, b in beside.items()},
    }
    table = pd.DataFrame({run_tables.GENE: list(genes), **columns})
    table[keys.LEVEL_GRADE] = UNGRADED if deals is None else level_grades(table)
    across = _across_genes(predicted, measured, mean)
    return LevelScores(table, predicted, measured, len(measured), across)


def level_grades(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """(G,) grade of every gene from its scores; `LEVEL_RULE` in numbers. The train mean, which has no PCC, counts as 0."""
    names = [run_tables.of_predictor(run_tables.LEVEL_PCC, name) for name in BASELINES]
    rivals = [np.nan_to_num(table[n].to_numpy(np.float64)) for n in names if n in table]
    best = np.max([np.zeros(len(table)), *rivals], axis=0)
    pcc = np.nan_to_num(table[run_tables.LEVEL_PCC].to_numpy(np.float64), nan=0.0)
    lower = table[run_tables.ends(run_tables.LEVEL_PCC)[0]].to_numpy(np.float64)
    rmse, of_mean = (
        table[name].to_numpy(np.float64)
        for name in (run_tables.LEVEL_RMSE, run_tables.TRAIN_MEAN_LEVEL_RMSE)
    )
    is_c = (table[run_tables.LEVEL_Q].to_numpy(np.float64) <= _FDR) & (pcc > best)
    is_b = is_c & (lower > 0)
    is_a = is_b & (pcc >= _PCC_A) & (rmse <= _RMSE_A * of_mean)
    return np.select([is_a, is_b, is_c], ["A", "B", "C"], default="D")


def deviations(folds: Sequence[LevelFold], values: Float64) -> Float64:
    """(P, G) of the held-out patients from the mean of the training patients of their fold."""
    found = np.full(values.shape, np.nan)
    for fold in folds:
        found[fold.held_out] = values[fold.held_out] - _mean(values[fold.train])
    return found


def _mean(values: Float64) -> Float64:
    known = np.isfinite(values)
    n = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    mean: Float64 = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    return mean


def _centred(values: Float64) -> Float64:
    """What a fit sees: an absent value lies at the mean."""
    if not np.isnan(values).any():
        return np.asarray(values - values.mean(axis=0))
    filled = np.nan_to_num(values - _mean(values), nan=0.0)
    return np.asarray(filled - filled.mean(axis=0))


def _following(folds: Sequence[LevelFold], values: Float64) -> list[Following | None]:
    """How far genes follow their slopes in the training patients of each fold; None where they are too few."""
    return [
        Following.of(f.told()[f.train], _centred(values[f.train]))
        if len(f.train) >= FEWEST_TRAINING
        else None
        for f in folds
    ]


def _predict(
    folds: Sequence[LevelFold],
    following: Sequence[Following | None],
    values: Float64,
    *,
    gated: bool,
) -> Float64:
    """(P, G) levels of held-out patients; G genes, or several deals of them side by side."""
    predicted = np.zeros(values.shape)
    for fold, follow in zip(folds, following, strict=True):
        if follow is None or (gated and not fold.tells):
            continue
        told, y = fold.told(), _centred(values[fold.train])
        share = follow.share(told[fold.train], y.reshape(len(y), -1, told.shape[1]))
        level = told[fold.held_out][:, None] * share
        predicted[fold.held_out] = level.reshape(len(fold.held_out), -1)
    return predicted


def _dealt(
    folds: Sequence[LevelFold],
    following: Sequence[Following | None],
    values: Float64,
    seed: int,
    n: int,
) -> Iterator[Float64]:
    """PCC with a gene's expression dealt to other patients' slides, and its own share fitted anew.

    What all genes together say of how slopes are followed stays as it was found: a null in which no gene follows would have
    levels of another kind. Never gated, so that it is not empty.
    """
    rng = np.random.default_rng([seed, 23])
    orders = [rng.permutation(len(values)) for _ in range(n)]
    for dealt in _dealt_together(values, orders):
        found = _pcc(_predict(folds, following, dealt, gated=False), deviations(folds, dealt))
        yield from found.reshape(-1, values.shape[1])


def _dealt_together(values: Float64, orders: Sequence[npt.NDArray[np.intp]]) -> Iterator[Float64]:
    """(P, k x G) values with patients in other orders, k orders side by side: few calls on wide tables."""
    at_once = max(1, _COLUMNS // max(values.shape[1], 1))
    for at in range(0, len(orders), at_once):
        part = np.stack([values[order] for order in orders[at : at + at_once]], axis=1)
        yield part.reshape(len(values), -1)


def _q_values(pcc: Float64, null: Float64) -> Float64:
    """Each gene in the standard deviations of its own null, beside those of all genes: a finer scale than one gene has."""
    centre, spread = null.mean(axis=0), null.std(axis=0)
    spread = np.where(spread > _LEAST_SPREAD, spread, np.inf)
    pooled = np.sort(((null - centre) / spread).ravel())
    z = (np.nan_to_num(pcc, nan=0.0) - centre) / spread
    above = len(pooled) - np.searchsorted(pooled, z, side="left")
    p = np.where(np.isfinite(pcc), (1 + above) / (1 + len(pooled)), 1.0)
    return np.asarray(false_discovery_control(p))


def _ridge(folds: Sequence[LevelFold], values: Float64, seen: Float64) -> Float64:
    """(P, G) left out by ridge on what is seen of a patient."""
    predicted = np.zeros(values.shape)
    for fold in folds:
        fit = LevelRidge.fit(seen[fold.train], _centred(values[fold.train]))
        predicted[fold.held_out] = fit.predict(seen[fold.held_out])
    return predicted


def _pcc(predicted: Float64, measured: Float64, weight: Float64 | None = None) -> Float64:
    """(G,) over patients that measured the gene; NaN where either side does not vary."""
    known = np.isfinite(measured)
    w = known if weight is None else known * weight[:, None]
    n = np.maximum(w.sum(axis=0), 1e-12)
    m = np.where(known, measured, 0.0)
    p, m = predicted - (w * predicted).sum(axis=0) / n, m - (w * m).sum(axis=0) / n
    vp, vm, c = ((w * v).sum(axis=0) for v in (p * p, m * m, p * m))
    varies = (vp > 1e-18 * n) & (vm > 1e-18 * n)
    pcc: Float64 = np.divide(c, np.sqrt(vp * vm), out=np.full(len(c), np.nan), where=varies)
    return pcc


def _spearman(predicted: Float64, measured: Float64) -> Float64:
    known = np.isfinite(measured)
    ranks = [
        rankdata(np.where(known, v, np.inf), axis=0).astype(np.float64)
        for v in (predicted, measured)
    ]
    found = _pcc(ranks[0], np.where(known, ranks[1], np.nan))
    return np.where(np.isfinite(_pcc(predicted, measured)), found, np.nan)


def _bootstrap(predicted: Float64, measured: Float64, seed: int) -> tuple[Float64, Float64]:
    """(G,) ends of the 95 % interval of the PCC, patients drawn with replacement."""
    n = len(predicted)
    draws = np.random.default_rng([seed, 29]).multinomial(n, np.full(n, 1 / n), _REPLICATES)
    pcc = np.stack([_pcc(predicted, measured, w.astype(np.float64)) for w in draws])
    pcc = np.where(np.isfinite(pcc), pcc, 0.0)
    lower, upper = np.quantile(pcc, [0.025, 0.975], axis=0)
    return lower, upper


def _rms(error: Float64) -> Float64:
    known = np.isfinite(error)
    total = np.where(known, error, 0.0) ** 2
    return np.asarray(np.sqrt(total.sum(axis=0) / np.maximum(known.sum(axis=0), 1)))


def _across_genes(predicted: Float64, measured: Float64, mean: Float64) -> tuple[float, float]:
    """Within one patient the gene means alone give a high number, so theirs stands beside the model's."""
    found = []
    for row in zip(measured, predicted, mean, strict=True):
        known = np.isfinite(row[0]) & np.isfinite(row[2])
        own, level, usual = (values[known] for values in row)
        if len(own) > 2 and np.ptp(usual) > 0:
            found.append([np.corrcoef(v, usual + own)[0, 1] for v in (usual + level, usual)])
    model, alone = np.mean(found, axis=0) if found else (np.nan, np.nan)
    return float(model), float(alone)
