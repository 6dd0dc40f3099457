"""The test of a gene against smooth random maps, beyond depth.

The null keeps the spatial autocorrelation of both maps. A map is written in the modes of the lattice (the
eigenvectors of its graph Laplacian: smooth ones first); a random map with the same autocorrelation has the
same size in every mode and a random sign (Moran spectral randomisation, Wagner and Dray 2015,
doi 10.1111/2041-210X.12407, with the Laplacian's modes). The correlation of two maps is the sum over modes of
the products a_k; under random signs its mean is 0 and its variance sum a_k^2. So no map has to be drawn, and
sum a_k / sqrt(sum a_k^2) has tails no heavier than the normal distribution's (Hoeffding): the p-value is exact
enough far out in the tail, where Benjamini-Hochberg over thousands of genes needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import ndtr

from hespotex.errors import HESpotExError
from hespotex.evaluation.scores import gene_blocks, standardise, without
from hespotex.evaluation.spatial_structure import lattice_weights
from hespotex.genes.panel import Margins, pearson_residuals, spot_totals
from hespotex.sections.splits import block_numbers

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]

# Above so many spots only half as many smooth modes are computed; what they leave out, detail within a few
# spots, gets one sign for each group of neighbouring cells. Error rates on 1,600 spots are the same with 200,
# 400 and 800 modes.
MAX_MODES = 1000
_CELLS_PER_SIGN = 4
_RIM = 0.2
# Largest standard deviation of z seen under simulated nulls (see `_laplacian`): z is divided by it.
_LARGEST_SD = 1.04
_SMOOTHING_STEPS = 2
# Fewer spots cannot tell a smooth map from another.
MIN_SPOTS = 8


Parts = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]


@dataclass(frozen=True)
class SpatialModes:
    """Modes of the lattice of one section.

    Attributes:
        of_bumps: (B, K) the modes in bumps; (n, K) where these are single spots.
        groups: (D, n) 0/1, which neighbourhood a spot's detail belongs to; None where K = n leaves no detail.
        bumps: (n, B) sparse: few bumps reach a spot, so a map is taken apart without dense modes; None where they are spots.
    """

    of_bumps: npt.NDArray[np.float32]
    groups: sparse.csr_matrix | None = None
    bumps: sparse.csr_matrix | None = None

    @cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """(n, K) orthonormal columns, smooth ones first."""
        return self.of_bumps if self.bumps is None else np.asarray(self.bumps @ self.of_bumps)

    def parts(self, values: Array) -> Parts:
        """(n, g) maps in the modes, and what these leave where they are not all."""
        a32 = values.astype(np.float32, copy=False)
        if self.bumps is None:
            return self.of_bumps.T @ a32, None
        of_modes = self.of_bumps.T @ (self.bumps.T @ a32)
        return of_modes, a32 - self.bumps @ (self.of_bumps @ of_modes)

    def products_of(self, a: Parts, b: Parts) -> npt.NDArray[np.float64]:
        """(K + D, g) summands of sum_i a_i b_i, of maps that `parts` has taken apart: one for each mode, one for each
        neighbourhood's detail. One map of either side stands for all of the other.
        """
        products = (a[0] * b[0]).astype(np.float64)
        if self.groups is None or a[1] is None or b[1] is None:
            return products
        detail = a[1] * b[1]
        return np.concatenate([products, self.groups @ detail.astype(np.float64)])


@dataclass(frozen=True)
class SectionNull:
    """Test of every gene on one section.

    Attributes:
        score: (G,) composition PCC given depth; NaN where it does not exist.
        z: (G,) the score in standard deviations of the null; NaN likewise.
    """

    score: npt.NDArray[np.float64]
    z: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CombinedTest:
    """Test of every gene over sections.

    Attributes:
        z: (G,) Stouffer's sum over the sections with a score; NaN where there is none.
        p_value: (G,) one-sided; NaN where there is no score.
        q_value: (G,) Benjamini-Hochberg over all genes with a score; NaN where there is none.
        n_sections: (G,) sections with a score.
    """

    z: npt.NDArray[np.float64]
    p_value: npt.NDArray[np.float64]
    q_value: npt.NDArray[np.float64]
    n_sections: npt.NDArray[np.int_]


def build_modes(xy_um: npt.NDArray[np.float64], max_modes: int = MAX_MODES) -> SpatialModes:
    """Modes of a section's spots; one eigendecomposition of at most `max_modes` squared.

    Up to `max_modes` spots they are exact. Above, the Laplacian is solved among half as many smooth bumps, one
    for each compact cell of spots (smoothed aggregation, then Rayleigh-Ritz).

    Args:
        xy_um: (n, 2) spot centres; irregular outlines and holes are fine.
        max_modes: above so many spots, modes are approximate.

    Raises:
        HESpotExError: fewer than 8 spots.
    """
    from scipy.linalg import eigh

    n = len(xy_um)
    if n < MIN_SPOTS:
        raise HESpotExError(expected=f"at least {MIN_SPOTS} spots for a spatial null", found=n)
    laplacian = _laplacian(xy_um)
    # Maps are centred, so modes are those of the Laplacian between centred maps.
    pull = np.asarray(laplacian.sum(axis=1)).ravel()
    if n <= max_modes:
        _, vectors = eigh(_centred(laplacian.toarray(), pull, np.ones(n), pull.mean(), n))
        return SpatialModes(vectors.astype(np.float32))
    n_bumps = max_modes // 2
    cell = block_numbers(xy_um, n_bumps)
    bumps = sparse.csr_matrix((np.ones(n), (np.arange(n), cell)), shape=(n, n_bumps))
    for _ in range(_SMOOTHING_STEPS):
        bumps = bumps - laplacian @ bumps / (1.05 * laplacian.diagonal().max())
    energy = _centred(
        (bumps.T @ laplacian @ bumps).toarray(),
        bumps.T @ pull,
        np.asarray(bumps.sum(axis=0)).ravel(),
        pull.mean(),
        n,
    )
    _, weights_of_bumps = eigh(energy, (bumps.T @ bumps).toarray())
    # Cells that follow one another in the halving are neighbours.
    group = cell // _CELLS_PER_SIGN
    groups = sparse.csr_matrix((np.ones(n), (group, np.arange(n))), shape=(int(group.max()) + 1, n))
    return SpatialModes(weights_of_bumps.astype(np.float32), groups, bumps.astype(np.float32))


def _laplacian(xy_um: npt.NDArray[np.float64]) -> sparse.csr_matrix:
    """(n, n) graph Laplacian of the lattice, with a soft rim.

    A free rim (no extra diagonal) and a fixed one (1) both misstate how a piece cut out of a larger map varies
    near its border; with 0.2 the variance of z under the null was 1.0 to 1.08 in simulations, with 0 up to
    1.13, with 1 up to 1.47 (60 to 600 spots, three kernels, round and square outlines).
    """
    weights = lattice_weights(xy_um)
    degree = np.asarray(weights.sum(axis=1)).ravel()
    diagonal = (1 - _RIM) * degree + _RIM * max(degree.max(), 1.0)
    return sparse.csr_matrix(sparse.diags(diagonal) - weights)


def _centred(
    energy: npt.NDArray[np.float64],
    pull: npt.NDArray[np.float64],
    constant: npt.NDArray[np.float64],
    mean_pull: float,
    n: int,
) -> npt.NDArray[np.float64]:
    """B'HLHB, H = 1 - 11'/n, from B'LB, B'L1, B'1 and the mean of L1."""
    cross = np.outer(constant, pull) / n
    return np.asarray(energy - cross - cross.T + mean_pull * np.outer(constant, constant) / n)


