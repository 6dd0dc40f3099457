"""Owns Section, one piece of tissue with its spots, and how it is put together from its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.runs import content_key
from hespotex.spots.base import MissingGenes


@dataclass(frozen=True)
class Geometry:
    """The physical scale that was decided for a section, and from what.

    Attributes:
        mpp: microns per level-0 pixel.
        spot_pitch_um: distance of neighbouring spots in microns.
        spot_diameter_um: diameter of a spot in microns.
        mpp_sources: every source's own value of mpp, by name.
    """

    mpp: float
    spot_pitch_um: float
    spot_diameter_um: float
    mpp_sources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A piece of tissue with spots: the unit of validation.

    Attributes:
        section_id: unique in a manifest; names the files that are written.
        patient_id: as the user gave it; sections of one patient are never independent.
        slide: the image file; None when features are given.
        geometry: the physical scale.
        barcodes: (n,) names of the spots.
        xy_px0: (n, 2) x, y of the centres in level-0 pixels.
        counts: (n, g) raw counts, CSR; None without expression.
        genes: (g,) gene names; None without expression.
        missing_genes: what a gene that is not in `genes` means.
        array_xy: (n, 2) place in the array's lattice, or None.
        obs: (n, ...) columns carried along (`x_*`, labels), index = barcodes.
        features_file: TRIDENT or CLAM features given in the manifest.
        nuclei_file: nuclei mask given in the manifest.
        dropped: how many entries were left out when reading, by reason.
    """

    section_id: str
    patient_id: str
    slide: Path | None
    geometry: Geometry
    barcodes: npt.NDArray[np.str_]
    xy_px0: npt.NDArray[np.float64]
    counts: sparse.csr_matrix | None
    genes: npt.NDArray[np.str_] | None
    missing_genes: MissingGenes = "zero"
    array_xy: npt.NDArray[np.float64] | None = None
    obs: pd.DataFrame | None = None
    features_file: Path | None = None
    nuclei_file: Path | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.barcodes)

    @property
    def xy_um(self) -> npt.NDArray[np.float64]:
        """(n, 2) x, y of the centres in microns."""
        return self.xy_px0 * self.geometry.mpp

    @property
    def measured(self) -> bool:
        """Whether expression was measured."""
        return self.counts is not None

    def expression_key(self) -> str:
        """Key of the content of positions and counts, to recognise a section under another name."""
        parts: list[object] = [self.xy_px0]
        if self.counts is not None and self.genes is not None:
            parts += [self.counts.data, self.counts.indices, self.counts.indptr, list(self.genes)]
        return content_key(*parts)
