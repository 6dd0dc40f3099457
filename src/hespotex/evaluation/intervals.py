"""Prediction intervals with a stated coverage: conformal, calibrated on held-out training sections.

A model that has not seen a training section predicts it. The residuals are divided by a scale, made of the ensemble's
spread and the gene's usual error, and pooled with equal weight per section. Their quantiles are put around the final
model's prediction. This is CV+ (Barber et al. 2021, doi 10.1214/20-AOS1965) without the models of the folds: the centre
is the final model's prediction instead of each fold's. Where sections are few and all spots of a section share an error,
the far quantiles are moved out (`_tail_factor`). The stated coverage holds for sections that are exchangeable with the
training sections. For another patient or scanner, only the coverage that was seen tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hespotex.errors import HESpotExError
from hespotex.evaluation.scores import gene_blocks, mean_present
from hespotex.models.workers import workers

Array = npt.NDArray[np.float16] | npt.NDArray[np.float32] | npt.NDArray[np.float64]

LEVELS = (0.5, 0.8, 0.9, 0.95)
_MIN_SPOTS = 20
# Genes that are sorted together: few enough for the residuals of all spots to stay near a core.
_BLOCK = 32
# Sums of weights that differ by less than this share are the same.
_TIE = 1e-9


@dataclass(frozen=True)
class HeldOutErrors:
    """One training section, predicted by a model that was not fitted on it.

    Attributes:
        predicted: (n, G) in units.
        measured: (n, G) in the same units.
        spread: (n, G) standard deviation over the ensemble; None if there is none.
        genes: (G,) genes that the section measured; None: all.
        unit: what it is a sample of, such as its patient; empty: of itself alone.
    """

    predicted: Array
    measured: Array
    spread: Array | None = None
    genes: npt.NDArray[np.bool_] | None = None
    unit: str = ""


@dataclass(frozen=True)
class ConformalIntervals:
    """Quantiles of the scaled residuals of held-out training sections.

    Attributes:
        levels: (L,) nominal coverages.
        lower, upper: (L, G) quantiles of (measured - predicted) / scale.
        usual_error: (G,) root mean squared residual, the part of the scale that is no spread.
        n_sections: sections that were calibrated on.
    """

    levels: tuple[float, ...]
    lower: npt.NDArray[np.float32]
    upper: npt.NDArray[np.float32]
    usual_error: npt.NDArray[np.float32]
    n_sections: int

    def interval(
        self,
        predicted: Array,
        spread: Array | None = None,
        *,
        level: float = 0.9,
        floor: float = 0.0,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Lower and upper end of the interval, (n, G) each, in units of the prediction.

        Args:
            predicted: (n, G).
            spread: (n, G) of the ensemble, given exactly if it was at calibration.
            level: one of `levels`.
            floor: the smallest value that can be measured.

        Raises:
            HESpotExError: the level was not calibrated, or genes do not fit.
        """
        if level not in self.levels:
            raise HESpotExError(expected=f"one of the levels {self.levels}", found=level)
        if predicted.shape[1] != len(self.usual_error):
            raise HESpotExError(
                expected=f"predictions of {len(self.usual_error)} genes", found=predicted.shape[1]
            )
        row = self.levels.index(level)
        scale = _scale(self.usual_error, spread)
        lower = np.maximum(predicted + self.lower[row] * scale, floor)
        upper = np.maximum(predicted + self.upper[row] * scale, floor)
        return lower.astype(np.float32), upper.astype(np.float32)


def calibrate(
    sections: Sequence[HeldOutErrors], levels: Sequence[float] = LEVELS
) -> ConformalIntervals:
    """Calibrate intervals per gene on held-out training sections.

    Raises:
        HESpotExError: no section, fewer than 20 spots in all, a level outside (0, 1), shapes that differ.
    """
    _check(sections, levels)
    n_genes = sections[0].measured.shape[1]
    usual, shared = _error_parts(sections, n_genes)
    section_weight = np.concatenate(
        [np.full(len(s.measured), 1 / len(s.measured)) for s in sections]
    )

    def ends(genes: slice) -> npt.NDArray[np.float32]:
        scaled = np.concatenate([_scaled_residuals(s, usual, genes).T for s in sections], axis=1)
        return _quantiles(scaled, section_weight, levels)

    with workers() as run:
        lower, upper = np.concatenate(list(run(ends, gene_blocks(n_genes, _BLOCK))), axis=2)
    factor = _tail_factor(levels, shared, _n_units(sections, n_genes))
    one = np.float32(1)  # ends move away from the prediction, never towards it
    return ConformalIntervals(
        tuple(levels),
        lower * np.where(lower < 0, factor, one),
        upper * np.where(upper > 0, factor, one),
        usual.astype(np.float32),
        len(sections),
    )


