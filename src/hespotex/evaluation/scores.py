"""Scores of a prediction against measured counts, vectorised over genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import xlogy

from hespotex.errors import HESpotExError
from hespotex.genes.panel import Margins, log1p_cpm, pearson_residuals
from hespotex.storage.metrics import ScoreSummary

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]

# Genes are scored in blocks, so that float64 copies stay small beside the float32 tables.
GENE_BLOCK = 512
_SPOTS_OF_FULL_BLOCK = 16_384
_N_BEST = 50
# Rounding of a difference of logarithms, in steps of the type at 1: two steps at 16.
_OF_LOGS = 32.0


@dataclass(frozen=True)
class SectionScores:
    """Scores of one section.

    Attributes:
        pcc_log1p: (G,) NaN for constant or unmeasured genes.
        pcc_composition: (G,) likewise.
        rmse_log1p: (G,) NaN for unmeasured genes, or where the prediction has no such unit.
        mean_count: (G,) raw counts per spot; NaN for unmeasured genes.
        constant: (G,) measured, but the same value in every spot.
        measured: (G,).
    """

    summary: ScoreSummary
    pcc_log1p: npt.NDArray[np.float64]
    pcc_composition: npt.NDArray[np.float64]
    rmse_log1p: npt.NDArray[np.float64]
    mean_count: npt.NDArray[np.float64]
    constant: npt.NDArray[np.bool_]
    measured: npt.NDArray[np.bool_]


def pcc_per_gene(predicted: Array, measured: Array) -> npt.NDArray[np.float64]:
    """Pearson correlation over spots, per gene; equals scipy's.

    Args:
        predicted: (n, G), or (n, 1) for one map that stands for every gene.
        measured: (n, G).

    Returns:
        (G,) in [-1, 1]; NaN where either side is constant to rounding, holds NaN, or n < 2.
    """
    _check_shapes(predicted, measured)
    result = np.full(measured.shape[1], np.nan)
    if measured.shape[0] < 2:
        return result
    one_map = _centred(predicted) if predicted.shape[1] == 1 else None
    for genes in gene_blocks(measured.shape[1]):
        p, length_p = one_map if one_map is not None else _centred(predicted[:, genes])
        m, length_m = _centred(measured[:, genes])
        product = p[:, 0] @ m if one_map is not None else np.einsum("ij,ij->j", p, m)
        result[genes] = product / (length_p * length_m)
    return np.asarray(np.clip(result, -1.0, 1.0))


def spearman_per_gene(predicted: Array, measured: Array) -> npt.NDArray[np.float64]:
    """Spearman correlation over spots, per gene; as `pcc_per_gene` on mean ranks."""
    _check_shapes(predicted, measured)
    result = np.full(measured.shape[1], np.nan)
    one_map = _ranks(predicted) if predicted.shape[1] == 1 else None
    for genes in gene_blocks(measured.shape[1]):
        p = one_map if one_map is not None else _ranks(predicted[:, genes])
        result[genes] = pcc_per_gene(p, _ranks(measured[:, genes]))
    return result


def standardise(values: Array) -> npt.NDArray[np.float64]:
    """Columns centred and of length one (sum of squares 1), float64; NaN where a column is constant.

    Constant means that it varies by no more than rounding in its own type.
    """
    centred, length = _centred(values)
    return np.asarray(centred / length)


def _centred(values: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Columns centred, and their lengths (NaN where constant), float64."""
    eps = float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    high, low = values.max(axis=0), values.min(axis=0)
    # A log ratio near 0 is a difference of logarithms around 10, which leave their own rounding in it.
    constant = high - low <= eps * np.maximum(8 * np.maximum(np.abs(high), np.abs(low)), _OF_LOGS)
    centred = np.subtract(values, values.mean(axis=0, dtype=np.float64))
    length = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    length[constant] = np.nan
    return centred, length


