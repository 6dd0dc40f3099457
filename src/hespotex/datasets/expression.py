"""How expression follows from what is painted under a spot, and the truth about each gene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from hespotex.datasets.tissue import TISSUES, Points, Scene, at_points

Values = npt.NDArray[np.float64]

# How many of all genes each programme has, as a fraction; the rest is `flat`.
_PROGRAMME_SHARE: Final = {
    **dict.fromkeys(TISSUES, 0.08),
    "smooth": 0.20,
    "rare": 0.05,
    "patient": 0.02,
}
# A whole spot of tissue without any nucleus in the plane holds as much RNA as so many cells.
_ACELLULAR_CELLS: Final = np.array([2.0, 3.0, 3.0, 2.0, 4.0, 9.0])
_DISPERSION: Final = 10.0
_SMOOTH_LENGTH_UM: Final = 300.0
_RARE_MEAN: Final = 0.03


@dataclass(frozen=True)
class GeneTruth:
    """What each gene depends on.

    Attributes:
        genes: (G,) names; they tell the programme.
        programme: (G,) a tissue of TISSUES: high in that tissue, so the image can tell it;
            `smooth`: a smooth map that has nothing to do with the image; `flat`: the same share of
            every spot's total; `rare`: hardly ever seen; `patient`: only in some patients.
        profile: (tissues, G) log share of each gene in the RNA of each tissue.
    """

    genes: npt.NDArray[np.str_]
    programme: npt.NDArray[np.str_]
    profile: Values

    @property
    def predictable(self) -> npt.NDArray[np.bool_]:
        """(G,) whether the composition of the gene can be told from the image."""
        return np.isin(self.programme, TISSUES)


def draw_genes(rng: np.random.Generator, n_genes: int) -> GeneTruth:
    """Draw genes with programmes, abundances and strengths; shared by a whole cohort."""
    sizes = {name: round(share * n_genes) for name, share in _PROGRAMME_SHARE.items()}
    sizes["flat"] = n_genes - sum(sizes.values())
    programme = np.repeat(list(sizes), list(sizes.values()))
    number = np.concatenate([np.arange(1, k + 1) for k in sizes.values()])
    genes = np.array([f"{p.upper()}-{i:02d}" for p, i in zip(programme, number, strict=True)])
    abundance = rng.normal(scale=0.8, size=n_genes)
    share = np.exp(abundance) / np.exp(abundance).sum()
    profile = np.tile(np.log(share), (len(TISSUES), 1))
    strength = rng.uniform(0.5, 2.2, size=n_genes)
    for k, tissue in enumerate(TISSUES):
        profile[k] += np.where(programme == tissue, strength, 0.0)
    # Epithelium is epithelium: genes of tumour and gland are half shared.
    related = {"tumour": "gland", "gland": "tumour", "stroma": "muscle"}
    for tissue, other in related.items():
        profile[TISSUES.index(other)] += np.where(programme == tissue, 0.4 * strength, 0.0)
    return GeneTruth(genes, programme, profile)


def tissue_under_spots(scene: Scene, xy_um: Points, diameter_um: float) -> tuple[Values, Values]:
    """Area share and number of nuclei of each tissue under each spot.

    Args:
        scene: the painted section.
        xy_um: (n, 2) spot centres.
        diameter_um: of the spots.

    Returns:
        area: (n, tissues), sums to the share of the spot that holds tissue, at most 1.
        nuclei: (n, tissues).
    """
    n, k = len(xy_um), len(TISSUES)
    points = 256
    radius = np.sqrt((np.arange(points) + 0.5) / points) * diameter_um / 2
    turn = np.arange(points) * np.pi * (3 - np.sqrt(5))
    disc = radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    at = (xy_um[:, None, :] + disc).reshape(-1, 2)
    solid = np.where(scene.outline, 1.0 - scene.empty, 0.0)
    slot = np.repeat(np.arange(n), points) * k + at_points(scene.tissue, at, scene.mpp)
    area = np.bincount(slot, weights=at_points(solid, at, scene.mpp), minlength=n * k) / points
    distance, spot = cKDTree(xy_um).query(scene.nuclei.xy_um)
    under = distance <= diameter_um / 2
    nuclei = np.bincount(spot[under] * k + scene.nuclei.tissue[under], minlength=n * k).astype(
        np.float64
    )
    return area.reshape(n, k), nuclei.reshape(n, k)


def expected_shares(
    rng: np.random.Generator,
    truth: GeneTruth,
    rna: Values,
    xy_um: Points,
    patient: int,
    patient_shift: Values,
) -> Values:
    """(n, G) expected share of each gene in a spot's total.

    Args:
        rng: for the smooth maps, one per gene and section.
        truth: the genes.
        rna: (n, tissues) RNA that each tissue gives to each spot.
        xy_um: (n, 2) spot centres.
        patient: index of the patient; `patient` genes are silent in every second one.
        patient_shift: (G,) log factor of the patient.
    """
    mix = rna / np.maximum(rna.sum(axis=1, keepdims=True), 1e-12)
    share = mix @ np.exp(truth.profile)
    share *= np.exp(patient_shift)
    smooth = truth.programme == "smooth"
    maps = smooth_maps(rng, xy_um, int(smooth.sum()), _SMOOTH_LENGTH_UM)
    share[:, smooth] *= np.exp(0.8 * maps)
    if patient % 2 == 1:
        share[:, truth.programme == "patient"] = 0.0
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def smooth_maps(rng: np.random.Generator, xy_um: Points, n_maps: int, length_um: float) -> Values:
    """(n, n_maps) Gaussian random fields, squared-exponential, by 96 random Fourier features."""
    waves = rng.normal(scale=1 / length_um, size=(2, 96))
    phase = rng.uniform(0, 2 * np.pi, size=96)
    features = np.sqrt(2 / 96) * np.cos(xy_um @ waves + phase)
    return np.asarray(features @ rng.normal(size=(96, n_maps)))


def draw_depth(rng: np.random.Generator, rna: Values, xy_um: Points, mean_depth: float) -> Values:
    """(n,) expected total of each spot: cellularity, a smooth capture efficiency, and noise."""
    content = rna.sum(axis=1)
    log_depth = 0.6 * np.log(np.maximum(content, 0.5))
    log_depth += 0.15 * smooth_maps(rng, xy_um, 1, 500.0)[:, 0]
    log_depth += rng.normal(scale=0.20, size=len(rna))
    depth = np.exp(log_depth - log_depth.mean())
    return np.asarray(mean_depth * depth)


def rna_of(area: Values, nuclei: Values) -> Values:
    """(n, tissues) RNA in units of one cell's: nuclei, and what tissue holds between them."""
    return np.asarray(nuclei + _ACELLULAR_CELLS * area)


def draw_counts(
    rng: np.random.Generator, truth: GeneTruth, share: Values, depth: Values
) -> npt.NDArray[np.int64]:
    """(n, G) negative-binomial counts (dispersion 10); rare genes once in about 30 spots."""
    mean = share * depth[:, None]
    mean[:, truth.programme == "rare"] = _RARE_MEAN
    rate = mean * rng.gamma(_DISPERSION, 1 / _DISPERSION, size=mean.shape)
    return np.asarray(rng.poisson(rate), dtype=np.int64)