def offset_share(n_fitted: int, n_final: int) -> float:
    """A section's mean error under the final model, as share of that under a model of fewer units.

    A unit (patient or section) and the mean of n others differ with a variance in proportion to 1 + 1/n.

    Args:
        n_fitted: units that the calibration's model was fitted on.
        n_final: units that the final model is fitted on; not fewer.
    """
    return float(np.sqrt((1 + 1 / n_final) / (1 + 1 / n_fitted)))


def coverage(
    intervals: ConformalIntervals, sections: Sequence[HeldOutErrors], *, floor: float = 0.0
) -> npt.NDArray[np.float64]:
    """(L, G) share of measured values inside, per level and gene, mean over the sections that measured it.

    NaN where an interval has no bound: it holds every value and says nothing.

    Args:
        intervals: calibrated on other sections.
        sections: sections that nobody calibrated on, with their predictions.
        floor: as in `interval`.
    """
    shares = []
    for section in sections:
        rows = []
        for level in intervals.levels:
            lower, upper = intervals.interval(
                section.predicted, section.spread, level=level, floor=floor
            )
            inside = (section.measured >= lower) & (section.measured <= upper)
            bounded = (np.isfinite(lower) & np.isfinite(upper)).all(axis=0)
            rows.append(np.where(bounded, inside.mean(axis=0), np.nan))
        share = np.stack(rows)
        if section.genes is not None:
            share[:, ~section.genes] = np.nan
        shares.append(share)
    return mean_present(np.stack(shares))


def _check(sections: Sequence[HeldOutErrors], levels: Sequence[float]) -> None:
    n_spots = sum(len(s.measured) for s in sections)
    if n_spots < _MIN_SPOTS:
        raise HESpotExError(
            expected=f"at least {_MIN_SPOTS} spots to calibrate intervals on", found=n_spots
        )
    if not levels or not all(0 < level < 1 for level in levels):
        raise HESpotExError(expected="levels between 0 and 1", found=tuple(levels))
    for section in sections:
        if section.predicted.shape != section.measured.shape:
            raise HESpotExError(
                expected=f"predictions of shape {section.measured.shape}",
                found=section.predicted.shape,
            )


def _quantiles(
    scaled: npt.NDArray[np.float32],
    section_weight: npt.NDArray[np.float64],
    levels: Sequence[float],
) -> npt.NDArray[np.float32]:
    """(2, L, g) lower and upper quantile of scaled residuals (g, n), NaN where unmeasured; the weights are (n,)."""
    order = np.argsort(scaled, axis=1)  # NaN, of unmeasured genes, comes last
    weight = section_weight[order]
    known = np.isfinite(scaled).sum(axis=1)
    if (known < scaled.shape[1]).any():
        weight[np.arange(scaled.shape[1]) >= known[:, None]] = 0.0
    cumulative = np.cumsum(weight, axis=1)
    total = cumulative[:, -1]
    # A new spot counts as one more spot of equal weight, which may lie beyond either end.
    share = total / np.maximum(known, 1)
    result = np.empty((2, len(levels), len(scaled)), np.float32)
    for row, level in enumerate(levels):
        low, high = (1 - level) / 2, (1 + level) / 2
        place = (cumulative <= (low * (total + share) + _TIE * total)[:, None]).sum(axis=1) - 1
        result[0, row] = _nth(scaled, order, place, -np.inf)
        place = (cumulative < (high * (total + share) - _TIE * total)[:, None]).sum(axis=1)
        result[1, row] = _nth(scaled, order, place, np.inf)
    return result


