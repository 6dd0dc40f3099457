"""The expectation of log1p(CPM) of a count whose depth is known only roughly.

A count is negative binomial with mean T p, T the spot's total and p the gene's share; log T is normal
around its prediction. E[log1p(1e6 c / T)] has no closed form, so it is tabulated once over (log p,
log T) and read by bilinear interpolation: linear in spots and genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

_STEP = 0.125  # of both axes, in natural logarithms
_LOG_SHARE = (-18.0, 0.0)
_LOG_DEPTH = (-2.0, 16.0)
_EXACT_MEAN = 40.0  # above, a second-order expansion is good to 1e-2; below, the sum over counts
_LARGEST_COUNT = 700


@dataclass(frozen=True)
class Log1pExpectation:
    """The table.

    Attributes:
        table: (log shares, log depths) float32, steps of 0.125 from -18 and -2.
    """

    table: Float32

    def __call__(self, log_share: Float32, log_depth: Float32) -> Float32:
        """Expected log1p(CPM), (n, G); arguments beyond the table take its border.

        Args:
            log_share: (n, G) log p.
            log_depth: (n,) centre of the distribution of log T.
        """
        shares, depths = self.table.shape
        j, v = _cell(log_depth, _LOG_DEPTH[0], depths)
        # The table at each spot's own depth, (n, shares), and how much it rises to the next share.
        columns = np.ascontiguousarray(self.table.T)
        of_spot = columns[j] * (1 - v)[:, None] + columns[j + 1] * v[:, None]
        rise = np.diff(of_spot, axis=1, append=0)
        i, u = _cell(log_share, _LOG_SHARE[0], shares)
        i += shares * np.arange(len(i), dtype=np.intp)[:, None]
        u *= rise.take(i)
        u += of_spot.take(i)
        return u


def tabulate(dispersion: float, depth_sd: float) -> Log1pExpectation:
    """Build the table.

    Args:
        dispersion: r of the negative binomial, variance = mean + mean^2 / r.
        depth_sd: standard deviation of log T around its prediction.
    """
    log_share = np.arange(_LOG_SHARE[0], _LOG_SHARE[1] + _STEP / 2, _STEP)
    log_depth = np.arange(_LOG_DEPTH[0], _LOG_DEPTH[1] + _STEP / 2, _STEP)
    log_mean = np.arange(
        log_share[0] + log_depth[0], log_share[-1] + log_depth[-1] + _STEP / 2, _STEP
    )
    mean = np.exp(log_mean)
    counts = np.arange(1, _LARGEST_COUNT + 1)
    exact = mean <= _EXACT_MEAN
    probability = _negative_binomial(counts, mean[exact], dispersion)
    values = np.log1p(counts[:, None] * np.exp(np.log(1e6) - log_depth))
    by_mean = np.empty((len(mean), len(log_depth)))
    by_mean[exact] = probability @ values
    large, scale = mean[~exact, None], np.exp(np.log(1e6) - log_depth)
    by_mean[~exact] = np.log1p(large * scale) - (1 / large + 1 / dispersion) / 2
    index = np.arange(len(log_share))[:, None] + np.arange(len(log_depth))
    table = by_mean[index, np.arange(len(log_depth))]
    return Log1pExpectation(_blur(table, depth_sd).astype(np.float32))


def _negative_binomial(counts: npt.NDArray[np.int64], mean: Float64, dispersion: float) -> Float64:
    """Probability of each count (columns) for each mean (rows)."""
    from scipy.special import gammaln

    log_coefficient = gammaln(counts + dispersion) - gammaln(dispersion) - gammaln(counts + 1)
    ratio = np.log(mean / (mean + dispersion))[:, None] * counts
    none = dispersion * np.log(dispersion / (mean + dispersion))[:, None]
    result: Float64 = np.exp(log_coefficient + ratio + none)
    return result


def _blur(table: Float64, depth_sd: float) -> Float64:
    """Average along log T with a normal weight, at fixed p."""
    from scipy.ndimage import gaussian_filter1d

    if depth_sd <= 0:
        return table
    blurred: Float64 = gaussian_filter1d(table, depth_sd / _STEP, axis=1, mode="nearest")
    return blurred


def _cell(x: Float32, start: float, size: int) -> tuple[npt.NDArray[np.intp], Float32]:
    """Lower grid index and the fraction of the way to the next."""
    place = np.asarray((x - np.float32(start)) * np.float32(1 / _STEP), np.float32)
    np.clip(place, 0, np.float32(size - 1.001), out=place)
    index = place.astype(np.intp)
    place -= index
    return index, place
