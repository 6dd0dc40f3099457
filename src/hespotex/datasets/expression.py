"""How expression follows from what is painted under a spot, and the truth about each gene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from hespotex.datasets.tissue import KINDS, TISSUES, TUMOUR, Points, Scene, at_points

Values = npt.NDArray[np.float64]

# How many of all genes each programme has, as a fraction; the rest is `flat`.
_PROGRAMME_SHARE: Final = {
    **dict.fromkeys(TISSUES, 0.08),
    "smooth": 0.20,
    "rare": 0.05,
    "patient": 0.02,
}
# A whole spot of tissue without any nucleus in the plane holds as much RNA as so many cells.
_ACELLULAR_CELLS: Final = np.array([2.0, 3.0, 3.0, 2.0, 4.0, 9.0, 3.0])
_DISPERSION: Final = 10.0
_SMOOTH_LENGTH_UM: Final = 300.0
_CAPTURE_LENGTH_UM: Final = 500.0
_WAVES: Final = 96
# Points of a spot's disc, and spots that are looked at together.
_DISC_POINTS: Final = 256
_SPOTS_AT_ONCE: Final = 2048
_RARE_MEAN: Final = 0.03


@dataclass(frozen=True)
class GeneTruth:
    """What each gene depends on.

    Attributes:
        genes: (G,) names; they tell the programme.
        programme: (G,) a tissue of TISSUES: high in that tissue, so the image can tell it;
            `smooth`: a smooth map that has nothing to do with the image; `flat`: the same share of
            every spot's total; `rare`: hardly ever seen; `patient`: only in some patients; `focus`: high in
            the foci of plans that have them.
        profile: (kinds, G) log share of each gene in the RNA of each tissue, and of foci where a plan has them.
        apart: genes that the image tells, and all others, have a fixed part of every spot's total each. Else more of
            the ones is less of all others, so that the image tells a little of every gene.
    """

    genes: npt.NDArray[np.str_]
    programme: npt.NDArray[np.str_]
    profile: Values
    apart: bool = False

    @property
    def predictable(self) -> npt.NDArray[np.bool_]:
        """(G,) whether the composition of the gene can be told from the image."""
        return np.isin(self.programme, KINDS)


def draw_genes(
    rng: np.random.Generator, n_genes: int, *, foci: bool = False, focus_genes: int = 0
) -> GeneTruth:
    """Draw genes with programmes, abundances and strengths; shared by a whole cohort.

    Args:
        rng: of the cohort.
        n_genes: in all.
        foci: whether there is a row of the profile for foci; theirs is that of tumour.
        focus_genes: so many `flat` genes, the last, are high in foci; all others stay what they are without.
    """
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
    truth = GeneTruth(genes, programme, profile)
    return _with_foci(truth, strength, focus_genes) if foci else truth


def _with_foci(truth: GeneTruth, strength: Values, n: int) -> GeneTruth:
    last = np.flatnonzero(truth.programme == "flat")[-n:] if n else np.zeros(0, np.int64)
    if len(last) < n:
        raise ValueError(f"expected at most {len(last)} focus genes, the flat ones; found {n}")
    genes, programme = truth.genes.copy(), truth.programme.copy()
    genes[last] = [f"FOCUS-{i + 1:02d}" for i in range(n)]
    programme[last] = "focus"
    row = truth.profile[TUMOUR].copy()
    row[last] += 1.0 + strength[last]
    return GeneTruth(genes, programme, np.vstack([truth.profile, row]))


def tissue_under_spots(
    scene: Scene, xy_um: Points, diameter_um: float, *, kinds: int = len(TISSUES)
) -> tuple[Values, Values]:
    """Area share and number of nuclei of each tissue under each spot; spots may overlap.

    Args:
        scene: the painted section.
        xy_um: (n, 2) spot centres.
        diameter_um: of the spots.
        kinds: columns: the tissues, and one more where the plan has foci.

    Returns:
        area: (n, kinds), sums to the share of the spot that holds tissue, at most 1.
        nuclei: (n, kinds).
    """
    radius = np.sqrt((np.arange(_DISC_POINTS) + 0.5) / _DISC_POINTS) * diameter_um / 2
    turn = np.arange(_DISC_POINTS) * np.pi * (3 - np.sqrt(5))
    disc = radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    solid = np.where(scene.outline, 1.0 - scene.empty, 0.0)
    centres = cKDTree(scene.nuclei.xy_um)
    area, nuclei = np.zeros((len(xy_um), kinds)), np.zeros((len(xy_um), kinds))
    for start in range(0, len(xy_um), _SPOTS_AT_ONCE):
        part = xy_um[start : start + _SPOTS_AT_ONCE]
        n, rows = len(part), slice(start, start + len(part))
        at = (part[:, None, :] + disc).reshape(-1, 2)
        slot = np.repeat(np.arange(n), _DISC_POINTS) * kinds + at_points(
            scene.tissue, at, scene.mpp
        )
        covered = np.bincount(slot, weights=at_points(solid, at, scene.mpp), minlength=n * kinds)
        area[rows] = covered.reshape(n, kinds) / _DISC_POINTS
        under = centres.query_ball_point(part, diameter_um / 2)
        spot = np.repeat(np.arange(n), [len(found) for found in under])
        kind = scene.nuclei.tissue[np.concatenate([*under, []]).astype(np.int64)]
        nuclei[rows] = np.bincount(spot * kinds + kind, minlength=n * kinds).reshape(n, kinds)
    return area, nuclei


@dataclass(frozen=True)
class Waves:
    """Gaussian random fields of unit variance, squared-exponential, by random Fourier features: values at any point.

    Attributes:
        directions: (d, 96) of the points' d coordinates.
        phase: (96,).
        weights: (96, m), one column a field.
    """

    directions: Values
    phase: Values
    weights: Values

    def __call__(self, points: Points) -> Values:
        """(n, m) values of the fields at (n, d) points."""
        features = np.sqrt(2 / _WAVES) * np.cos(points @ self.directions + self.phase)
        return np.asarray(features @ self.weights)


def draw_waves(rng: np.random.Generator, n_maps: int, length_um: float, axes: int = 2) -> Waves:
    """Draw fields in a plane, or in a block (`axes` 3)."""
    directions = rng.normal(scale=1 / length_um, size=(axes, _WAVES))
    phase = rng.uniform(0, 2 * np.pi, size=_WAVES)
    return Waves(directions, phase, rng.normal(size=(_WAVES, n_maps)))


def draw_smooth(rng: np.random.Generator, truth: GeneTruth, axes: int = 2) -> Waves:
    """The maps of the `smooth` genes."""
    return draw_waves(rng, int((truth.programme == "smooth").sum()), _SMOOTH_LENGTH_UM, axes)


def draw_capture(rng: np.random.Generator) -> Waves:
    """The map of how well a section's spots capture."""
    return draw_waves(rng, 1, _CAPTURE_LENGTH_UM)


