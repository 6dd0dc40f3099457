"""What a model learnt of its gene sets on held-out training sections: intervals and upper quartiles, a set as one gene.

In the model file the arrays stand beside those of the genes, in the order of the sets that have enough genes in the panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.evaluation.region_intervals import RegionErrors, calibrate_regions
from hespotex.evaluation.trust import Tensors, Trust
from hespotex.genes.gene_sets import GeneSet, PanelSets
from hespotex.models.bundle import Bundle

_PREFIX: Final = "sets."


def learnt_of_sets(
    scores: Sequence[npt.NDArray[np.float32]], regions: Sequence[RegionErrors], *, seed: int
) -> Trust:
    """Upper quartiles and intervals of K gene sets.

    Args:
        scores: (n, K) of training spots, each predicted by a model that had not seen it.
        regions: of `Regions.of_sets` of the same sections.
        seed: of the ranks of ties.
    """
    if not scores:
        return Trust()
    quartile = np.quantile(np.concatenate(scores), 0.75, axis=0).astype(np.float32)
    return Trust(regions=calibrate_regions(regions, seed=seed), upper_quartile=quartile)


def tensors_of_sets(trust: Trust) -> dict[str, npt.NDArray[Any]]:
    """Arrays for the model file."""
    return {_PREFIX + name: value for name, value in trust.tensors().items()}


def trust_of_sets(tensors: Tensors) -> Trust:
    """What `tensors_of_sets` wrote, columns are sets; nothing in a model of before it, or without sets."""
    own = {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}
    return Trust.from_tensors(own)


def trust_with_sets(bundle: Bundle, sets: Sequence[GeneSet]) -> Mapping[str, npt.NDArray[Any]]:
    """`bundle.trust` for other gene sets: one that the model was calibrated with keeps its columns, any other has NaN."""
    rest = {k: v for k, v in bundle.trust.items() if not k.startswith(_PREFIX)}
    old = PanelSets.of(bundle.gene_sets, bundle.genes)
    new = PanelSets.of(sets, bundle.genes)
    known = trust_of_sets(bundle.trust)
    if not len(new) or not len(old):
        return rest
    genes = {s.name: frozenset(s.genes) for s in bundle.gene_sets}
    column = {name: k for k, name in enumerate(old.names)}
    wanted = {s.name: s for s in sets}
    places = np.array(
        [
            column[name]
            if name in column and genes[name] == frozenset(wanted[name].genes)
            else len(column)
            for name in new.names
        ]
    )

    def taken(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        none = np.full((*values.shape[:-1], 1), np.nan, np.float32)
        return np.concatenate([values, none], axis=-1)[..., places]

    regions, quartile = known.regions, known.upper_quartile
    moved = Trust(
        regions=None if regions is None else replace(regions, sd=taken(regions.sd)),
        upper_quartile=None if quartile is None else taken(quartile),
    )
    return {**rest, **tensors_of_sets(moved)}
