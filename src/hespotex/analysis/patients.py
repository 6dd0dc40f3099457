"""Comparisons whose unit is the patient: spots and slides of one patient are no independent samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control

from hespotex.errors import HESpotExError

Floats = npt.NDArray[np.float64]

# Up to so many ways to share patients between two groups, every one is looked at.
_EXACT: Final = 20_000
_FEWEST: Final = 3  # patients that an interval rests on


@dataclass(frozen=True)
class GroupTest:
    """Difference between two groups of patients, per gene.

    Attributes:
        difference: (G,) mean of the second group less mean of the first.
        p_value: (G,) two-sided, from permutations of patients.
        q_value: (G,) false discovery rate (Benjamini-Hochberg).
        n_patients: in both groups.
        n_permutations: how many sharings were looked at.
        least_p: the smallest p-value that so few patients can give.
    """

    difference: Floats
    p_value: Floats
    q_value: Floats
    n_patients: tuple[int, int]
    n_permutations: int
    least_p: float


def patient_means(values: Floats, patients: Sequence[str]) -> tuple[list[str], Floats]:
    """Patients in the order in which they first appear, and (P, G) means over what each has.

    Args:
        values: (n, G) of slides, regions or spots; NaN where a value does not exist.
        patients: (n,) whose.

    Raises:
        HESpotExError: numbers of values and patients differ.
    """
    if len(values) != len(patients):
        raise HESpotExError(
            expected=f"a patient for each of {len(values)} rows", found=f"{len(patients)}"
        )
    names = list(dict.fromkeys(patients))
    place = {name: row for row, name in enumerate(names)}
    rows = np.array([place[p] for p in patients], dtype=np.intp)
    known = np.isfinite(values)
    total, n = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(total, rows, np.where(known, values, 0.0))
    np.add.at(n, rows, known)
    return names, np.divide(total, n, out=np.full_like(total, np.nan), where=n > 0)


def compare_groups(
    values: Floats, second: npt.NDArray[np.bool_], *, n_permutations: int = 9_999, seed: int = 0
) -> GroupTest:
    """Permutation test of the difference of means between two groups of patients.

    All sharings are looked at where there are at most 20,000, else `n_permutations` random ones and the one that
    was seen.

    Args:
        values: (P, G) one row a patient, from `patient_means`; no NaN.
        second: (P,) who is in the second group.
        n_permutations: random sharings.

    Raises:
        HESpotExError: a group is empty, or a value does not exist.
    """
    n, k = len(values), int(np.sum(second))
    if not 0 < k < n:
        raise HESpotExError(
            expected="patients in both groups",
            found=f"{n - k} and {k}",
            remedy="give a label to patients of either kind",
        )
    if not np.isfinite(values).all():
        raise HESpotExError(
            expected="a value of every patient and gene",
            found=f"{int((~np.isfinite(values)).sum()):,} that do not exist",
            remedy="leave those genes or patients out",
        )
    centred = values - values.mean(axis=0)
    if comb(n, k) <= _EXACT:
        members = np.zeros((comb(n, k), n))
        for row, chosen in enumerate(combinations(range(n), k)):
            members[row, list(chosen)] = 1
    else:
        order = np.random.default_rng(seed).random((n_permutations, n)).argsort(axis=1)
        members = np.vstack([np.asarray(second, float), (order < k).astype(float)])
    contrast = members / k - (1 - members) / (n - k)
    seen = (np.asarray(second) / k - (~np.asarray(second, bool)) / (n - k)) @ centred
    # Equal sums differ in their last bits with the order of adding.
    extreme = np.abs(seen) * (1 - 1e-9)
    count = np.zeros(values.shape[1])
    for start in range(0, len(contrast), 1024):
        count += (np.abs(contrast[start : start + 1024] @ centred) >= extreme).sum(axis=0)
    p = count / len(contrast)
    return GroupTest(
        seen, p, false_discovery_control(p), (n - k, k), len(contrast), 1 / len(contrast)
    )


def bootstrap_means(
    values: Floats, *, level: float = 0.95, n_replicates: int = 2_000, seed: int = 0
) -> tuple[Floats, Floats]:
    """(G,) lower and upper end of the interval of the mean over patients; NaN with fewer than 3 patients.

    Args:
        values: (P, G) one row a patient; no NaN.
        level: coverage of the interval (percentiles of means of patients drawn with replacement).
    """
    n, n_genes = values.shape
    if n < _FEWEST:
        return np.full(n_genes, np.nan), np.full(n_genes, np.nan)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_replicates) / n
    means = weights @ values
    lower, upper = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return lower, upper