def depth_basis(counts: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """(n, 2) what is taken out of both maps before the test: log1p of measured depth, and its square.

    The square is taken out, too: a score "given depth" must not come from a bend in the dependence on depth.
    """
    depth = np.log1p(spot_totals(counts))
    depth = depth - depth.mean()
    return np.column_stack([depth, depth**2])


def score_against_null(
    predicted_composition: Array, counts: sparse.csr_matrix, modes: SpatialModes
) -> SectionNull:
    """Composition PCC given depth for every gene, and how far it stands out of the smooth null.

    Args:
        predicted_composition: (n, G), or (n, 1) for one map for all genes.
        counts: (n, G) measured raw counts over the panel.
    """
    n_genes = counts.shape[1]
    if len(predicted_composition) != counts.shape[0] or predicted_composition.shape[1] not in {
        1,
        n_genes,
    }:
        raise HESpotExError(
            expected=f"predictions of shape {counts.shape}", found=predicted_composition.shape
        )
    given = depth_basis(counts)
    score, z = (np.full(n_genes, np.nan) for _ in range(2))
    table, margins = counts.tocsc(), Margins.of(counts)
    one_for_all = predicted_composition.shape[1] == 1 and n_genes > 1
    predicted = Cleared.of(predicted_composition, given, modes) if one_for_all else None
    for genes in gene_blocks(n_genes):
        measured = pearson_residuals(table, columns=genes, margins=margins)
        score[genes], z[genes] = compare_cleared(
            predicted or Cleared.of(predicted_composition[:, genes], given, modes),
            Cleared.of(measured, given, modes),
            modes,
        )
    return SectionNull(score, z)


def compare_maps(
    predicted: Array, measured: Array, given: npt.NDArray[np.float64], modes: SpatialModes
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Partial correlation, and its z under the null; (g,) each.

    A prediction that is constant, or that depth explains altogether, says nothing beyond depth: score 0, z 0.
    NaN where the measured map does not vary, or the prediction holds NaN.
    """
    return compare_cleared(
        Cleared.of(predicted, given, modes), Cleared.of(measured, given, modes), modes
    )


@dataclass(frozen=True)
class Cleared:
    """Maps without what is given, ready to be compared with many others.

    Attributes:
        parts: of the standardised maps, in the modes.
        constant: (g,) nothing is left of the map.
        missing: (g,) it holds NaN.
    """

    parts: Parts
    constant: npt.NDArray[np.bool_]
    missing: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, values: Array, given: npt.NDArray[np.float64], modes: SpatialModes) -> Cleared:
        """Of (n, g) maps; a linear fit on `given` (n, k) is taken out."""
        left = standardise(without(values, given))
        missing = np.asarray(~np.isfinite(values).all(axis=0))
        return cls(modes.parts(np.nan_to_num(left)), ~np.isfinite(left[0]), missing)


def compare_cleared(
    predicted: Cleared, measured: Cleared, modes: SpatialModes
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """As `compare_maps`; one map of either side stands for all of the other."""
    products = modes.products_of(predicted.parts, measured.parts)
    absent = measured.constant | predicted.missing
    score = products.sum(axis=0)
    squares = np.square(products).sum(axis=0)
    z = np.divide(
        score, _LARGEST_SD * np.sqrt(squares), out=np.zeros_like(score), where=squares > 0
    )
    for values in (score, z):
        values[np.broadcast_to(absent, values.shape)] = np.nan
    return score, z


def combine_sections(
    z: Sequence[npt.NDArray[np.float64]],
    patients: Sequence[str] | None = None,
    ceilings: Sequence[npt.NDArray[np.float64]] | None = None,
    shared_training: npt.NDArray[np.float64] | None = None,
) -> CombinedTest:
    """Stouffer's method over sections, one-sided, then Benjamini-Hochberg over genes.

    Sections of one patient repeat one another: a chance alignment in one is also in its neighbour. The z of two such
    sections count as correlated by the product of their noise ceilings, since two measurements of one map cannot agree
    more than that. Without ceilings they count as one section. Sections that trained one another's models repeat one
    another, too (`shared_training`).

    Args:
        z: per section (G,); NaN where a section has no score for the gene.
        patients: patient of every section; None: all different.
        ceilings: per section (G,) noise ceiling of the composition PCC.
        shared_training: (S, S) of `training_correlation`; None: no section was trained on.

    Raises:
        HESpotExError: no section, or another number of patients, ceilings or sections.
    """
    if not z:
        raise HESpotExError(expected="the test of at least one section", found="none")
    for name, given in (("patient", patients), ("ceiling", ceilings), ("row", shared_training)):
        if given is not None and len(given) != len(z):
            raise HESpotExError(
                expected=f"a {name} for each of {len(z)} sections", found=len(given)
            )
    table = np.stack(list(z))
    present = np.isfinite(table)
    n_sections = present.sum(axis=0)
    total = np.where(present, table, 0.0).sum(axis=0)
    bound = np.ones(table.shape) if ceilings is None else np.nan_to_num(np.stack(ceilings), nan=1.0)
    bound = np.clip(bound, 0.0, 1.0)
    owners = list(range(len(table))) if patients is None else list(patients)
    variance = n_sections.astype(np.float64)
    for i, j in combinations(range(len(table)), 2):
        shared = 0.0 if shared_training is None else shared_training[i, j]
        same = bound[i] * bound[j] if owners[i] == owners[j] else 0.0
        variance += 2 * np.where(present[i] & present[j], np.maximum(shared, same), 0.0)
    combined = np.divide(
        total, np.sqrt(variance), out=np.full(len(total), np.nan), where=n_sections > 0
    )
    p_value = np.asarray(ndtr(-combined))
    return CombinedTest(combined, p_value, benjamini_hochberg(p_value, n_sections > 0), n_sections)


def training_correlation(
    group: Sequence[str], trained_on: Sequence[Collection[str]]
) -> npt.NDArray[np.float64]:
    """(S, S) correlation of the tests of two sections, each of which was predicted from the other.

    A gene that has nothing to do with the image still meets it by chance, in section i with slopes b_i. A model
    trained on the others tests b_i against the sum of their b_j, so the product b_i b_j stands in the test of i
    and again in that of j: with P groups left out in turn any two tests correlate by 1 / (P - 1), and their sum
    varies twice as much as that of independent tests. Two groups left out in turn are a single test.

    Args:
        group: of every section: what was left out together with it.
        trained_on: groups in the training of its model.
    """
    weight = np.array(
        [[(g in trained) / max(len(trained), 1) for g in group] for trained in trained_on]
    )
    return np.asarray(np.sqrt(weight * weight.T))


def benjamini_hochberg(
    p_value: npt.NDArray[np.float64], tested: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """(G,) q-values over the tested genes; NaN for the others."""
    from scipy.stats import false_discovery_control

    q_value = np.full(len(p_value), np.nan)
    if tested.any():
        q_value[tested] = false_discovery_control(p_value[tested])
    return q_value