def smooth_maps(rng: np.random.Generator, xy_um: Points, n_maps: int, length_um: float) -> Values:
    """(n, n_maps) Gaussian random fields, squared-exponential."""
    return draw_waves(rng, n_maps, length_um)(xy_um)


def expected_shares(
    truth: GeneTruth, rna: Values, maps: Values, log_factor: Values, *, silent: bool
) -> Values:
    """(n, G) expected share of each gene in a spot's total; NaN where a spot holds no RNA.

    Args:
        truth: the genes.
        rna: (n, kinds) RNA that each tissue gives to each spot.
        maps: (n, s) of the `smooth` genes.
        log_factor: (G,) of the patient, on every gene.
        silent: whether the patient lacks the `patient` genes.
    """
    mix = rna / np.maximum(rna.sum(axis=1, keepdims=True), 1e-12)
    share = mix @ np.exp(truth.profile)
    share *= np.exp(log_factor)
    share[:, truth.programme == "smooth"] *= np.exp(0.8 * maps)
    if silent:
        share[:, truth.programme == "patient"] = 0.0
    if truth.apart:
        for block in (truth.predictable, ~truth.predictable):
            own = share[:, block].sum(axis=1, keepdims=True)
            share[:, block] *= block.mean() / np.where(own > 0, own, np.nan)
    total = share.sum(axis=1, keepdims=True)
    return np.asarray(share / np.where(total > 0, total, np.nan))


def log_content(rna: Values, capture: Values) -> Values:
    """(n,) log of a spot's expected total, up to a constant: cellularity and capture (n, 1)."""
    log_depth = 0.6 * np.log(np.maximum(rna.sum(axis=1), 0.5))
    log_depth += 0.15 * capture[:, 0]
    return np.asarray(log_depth)


def draw_capture_noise(rng: np.random.Generator, n: int) -> Values:
    """(n,) log factor on each spot's total that nothing explains."""
    return np.asarray(rng.normal(scale=0.20, size=n))


def rna_of(area: Values, nuclei: Values) -> Values:
    """(n, kinds) RNA in units of one cell's: nuclei, and what tissue holds between them."""
    return np.asarray(nuclei + _ACELLULAR_CELLS[: area.shape[1]] * area)


def expected_counts(truth: GeneTruth, share: Values, depth: Values) -> Values:
    """(n, G) expected counts; a `rare` gene is seen once in about 30 spots, whatever its share."""
    mean = share * depth[:, None]
    mean[:, truth.programme == "rare"] = _RARE_MEAN
    return np.asarray(mean)


def counts_about(rng: np.random.Generator, mean: Values) -> npt.NDArray[np.int64]:
    """(n, G) negative-binomial counts (dispersion 10) about what is expected."""
    rate = mean * rng.gamma(_DISPERSION, 1 / _DISPERSION, size=mean.shape)
    return np.asarray(rng.poisson(rate), dtype=np.int64)
