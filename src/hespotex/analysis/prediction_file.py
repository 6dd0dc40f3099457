"""A prediction on the disk, read by genes or by spots: memory holds a part of the values at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.errors import GenePanelError, RunError, shorten
from hespotex.evaluation.claims import Claims
from hespotex.evaluation.ridge_maps import RidgeMaps
from hespotex.export.claim_words import long
from hespotex.export.claims_store import claims_of
from hespotex.export.gene_trust import read_half_width
from hespotex.export.h5ad import StoredPrediction, holds_log1p
from hespotex.export.h5ad_chunks import columns_of, read_some_genes, read_with_genes
from hespotex.export.ridge_store import read_ridge
from hespotex.storage.hdf5 import open_h5

Float32 = npt.NDArray[np.float32]

# Values of one block: 64 MiB of float32, whatever the number of spots.
_BLOCK_VALUES: Final = 2**24


class PredictionFile:
    """One section's prediction in a run folder or elsewhere; n spots, G genes.

    Args:
        path: the h5ad.

    Attributes:
        genes: (G,) names.
        spots: everything but the genes: positions, depth, unlike scores, thumbnail, record.
        claims: what may be claimed of each of the G genes on this slide.
        half_width: (S, G) half widths of the intervals of composition, for regions of `evaluation.regions.SIZES`;
            None where the model has none.

    Raises:
        RunError: the file is missing, cut short, or none of ours.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.spots: StoredPrediction
        self.spots, var = read_with_genes(self.path, ())
        self.genes: npt.NDArray[np.str_] = var.index.to_numpy(dtype=str)
        self.claims: Claims = claims_of(self.spots.record, var, len(self.spots.barcodes))
        self.half_width: Float32 | None = read_half_width(var)
        self._log1p = holds_log1p({keys.UNS: self.spots.record})
        self._columns: dict[str, int] = {gene: j for j, gene in enumerate(self.genes.tolist())}

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

    @cached_property
    def readable(self) -> npt.NDArray[np.bool_]:
        """(n,) spots whose pixels could be read; the others have no values."""
        with self.opened() as file:
            if keys.BAD_TILE not in file["obs"]:
                return np.ones(self.n_spots, bool)
            return ~np.asarray(file[f"obs/{keys.BAD_TILE}"][()], bool)

    def read(self, genes: Sequence[str]) -> StoredPrediction:
        """These genes of the prediction, in this order, with their claims; memory holds few of the others at a time.

        Raises:
            GenePanelError: a gene is not in the file; names those.
        """
        self._expect(genes)
        return read_some_genes(self.path, genes)

    def sentence(self, gene: str) -> str:
        """How far to believe this gene on this slide, with all numbers that its grade rests on.

        Raises:
            GenePanelError: the gene is not in the file.
        """
        self._expect([gene])
        return long(self.claims, self._columns[gene])

    def columns(self, genes: Sequence[str], scale: str) -> Float32 | None:
        """(n, g) values of these genes, `composition` or `log1p`; None where the file holds no log1p.

        Reads nothing but them: for a pass over all genes in blocks.
        """
        places = np.array([self._columns[gene] for gene in genes], np.intp)
        with self.opened() as file:
            if scale == keys.COMPOSITION:
                return columns_of(file[f"layers/{keys.COMPOSITION}"], places)
            return columns_of(file["X"], places) if self._log1p else None

    @cached_property
    def ridge(self) -> RidgeMaps | None:
        """The ridge baseline's maps of all genes; None in a file without."""
        return read_ridge(self.path)

    @cached_property
    def looked_for(self) -> npt.NDArray[np.bool_] | None:
        """(G,) genes that the section's assay looked for; None where nothing was measured."""
        with self.opened() as file:
            if f"layers/{keys.MEASURED_COUNTS}" not in file:
                return None
            return np.asarray(file[f"var/{keys.MEASURED}"][()], bool)

    def opened(self) -> AbstractContextManager[Any]:
        """The h5ad as h5py reads it."""
        return _opened(self.path)

    def rows(self) -> Iterator[tuple[slice, Float32]]:
        """Spots and the (r, G) composition of all genes there, in one pass over the file.

        Composition is the log of a gene's part of the spot's total, against the training sections.
        """
        step = max(1, _BLOCK_VALUES // max(len(self.genes), 1))
        with self.opened() as file:
            table = file[f"layers/{keys.COMPOSITION}"]
            for start in range(0, self.n_spots, step):
                part = slice(start, min(start + step, self.n_spots))
                yield part, np.asarray(table[part], dtype=np.float32)

    def _expect(self, genes: Sequence[str]) -> None:
        unknown = [gene for gene in genes if gene not in self._columns]
        if unknown:
            raise GenePanelError(
                expected=f"genes of the prediction in {self.path}",
                found=shorten(unknown),
                remedy=f"it holds {len(self.genes):,} genes; predict with --all-genes for others of the model",
            )

    def __repr__(self) -> str:
        size = f"{self.n_spots:,} spots, {len(self.genes):,} genes"
        return f"<PredictionFile {self.spots.section_id}: {size}, {self.path}>"


def read_by_section(paths: Iterable[Path]) -> dict[str, PredictionFile]:
    """Predictions by section id, in the order of their ids.

    Raises:
        RunError: a section stands in two files, or a file is none of ours.
    """
    files: dict[str, PredictionFile] = {}
    for path in paths:
        file = PredictionFile(path)
        name = file.spots.section_id
        if name in files:
            raise RunError(
                expected="every section once",
                found=f"{name} in {files[name].path} and in {path}",
                remedy="give one of the files",
            )
        files[name] = file
    return dict(sorted(files.items()))  # the order of arguments changes nothing


def _opened(path: Path) -> AbstractContextManager[Any]:
    return open_h5(path, "a prediction of hespotex in", RunError, "predict again")
