"""Sections made of numbers alone, of any size: encoder features, positions, sparse counts.

A few smooth maps over the lattice drive both the features and the composition of the counts, and one
more drives the depth, so that there is something to learn; nothing is drawn or encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
from scipy import sparse

from hespotex.features.appearance import Appearance
from hespotex.features.encode import default_sides
from hespotex.geometry import Geometry
from hespotex.models.types import Cohort, EncodedSection, EncoderRecord
from hespotex.sections.section import Section

PITCH_UM = 100.0
# Sides of the patches: as many as the default has where an encoder states no mpp.
SIDES_UM = default_sides(SimpleNamespace(mpp=None))
_MAPS = 12
_BLOCK = 1000


def make_cohort(
    spots: Sequence[int],
    genes: int,
    *,
    dim: int,
    depth: float = 4000.0,
    seed: int = 0,
    patients: Sequence[str] | None = None,
) -> Cohort:
    """Sections of so many spots each.

    Args:
        spots: per section.
        genes: in the panel; shares are log-normal (sd 1.5), so the tables are sparse as Visium's are.
        dim: encoder features of each patch side.
        depth: median total count of a spot over the panel.
        seed: of everything.
        patients: of the sections; None: each its own.
    """
    items = made_sections(spots, genes, dim=dim, depth=depth, seed=seed, patients=patients)
    record = EncoderRecord("synthetic", "synthetic", dim, 224, (0.5,) * 3, (0.5,) * 3)
    return Cohort(tuple(items), record, SIDES_UM)


def made_sections(
    spots: Sequence[int],
    genes: int,
    *,
    dim: int,
    depth: float = 4000.0,
    seed: int = 0,
    patients: Sequence[str] | None = None,
    sides: int = len(SIDES_UM),
    first: int = 0,
) -> Iterator[EncodedSection]:
    """The sections of `make_cohort`, one at a time from number `first` on; `sides` patches of each spot have features.

    Each depends on its own number alone.
    """
    world = np.random.default_rng(seed)
    share = np.exp(world.normal(0, 1.5, genes))
    share /= share.sum()
    effect = world.normal(0, 0.35, (_MAPS, genes)) * (world.random((_MAPS, genes)) < 0.3)
    into_features = world.normal(0, 1, (_MAPS, sides * dim)).astype(np.float32)
    names = np.array([f"G{i:05d}" for i in range(genes)])
    for number in range(first, len(spots)):
        rng = np.random.default_rng([seed, number])
        patient, n = patients[number] if patients else f"P{number:02d}", spots[number]
        yield _section(
            f"S{number:02d}", patient, n, share, effect, into_features, names, depth, rng, sides
        )


def _section(section_id, patient, n, share, effect, into_features, names, depth, rng, sides):
    xy_um = hexagonal_lattice(n)
    maps = smooth_maps(xy_um, _MAPS + 1, rng)
    dim = into_features.shape[1] // sides
    features = maps[:, :-1].astype(np.float32) @ into_features
    for at in range(0, n, _BLOCK):
        part = features[at : at + _BLOCK]
        part += rng.standard_normal(part.shape, dtype=np.float32) * np.float32(2)
    total = depth * np.exp(0.5 * maps[:, -1] + 0.3 * rng.standard_normal(n))
    blocks = []
    for at in range(0, n, _BLOCK):
        rows = slice(at, at + _BLOCK)
        mean = share * np.exp(maps[rows, :-1] @ effect)
        mean *= (total[rows] / mean.sum(axis=1))[:, None]
        blocks.append(sparse.csr_matrix(rng.poisson(mean).astype(np.int32)))
    counts = sparse.vstack(blocks, format="csr")
    seen = Appearance(rng.random((n, 6), np.float32), np.zeros((n, 0), np.float32))
    features = features.reshape(n, sides, dim)
    return section_of(section_id, patient, xy_um, counts, features, names=names, appearance=seen)


def section_of(
    section_id: str,
    patient: str,
    xy_um: np.ndarray,
    counts: sparse.csr_matrix,
    features: np.ndarray,
    *,
    names: np.ndarray | None = None,
    appearance: Appearance | None = None,
) -> EncodedSection:
    """An encoded section of these numbers, at 0.5 um a pixel."""
    section = Section(
        section_id=section_id,
        patient_id=patient,
        slide=None,
        geometry=Geometry(0.5, PITCH_UM, 55.0),
        barcodes=np.array([f"B{i:06d}" for i in range(len(xy_um))]),
        xy_px0=xy_um / 0.5,
        counts=counts,
        genes=np.array([f"G{i:05d}" for i in range(counts.shape[1])]) if names is None else names,
    )
    return EncodedSection(section, features.astype(np.float32), appearance=appearance)


def gaussian_maps(
    xy_um: np.ndarray, reach_um: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """(n, count) draws of a Gaussian process with a squared exponential kernel of standard deviation 1."""
    squares = ((xy_um[:, None] - xy_um[None]) ** 2).sum(axis=2)
    covariance = np.exp(-squares / reach_um**2 / 2) + 1e-6 * np.eye(len(xy_um))
    return np.linalg.cholesky(covariance) @ rng.normal(size=(len(xy_um), count))


def square_lattice(side: int) -> np.ndarray:
    """(side^2, 2) centres in microns of a square of a square lattice, row by row."""
    row, column = np.divmod(np.arange(side**2), side)
    return np.column_stack([column, row]) * PITCH_UM


def gaussian_squares(side: int, reach: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """(side^2, count) draws as of `gaussian_maps`, on a square lattice of any size: smoothed noise, in pitches."""
    from scipy.ndimage import gaussian_filter

    rim = int(
        np.ceil(4 * reach)
    )  # noise beyond the rim, so that the map does not know where it ends
    maps = np.empty((side**2, count))
    for column in range(count):
        noise = rng.normal(size=(side + 2 * rim, side + 2 * rim))
        # A kernel of reach / sqrt(2) makes a covariance of that reach; its square sums to 1 / (2 pi reach^2).
        smooth = gaussian_filter(noise, reach / np.sqrt(2), truncate=5)
        maps[:, column] = smooth[rim : rim + side, rim : rim + side].ravel()
    return maps * np.sqrt(2 * np.pi) * reach


def paired_counts(
    truth: np.ndarray, depth: np.ndarray, mean: float, rng: np.random.Generator
) -> sparse.csr_matrix:
    """(n, 2g) Poisson counts whose shares follow maps, and no other gene's map.

    Of two neighbours one has the share 1 + t and the other 1 - t, so that shares add up to the same in every spot:
    else a gene that follows the image would drag all others the other way, and none were truly unpredictable.

    Args:
        truth: (n, G) maps, G even; genes 2j and 2j + 1 follow the map of 2j, one of them turned over.
        depth: (n, 1) relative depth.
        mean: counts a spot and gene at depth 1.
        rng: of the counts.
    """
    swing = 0.6 * np.tanh(truth[:, 0::2])
    share = np.empty_like(truth)
    share[:, 0::2], share[:, 1::2] = 1 + swing, 1 - swing
    return sparse.csr_matrix(rng.poisson(mean * depth * share).astype(np.float32))


def hexagonal_lattice(n: int) -> np.ndarray:
    """(n, 2) centres in microns of about a square of a hexagonal lattice."""
    wide = int(np.ceil(np.sqrt(n)))
    row, column = np.divmod(np.arange(n), wide)
    return np.column_stack(
        [(column + 0.5 * (row % 2)) * PITCH_UM, row * PITCH_UM * np.sqrt(3) / 2]
    ).astype(float)


def smooth_maps(xy_um: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(n, count) sums of a few waves, 6 to 40 spots long, each with standard deviation 1."""
    maps = np.zeros((len(xy_um), count))
    for column in range(count):
        for _ in range(4):
            angle, length = rng.uniform(0, 2 * np.pi), PITCH_UM * rng.uniform(6, 40)
            direction = 2 * np.pi / length * np.array([np.cos(angle), np.sin(angle)])
            maps[:, column] += np.sin(xy_um @ direction + rng.uniform(0, 2 * np.pi))
    return maps / np.sqrt(2)