def _nth(
    scaled: npt.NDArray[np.float32],
    order: npt.NDArray[np.intp],
    place: npt.NDArray[np.intp],
    beyond: float,
) -> npt.NDArray[np.float32]:
    """(g,) the value of every row that stands at this place of its order; `beyond` where there is none."""
    row = np.arange(len(scaled))
    value = scaled[row, order[row, np.clip(place, 0, scaled.shape[1] - 1)]]
    none = (place < 0) | (place >= scaled.shape[1]) | np.isnan(value)
    return np.where(none, np.float32(beyond), value)


def _error_parts(
    sections: Sequence[HeldOutErrors], n_genes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(G,) root mean squared residual, and the share of its square that is the sections' mean residual."""
    squares, means, count = np.zeros(n_genes), np.zeros(n_genes), np.zeros(n_genes)
    for section in sections:
        mask = np.ones(n_genes, dtype=bool) if section.genes is None else section.genes
        for genes in gene_blocks(n_genes):
            residual = section.measured[:, genes] - section.predicted[:, genes]
            squares[genes] += mask[genes] * np.mean(np.square(residual), axis=0, dtype=np.float64)
            means[genes] += mask[genes] * np.square(np.mean(residual, axis=0, dtype=np.float64))
        count += mask
    shared = np.divide(means, squares, out=np.zeros(n_genes), where=squares > 0)
    return np.sqrt(squares / np.maximum(count, 1)) + 1e-6, np.minimum(shared, 1.0)


def _n_units(sections: Sequence[HeldOutErrors], n_genes: int) -> npt.NDArray[np.float64]:
    """(G,) independent units that measured a gene."""
    measured: dict[str, npt.NDArray[np.bool_]] = {}
    for number, section in enumerate(sections):
        mask = np.ones(n_genes, dtype=bool) if section.genes is None else section.genes
        unit = section.unit or f"section {number}"
        measured[unit] = measured[unit] | mask if unit in measured else mask
    return np.asarray(np.sum(list(measured.values()), axis=0), dtype=np.float64)


def _tail_factor(
    levels: Sequence[float], shared: npt.NDArray[np.float64], n_units: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """(L, G) factor by which the quantiles of a level move out, since few units tell little of how far sections lie apart.

    The variance of an error is a part shared by the section, known from n - 1 deviations, and a part of single
    spots, known from thousands. The sum has (n - 1) / share^2 effective degrees of freedom (Satterthwaite 1946,
    doi 10.2307/3002019). Student's t with these has wider quantiles than the normal distribution; the factor of a level is
    the ratio of the two, divided by the ratio at the 50 % level, where pooled residuals of few sections already fit.

    Args:
        levels: nominal coverages.
        shared: (G,) share of the squared error that is the sections' mean error.
        n_units: (G,) independent units that were calibrated on.
    """
    from scipy import stats

    freedom = np.maximum(n_units - 1, 1) / np.maximum(np.square(shared), 1e-6)
    freedom[n_units < 2] = np.inf  # one unit says nothing of others, not even how little it knows
    upper_tail = (1 + np.asarray(levels)) / 2
    heavier = stats.t.ppf(upper_tail[:, None], freedom) / stats.norm.ppf(upper_tail)[:, None]
    middle = stats.t.ppf(0.75, freedom) / stats.norm.ppf(0.75)
    return np.asarray(np.maximum(heavier / middle, 1.0), np.float32)


def _scaled_residuals(
    section: HeldOutErrors, usual: npt.NDArray[np.float64], genes: slice
) -> npt.NDArray[np.float32]:
    spread = None if section.spread is None else section.spread[:, genes].astype(np.float32)
    scaled = np.asarray(section.measured[:, genes] - section.predicted[:, genes], np.float32)
    scaled /= _scale(usual[genes].astype(np.float32), spread)
    if section.genes is not None:
        scaled[:, ~section.genes[genes]] = np.nan
    return scaled


def _scale(usual: Array, spread: Array | None) -> Array:
    """Spread and usual error as independent parts; the second keeps the scale away from zero."""
    return usual if spread is None else np.sqrt(np.square(spread) + np.square(usual))
