"""What is expected at any point of a painted section, spot or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.datasets.expression import (
    GeneTruth,
    Values,
    Waves,
    counts_about,
    draw_capture_noise,
    expected_counts,
    expected_shares,
    log_content,
    rna_of,
    tissue_under_spots,
)
from hespotex.datasets.tissue import Points, Scene
from hespotex.geometry import Affine

# Spots whose counts are drawn together.
_PIECE: Final = 4096


@dataclass(frozen=True)
class PointTruth:
    """What a spot at each of n points would be expected to hold.

    Attributes:
        genes: what each gene depends on.
        area: (n, kinds) share of the spot that each tissue covers; kinds are the TISSUES, and foci where the plan has them.
        nuclei: (n, kinds) nuclei under the spot.
        share: (n, G) expected share of each gene in the spot's total; NaN where there is no tissue.
        depth: (n,) expected total; 0 where there is no tissue.
    """

    genes: GeneTruth
    area: Values
    nuclei: Values
    share: Values
    depth: Values

    @property
    def counts(self) -> Values:
        """(n, G) expected counts; 0 where there is no tissue."""
        mean = expected_counts(self.genes, np.nan_to_num(self.share), self.depth)
        mean[self.depth == 0] = 0.0
        return mean


@dataclass(frozen=True)
class SectionTruth:
    """Everything that expression of one section follows from.

    Attributes:
        scene: what is painted, in the section's own frame.
        genes: what each gene depends on; a row of the profile for each kind of tissue.
        smooth: the maps of the `smooth` genes, in the plane or the block.
        capture: how well the section's spots capture.
        to_block: from the section's microns to those of the block; unity where there is none.
        z_um: depth in the block; None where sections are drawn one by one.
        log_factor: (G,) of the patient on every gene's share, natural log.
        silent: whether the patient lacks the `patient` genes.
        log_depth: what is added to the log of cellularity and capture: level and scale of the totals.
        spot_diameter_um: of the measured spots.
    """

    scene: Scene
    genes: GeneTruth
    smooth: Waves
    capture: Waves
    to_block: Affine
    z_um: float | None
    log_factor: npt.NDArray[np.float64]
    silent: bool
    log_depth: float
    spot_diameter_um: float

    def at(self, xy_um: Points, diameter_um: float | None = None) -> PointTruth:
        """The truth of spots at any places, such as a lattice finer than the measured one.

        The same numbers as the counts were drawn from where spots were measured, but for the luck of each spot's
        capture (`SectionArrays.depth` has it). A large lattice is asked for piece by piece: n x G numbers come back.

        Args:
            xy_um: (n, 2) centres in microns of the section.
            diameter_um: of the spots; default as measured. Half of it is how far tissue and nuclei count.
        """
        xy_um = np.asarray(xy_um, dtype=np.float64)
        area, nuclei = tissue_under_spots(
            self.scene, xy_um, diameter_um or self.spot_diameter_um, kinds=len(self.genes.profile)
        )
        rna = rna_of(area, nuclei)
        share = self.shares(rna, xy_um)
        depth = np.exp(log_content(rna, self.capture(xy_um)) + self.log_depth)
        depth[rna.sum(axis=1) == 0] = 0.0
        return PointTruth(self.genes, area, nuclei, share, depth)

    def draw_counts(
        self,
        rng: np.random.Generator,
        xy_um: Points,
        *,
        diameter_um: float | None = None,
        depth_factor: float = 1.0,
    ) -> sparse.csr_matrix:
        """(n, G) whole counts of spots at any places, such as a lattice of 200,000: made piece by piece.

        Memory is that of the counts that are not zero, and of one piece.

        Args:
            rng: of the counts alone; what is expected is the section's own.
            xy_um: (n, 2) centres in microns of the section; beyond the tissue all counts are 0.
            diameter_um: as in `at`.
            depth_factor: on the expected totals; a bin of 16 um catches less than a spot.
        """
        xy_um, blocks = np.asarray(xy_um, dtype=np.float64), []
        for start in range(0, len(xy_um), _PIECE):
            truth = self.at(xy_um[start : start + _PIECE], diameter_um)
            luck = np.exp(draw_capture_noise(rng, len(truth.depth)))
            truth = replace(truth, depth=truth.depth * luck * depth_factor)
            blocks.append(sparse.csr_matrix(counts_about(rng, truth.counts).astype(np.int32)))
        return sparse.csr_matrix(sparse.vstack(blocks, format="csr"))

    def shares(self, rna: Values, xy_um: Points) -> Values:
        """(n, G) expected shares of spots at (n, 2) places that hold (n, kinds) RNA."""
        points = xy_um
        if self.z_um is not None:
            points = np.column_stack([self.to_block(xy_um), np.full(len(xy_um), self.z_um)])
        maps = self.smooth(points)
        return expected_shares(self.genes, rna, maps, self.log_factor, silent=self.silent)
