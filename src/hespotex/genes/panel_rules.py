"""The rules that choose a panel; tables of sections come one at a time, so that no two are held together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.config import PanelConfig
from hespotex.errors import GenePanelError
from hespotex.genes.variable_genes import highly_variable


class Table(Protocol):
    """Counts of a section over the union of all genes, (n, G), and which of them it measured, (G,)."""

    @property
    def counts(self) -> sparse.csr_matrix:
        """(n, G)."""

    @property
    def measured(self) -> npt.NDArray[np.bool_]:
        """(G,)."""


@dataclass(frozen=True)
class Seen:
    """What the rules look at, of all sections together.

    Attributes:
        spots: (G,) in which each gene was seen.
        base: (G,) spots in which it was measured.
        totals: (G,) raw counts.
        n_spots: of all sections.
    """

    spots: npt.NDArray[np.int64]
    base: npt.NDArray[np.int64]
    totals: npt.NDArray[np.float64]
    n_spots: int

    @classmethod
    def of(cls, tables: Iterable[Table]) -> Seen:
        """Summed up over sections, at least one."""
        spots, base = np.zeros(1, np.int64), np.zeros(1, np.int64)
        totals, n_spots = np.zeros(1), 0
        for table in tables:
            spots = spots + np.asarray((table.counts > 0).sum(axis=0), np.int64).ravel()
            base = base + table.measured * np.int64(table.counts.shape[0])
            totals = totals + np.asarray(table.counts.sum(axis=0, dtype=np.float64)).ravel()
            n_spots += table.counts.shape[0]
        return cls(spots, base, totals, n_spots)


def chosen_by_rules(
    seen: Seen,
    sections: Iterable[tuple[npt.NDArray[np.bool_], sparse.csr_matrix]],
    config: PanelConfig,
) -> npt.NDArray[np.intp]:
    """Places in the union of the genes that `all` or `hvg` chooses.

    Args:
        sections: (G,) whether a section's table has the gene, and (n, G) its counts; asked for by `hvg` alone.

    Raises:
        GenePanelError: none passes.
    """
    often = (seen.spots > 0) & (seen.spots >= config.min_spot_fraction * seen.base)
    if config.kind == "hvg":
        variable = np.zeros(len(often), dtype=bool)
        for own, counts in sections:
            candidates = np.flatnonzero(often & own)
            if len(candidates):
                variable[highly_variable(counts, candidates, config.n_top)] = True
        often &= variable
    chosen = np.flatnonzero(often & (seen.spots >= config.min_spots))
    if not len(chosen):
        raise GenePanelError(
            expected=(
                f"genes seen in at least {config.min_spot_fraction:.0%} and {config.min_spots} of "
                f"{seen.n_spots} training spots"
            ),
            found=f"none among {len(often)} genes",
            remedy="lower panel.min_spot_fraction or panel.min_spots",
        )
    return chosen
