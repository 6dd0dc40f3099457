"""A prediction on the disk, read gene by gene: memory holds the spots and few genes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import GenePanelError, RunError, shorten
from hespotex.evaluation.claims import Claims
from hespotex.export.claims_store import read_claims
from hespotex.export.gene_trust import read_half_width
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.h5ad_chunks import read_some_genes, stored_genes
from hespotex.storage.hdf5 import open_h5

if TYPE_CHECKING:
    from anndata import AnnData

Float32 = npt.NDArray[np.float32]

# Values of one block: 64 MiB of float32, whatever the number of spots.
_BLOCK_VALUES: Final = 2**24


class PredictionFile:
    """One section's prediction in a run folder or elsewhere; n spots, G genes.

    Args:
        path: the h5ad.

    Attributes:
        path: the file.
        genes: (G,) names.
        spots: everything but the genes: positions, depth, unlike scores, thumbnail, record.
        claims: what may be claimed of each of the G genes on this slide.

    Raises:
        RunError: the file is missing, cut short, or none of ours.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.genes: npt.NDArray[np.str_] = np.array(stored_genes(self.path), dtype=str)
        self.spots: StoredPrediction = read_some_genes(self.path, ())
        self._columns: dict[str, int] = {gene: j for j, gene in enumerate(self.genes.tolist())}
        self._claims: Claims | None = None

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.spots.barcodes)

    @property
    def xy_um(self) -> npt.NDArray[np.float64]:
        """(n, 2) spot centres in microns from the slide's top left corner."""
        return self.spots.xy_px0 * self.spots.mpp

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """(n,) spots that are not flagged as unlike the training's: nothing is said of the others."""
        flagged = self.spots.extras.ood
        return np.ones(self.n_spots, bool) if flagged is None else ~np.asarray(flagged, bool)

    @property
    def claims(self) -> Claims:
        """What may be claimed of the genes, in the order of `genes`."""
        if self._claims is None:
            self._claims = _claims_in(self.path)
        return self._claims

    @property
    def half_width(self) -> npt.NDArray[np.float32] | None:
        """(S, G) half widths of the intervals of composition for regions of 1, 4, 9 and 25 spots; None without."""
        return read_half_width(_table_of(self.path).var)

    def read(self, genes: Sequence[str]) -> StoredPrediction:
        """These genes of the prediction, in this order, with their claims.

        Raises:
            GenePanelError: a gene is not in the file; names those.
        """
        unknown = [gene for gene in genes if gene not in self._columns]
        if unknown:
            raise GenePanelError(
                expected=f"genes of the prediction in {self.path}",
                found=shorten(unknown),
                remedy=f"it holds {len(self.genes):,} genes; predict with --show-genes or --all-genes for others",
            )
        return read_some_genes(self.path, list(genes))

    def composition(self, genes: Sequence[str]) -> Float32:
        """(n, k) composition of these genes: log of a gene's part of the spot's total, against training.

        Raises:
            GenePanelError: a gene is not in the file.
        """
        return np.asarray(self.read(genes).composition, dtype=np.float32)

    def blocks(self) -> Iterator[tuple[slice, Float32]]:
        """Places of genes and their (n, k) composition, block by block over all genes."""
        step = max(1, _BLOCK_VALUES // max(self.n_spots, 1))
        for start in range(0, len(self.genes), step):
            part = slice(start, min(start + step, len(self.genes)))
            yield part, self.composition(self.genes[part].tolist())

    def __repr__(self) -> str:
        size = f"{self.n_spots:,} spots, {len(self.genes):,} genes"
        return f"<PredictionFile {self.spots.section_id}: {size}, {self.path}>"


def _claims_in(path: Path) -> Claims:
    return read_claims(_table_of(path))


def _table_of(path: Path) -> AnnData:
    """Spots, genes and record of a prediction, without any value."""
    from anndata import AnnData
    from anndata.io import read_elem

    with open_h5(path, "a prediction of hespotex in", RunError, "predict again") as file:
        return AnnData(**{name: read_elem(file[name]) for name in ("obs", "var", "uns")})
