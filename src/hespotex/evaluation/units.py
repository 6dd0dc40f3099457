"""Whether log1p(CPM) of a prediction and of a section with unmeasured genes have one denominator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# CPM over 99 % of the counts lies higher by a factor of 1 / 0.99: 0.01 in log1p at most.
LEAST_SHARE = 0.99


def units_compare(pooled: npt.NDArray[np.float64], measured: npt.NDArray[np.bool_]) -> bool:
    """Whether the section's measured genes hold nearly all counts of the panel.

    A prediction is CPM over the whole panel, a measurement CPM over the genes that were measured. Where those are
    a part of the panel, every value lies higher, and neither an error nor the coverage of an interval means
    anything.

    Args:
        pooled: (G,) shares of the training sections, which sum to 1; empty where an imported model knows none.
        measured: (G,) genes that the section's assay looked for.
    """
    if not len(pooled):
        return bool(measured.all())
    return bool(pooled[measured].sum() >= LEAST_SHARE)
