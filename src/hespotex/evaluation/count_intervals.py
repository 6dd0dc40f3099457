"""The distribution of a count whose expectation is off by a log-normal factor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, polygamma, psi

Floats = npt.NDArray[np.float64]


def mixed_poisson_cdf(count: Floats, expected: Floats, sd: Floats) -> Floats:
    """P(C <= count) for C Poisson around `expected` times exp(sd Z), Z standard normal.

    C <= c exactly if the (c + 1)th event of a unit rate comes after the mean: P = P(sd Z - log E + log expected < 0),
    E gamma with shape c + 1. The sum is nearly normal; its third and fourth cumulant are taken in by an Edgeworth
    series. Off by 0.013 at most at c = 0, by 0.005 at 1, by less than 0.003 beyond.

    Args:
        count: (M,) at least 0.
        expected: (M,) positive.
        sd: (M,) or (F, M), of the log factor, 0 or more.

    Returns:
        As `sd`.
    """
    values, place = np.unique(count + 1.0, return_inverse=True)
    mean, k2, k3, k4 = (
        table[place] for table in (psi(values), *(polygamma(n, values) for n in (1, 2, 3)))
    )
    scale = np.sqrt(np.square(sd) + k2)
    x = (mean - np.log(expected)) / scale
    skew, tails, x2 = -k3 / scale**3, k4 / scale**4, np.square(x)
    bend = skew / 6 * (x2 - 1) + tails / 24 * x * (x2 - 3)
    bend += np.square(skew) / 72 * x * (x2 * x2 - 10 * x2 + 15)
    density = np.exp(-x2 / 2) / np.sqrt(2 * np.pi)
    return np.asarray(np.clip(ndtr(x) - density * bend, 0.0, 1.0))