def without(values: Array, given: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What a linear fit on `given` (with intercept) leaves of every column, float64.

    A column that the fit explains to rounding becomes exactly 0, hence constant.

    Args:
        values: (n, G).
        given: (n, k).
    """
    n = len(values)
    design = np.column_stack([np.ones(n), given])
    lengths = np.linalg.norm(design, axis=0)
    u, s, _ = np.linalg.svd(design / np.where(lengths > 0, lengths, 1.0), full_matrices=False)
    basis = u[:, s > 1e-10 * s.max()]
    centred = values - values.mean(axis=0, dtype=np.float64)
    left = centred - basis @ (basis.T @ centred)
    eps = float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    largest = np.abs(values).max(axis=0)
    explained = np.abs(left).max(axis=0) <= 64 * max(eps, 1e-15) * np.maximum(largest, 1e-300)
    left[:, explained] = 0.0
    return np.asarray(left)


def pcc_per_spot(predicted: Array, measured: Array) -> npt.NDArray[np.float64]:
    """(n,) Pearson correlation across genes, per spot.

    Gene means alone give a high number here: set it beside what the train mean reaches.
    """
    if predicted.shape != measured.shape:
        raise HESpotExError(
            expected=f"predictions of shape {measured.shape}", found=predicted.shape
        )
    result = np.empty(len(measured))
    for spots in gene_blocks(len(measured)):
        result[spots] = pcc_per_gene(predicted[spots].T, measured[spots].T)
    return result


def gene_blocks(n_genes: int, size: int = GENE_BLOCK) -> list[slice]:
    """Slices that cover the genes in order."""
    return [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]


def block_size(n_spots: int) -> int:
    """Genes of a block, fewer where there are so many spots that float64 copies of more would fill the memory."""
    return max(16, min(GENE_BLOCK, GENE_BLOCK * _SPOTS_OF_FULL_BLOCK // max(n_spots, 1)))


@dataclass(frozen=True)
class Targets:
    """The measured side of scores of one held-out section, computed once for all predictions.

    Attributes:
        log1p: (n, G) measured log1p(CPM over the panel).
        residuals: (n, G) Pearson residuals of the counts.
        mean_count: (G,) raw counts per spot.
        measured: (G,) genes that the section's assay looked for; the others are not scored.
    """

    log1p: npt.NDArray[np.float32]
    residuals: npt.NDArray[np.float32]
    mean_count: npt.NDArray[np.float64]
    measured: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, counts: sparse.csr_matrix, measured: npt.NDArray[np.bool_]) -> Targets:
        """From (n, G) raw counts over the panel."""
        if len(measured) != counts.shape[1]:
            raise HESpotExError(
                expected=f"a measured flag for {counts.shape[1]} genes", found=len(measured)
            )
        margins = Margins.of(counts)
        return cls(
            log1p_cpm(counts, margins=margins),
            pearson_residuals(counts, margins=margins),
            margins.gene / counts.shape[0],
            measured,
        )


def score_section(
    predicted_log1p: Array,
    predicted_composition: Array | None,
    targets: Targets,
    abundant: npt.NDArray[np.intp],
    *,
    nan_as_zero: bool = False,
    in_units: bool = True,
) -> SectionScores:
    """Score one held-out section.

    Args:
        predicted_log1p: (n, G) predicted log1p(CPM over the panel), or (n, 1) for one map for all genes.
        predicted_composition: (n, G) or (n, 1) predicted composition; None if there is none.
        targets: of the section.
        abundant: places of the most abundant genes of the training sections.
        nan_as_zero: count the PCC of a constant gene as 0 instead of leaving it out.
        in_units: False where `predicted_log1p` is no log1p(CPM), so that an error in units means nothing.

    Raises:
        HESpotExError: shapes do not fit together.
    """
    measured, mean_count = targets.measured, targets.mean_count.copy()
    constant = measured & (targets.log1p.max(axis=0) == targets.log1p.min(axis=0))
    pcc_log1p = pcc_per_gene(predicted_log1p, targets.log1p)
    rmse = np.full(len(measured), np.nan)
    if in_units:
        rmse = rmse_per_gene(predicted_log1p, targets.log1p)
    pcc_composition = np.full(len(measured), np.nan)
    if predicted_composition is not None:
        pcc_composition = pcc_per_gene(predicted_composition, targets.residuals)
    for values in (pcc_log1p, pcc_composition, rmse, mean_count):
        values[~measured] = np.nan
    summary = summarise(
        pcc_log1p, pcc_composition, rmse, constant, measured, abundant, nan_as_zero=nan_as_zero
    )
    return SectionScores(summary, pcc_log1p, pcc_composition, rmse, mean_count, constant, measured)


def summarise(
    pcc_log1p: npt.NDArray[np.float64],
    pcc_composition: npt.NDArray[np.float64],
    rmse_log1p: npt.NDArray[np.float64],
    constant: npt.NDArray[np.bool_],
    measured: npt.NDArray[np.bool_],
    abundant: npt.NDArray[np.intp],
    *,
    nan_as_zero: bool = False,
) -> ScoreSummary:
    """Scores over genes from the scores per gene; unmeasured genes never count.

    With `nan_as_zero`, too, a score without any value (of a constant prediction) stays NaN.
    """
    is_abundant = np.zeros(len(measured), dtype=bool)
    is_abundant[abundant] = True
    log1p = _present(pcc_log1p[measured], nan_as_zero)
    composition = _present(pcc_composition[measured], nan_as_zero)
    abundant_composition = _present(pcc_composition[measured & is_abundant], nan_as_zero)
    squared = rmse_log1p[measured] ** 2
    return ScoreSummary(
        pcc_log1p_mean=_mean(log1p),
        pcc_log1p_median=float(np.median(log1p)) if len(log1p) else float("nan"),
        pcc_log1p_top50=_mean(np.sort(log1p)[-_N_BEST:]),
        pcc_composition_mean=_mean(composition),
        pcc_composition_abundant200=_mean(abundant_composition),
        rmse_log1p=float(np.sqrt(_mean(squared))),
        n_constant_genes=float(constant.sum()),
    )


def aggregate(folds: Sequence[Sequence[ScoreSummary]]) -> ScoreSummary:
    """Mean over the sections of each fold, then over the folds; NaN is left out.

    Raises:
        HESpotExError: a fold without sections, or no fold.
    """
    if not folds or any(not fold for fold in folds):
        raise HESpotExError(expected="scores of at least one section in every fold", found="none")
    means = {}
    for name in ScoreSummary.model_fields:
        per_fold = np.array([_mean(np.array([getattr(s, name) for s in fold])) for fold in folds])
        means[name] = _mean(per_fold)
    return ScoreSummary(**means)


def deviance_explained(
    composition: Array,
    pooled: npt.NDArray[np.float64],
    counts: sparse.csr_matrix,
    measured: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float64]:
    """Share of the Poisson deviance of the counts that the predicted composition explains, per gene.

    1 - D(model) / D(null); model: mean = measured total x p, p from the composition; null: measured total x
    pooled share of the training sections, that is the train mean. Below 0: worse than the train mean.

    Args:
        composition: (n, G) log(p) - log(pooled), as the model gives it.
        pooled: (G,) shares that sum to 1.
        counts: (n, G) measured raw counts over the panel.
        measured: (G,) genes that both shares sum to 1 over; None: all.

    Returns:
        (G,); NaN for a gene without counts, or without deviance under the null.
    """
    _check_shapes(composition, np.empty(counts.shape, dtype=np.bool_))
    known = pooled if measured is None else pooled * measured / pooled[measured].sum()
    gain, null = np.zeros(len(pooled)), np.zeros(len(pooled))
    for spots in gene_blocks(counts.shape[0]):
        c = counts[spots].toarray().astype(np.float64)
        log_ratio = composition[spots].astype(np.float64)
        log_ratio -= np.log((known * np.exp(log_ratio)).sum(axis=1, keepdims=True))
        mu = c.sum(axis=1, keepdims=True) * known
        gain += (c * log_ratio - mu * np.expm1(log_ratio)).sum(axis=0)
        null += (xlogy(c, c) - xlogy(c, mu) - c + mu).sum(axis=0)
    seen = np.asarray(counts.sum(axis=0)).ravel()
    explained = np.full(len(pooled), np.nan)
    # A gene that the pooled shares already fit to rounding has no deviance to explain.
    return np.asarray(np.divide(gain, null, out=explained, where=(seen > 0) & (null > 1e-9 * seen)))


def mean_present(
    values: npt.NDArray[np.float64], otherwise: float = np.nan
) -> npt.NDArray[np.float64]:
    """Mean over the first axis of the values that are finite; `otherwise` where none is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, otherwise), where=count > 0))


def rmse_per_gene(predicted: Array, measured: Array) -> npt.NDArray[np.float64]:
    """(G,) root mean squared error over spots, in the unit of both."""
    _check_shapes(predicted, measured)
    result = np.empty(measured.shape[1])
    for genes in gene_blocks(measured.shape[1]):
        p = predicted if predicted.shape[1] == 1 else predicted[:, genes]
        result[genes] = np.sqrt(
            np.mean(np.square(p - measured[:, genes]), axis=0, dtype=np.float64)
        )
    return result


def _present(values: npt.NDArray[np.float64], nan_as_zero: bool) -> npt.NDArray[np.float64]:
    present = values[~np.isnan(values)]
    return np.nan_to_num(values) if nan_as_zero and len(present) else present


def _mean(values: npt.NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def _ranks(values: Array) -> npt.NDArray[np.float64]:
    from scipy.stats import rankdata  # a third of a second to import

    return np.asarray(rankdata(values, axis=0), dtype=np.float64)


def _check_shapes(predicted: Array, measured: Array) -> None:
    if len(predicted) != len(measured) or predicted.shape[1] not in {1, measured.shape[1]}:
        raise HESpotExError(
            expected=f"predictions of shape {measured.shape}", found=predicted.shape
        )
