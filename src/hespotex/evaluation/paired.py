"""Two predictions of the same sections side by side: the difference of their mean correlation, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from hespotex.evaluation.bootstrap import block_weights, weighted_pcc
from hespotex.evaluation.compare import FEWEST_UNITS, half_width
from hespotex.evaluation.scores import gene_blocks
from hespotex.models.default.level import by_patient

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """First less second, of the mean over genes of the PCC over spots.

    Attributes:
        value: mean over sections, then patients.
        lower, upper: of the 95 % interval; NaN where there is none.
        units: what the interval rests on: `patients`, `blocks`, or nothing.
    """

    value: float
    lower: float
    upper: float
    units: str


@dataclass(frozen=True)
class SectionDifference:
    """The same of one section.

    Attributes:
        value: over all spots.
        deviation: standard deviation over draws of spatial blocks; NaN where the section is too small.
        n_blocks: drawn from.
    """

    value: float
    deviation: float
    n_blocks: int


def section_difference(
    first: Array,
    second: Array,
    measured: Array,
    xy_um: npt.NDArray[np.float64],
    *,
    n_replicates: int = 200,
    seed: int = 0,
) -> SectionDifference:
    """Difference of two predictions of one section, over the genes in which both have a correlation.

    Args:
        first, second, measured: (n, G).
        xy_um: (n, 2) spot centres.
    """
    blocks, weights = block_weights(xy_um, n_replicates, seed)
    total, n = np.zeros(len(weights) + 1), np.zeros(len(weights) + 1)
    whole = np.ones((1, blocks.shape[0]))
    every = np.concatenate([whole, weights])
    for genes in gene_blocks(measured.shape[1]):
        pcc = [
            weighted_pcc(x[:, genes], measured[:, genes], blocks, every) for x in (first, second)
        ]
        difference = pcc[0] - pcc[1]
        known = np.isfinite(difference)
        total += np.where(known, difference, 0.0).sum(axis=1)
        n += known.sum(axis=1)
    mean = np.divide(total, n, out=np.full(len(total), np.nan), where=n > 0)
    spread = float(mean[1:].std(ddof=1)) if len(weights) else float("nan")
    return SectionDifference(float(mean[0]), spread, blocks.shape[0])


def over_sections(found: Sequence[SectionDifference], owners: Sequence[str]) -> Difference:
    """The mean over patients; its interval over patients where they are four, else over blocks of these sections.

    The latter says what holds of these sections, and nothing of other patients.

    Args:
        owners: whose each section is (`patient_names`).
    """
    names, means = by_patient(np.array([d.value for d in found]), owners)
    value = float(means.mean())
    if len(names) >= FEWEST_UNITS:
        half, units = half_width(means), "patients"
    else:
        share = 1 / (len(names) * np.array([owners.count(o) for o in owners]))
        spread = np.sqrt(np.sum(np.square(share * [d.deviation for d in found])))
        freedom = sum(max(d.n_blocks - 1, 1) for d in found)
        half, units = float(stdtrit(freedom, 0.975) * spread), "blocks"
    if not np.isfinite(half):
        return Difference(value, float("nan"), float("nan"), "")
    return Difference(value, value - half, value + half, units)
