"""How alike two sections' maps are, gene by gene, at the same places of the tissue; measured or predicted.

The maps of the second section are brought to the spots of the first: each takes the mean of up to four spots nearest to
it, with weights that fall off within a pitch. Genes are read in blocks, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.stats import norm

from hespotex import keys
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import GeometryError, RunError
from hespotex.evaluation.scores import block_size, gene_blocks, pcc_per_gene, standardise
from hespotex.evaluation.spatial_null import (
    MIN_SPOTS,
    SpatialModes,
    benjamini_hochberg,
    build_modes,
    compare_maps,
    depth_basis,
)
from hespotex.genes.panel import Margins, log1p_cpm, pearson_residuals
from hespotex.geometry import Affine
from hespotex.storage.hdf5 import open_h5

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

# A spot further from its nearest partner than so many pitches lies outside the common tissue.
_REACH: Final = 1.0
_NEAREST: Final = 4
# The null of a fine lattice: fewer modes, the rest as detail.
_FINE_SPOTS: Final = 20_000
_FINE_MODES: Final = 300
# So many genes of the other section stand for all others.
_OTHERS: Final = 200
COMPOSITION: Final = keys.COMPOSITION
LOG1P: Final = "log1p"
# What is compared with what: the first section's map, the second's.
MEASURED: Final = "measured A / measured B"
CONSISTENT: Final = "predicted A / predicted B"
ACROSS: Final = ("predicted A / measured B", "measured A / predicted B")
OWN: Final = "predicted A / measured A"
DEPTH: Final = {
    "predicted depth A / predicted depth B": ("depth", "depth"),
    "predicted depth A / measured B": ("depth", "measured"),
    "measured A / predicted depth B": ("measured", "depth"),
}
PAIRS: Final = {
    MEASURED: ("measured", "measured"),
    CONSISTENT: ("predicted", "predicted"),
    ACROSS[0]: ("predicted", "measured"),
    ACROSS[1]: ("measured", "predicted"),
    OWN: ("predicted", "measured A"),
    **DEPTH,
}


@dataclass(frozen=True)
class Places:
    """Spots of the first section that have partners in the second.

    Attributes:
        rows: (m,) spots of the first.
        weights: (m, n) of the second's spots, rows sum to 1.
    """

    rows: npt.NDArray[np.intp]
    weights: sparse.csr_matrix


def common_places(
    first: Floats, second: Floats, pitch_um: float, usable: tuple[npt.NDArray[np.bool_], ...]
) -> Places:
    """Spots of the first section that have usable spots of the second within a pitch.

    Args:
        first, second: (n, 2) and (k, 2) spot centres in microns of the common frame.
        pitch_um: the larger of the two lattices'.
        usable: of each, which spots something may be said of.

    Raises:
        GeometryError: fewer than 8 spots overlap.
    """
    kept_a, kept_b = (np.flatnonzero(mask) for mask in usable)
    found = np.zeros((0, 1)), np.zeros((0, 1), np.intp)
    if len(kept_a) and len(kept_b):
        k = min(_NEAREST, len(kept_b))
        found = cKDTree(second[kept_b]).query(first[kept_a], k=list(range(1, k + 1)))
    distance, nearest = (np.asarray(part) for part in found)
    near: npt.NDArray[np.bool_] = distance[:, 0] <= _REACH * pitch_um
    if near.sum() < MIN_SPOTS:
        raise GeometryError(
            expected=f"at least {MIN_SPOTS} spots of either section at common places",
            found=int(near.sum()),
            remedy="look at the picture of the pair: the sections do not overlap there",
        )
    distance, nearest = distance[near], nearest[near]
    weight = np.exp(-0.5 * (distance / (0.5 * pitch_um)) ** 2)
    weight[:, 1:][distance[:, 1:] > _REACH * pitch_um] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    m, k = weight.shape
    table = sparse.csr_matrix(
        (weight.ravel(), (np.repeat(np.arange(m), k), kept_b[nearest].ravel())),
        shape=(m, len(second)),
    )
    return Places(kept_a[near], table)


class Side:
    """One section's maps by block of genes, at the common places.

    Args:
        file: its prediction.
        at: (m, n) weights of its spots at the places.
    """

    def __init__(self, file: PredictionFile, at: sparse.csr_matrix) -> None:
        self.file, self.at = file, at
        self.counts, self.looked_for = _measured(file)
        self.margins = None if self.counts is None else Margins.of(self.counts)
        self.place = {gene: j for j, gene in enumerate(file.genes.tolist())}

    @cached_property
    def given(self) -> Floats:
        """(m, 2) depth at the places, of a measured section; (m, 0) else."""
        if self.counts is None:
            return np.zeros((self.at.shape[0], 0))
        return np.asarray(self.at @ depth_basis(self.counts.tocsr()))

    @cached_property
    def depth(self) -> Float32 | None:
        """(m, 1) log of predicted depth; None where the model predicts none."""
        depth = np.asarray(self.file.spots.depth, np.float64)
        if not np.isfinite(depth).all():
            return None
        return np.asarray(self.at @ np.log1p(np.maximum(depth, 0))[:, None], np.float32)

    def maps(self, genes: list[str], scale: str) -> dict[str, Float32]:
        """(m, g) maps by kind."""
        read = self.file.read(genes)
        predicted = read.composition if scale == COMPOSITION else read.log1p
        found: dict[str, Float32] = {}
        if predicted is not None:
            found["predicted"] = self._there(predicted)
        if self.counts is not None:
            columns = np.array([self.place[gene] for gene in genes])
            part: Any = columns
            make = pearson_residuals if scale == COMPOSITION else log1p_cpm
            values = np.array(make(self.counts, columns=part, margins=self.margins))
            values[:, ~self.looked_for[columns]] = np.nan
            found["measured"] = self._there(values)
        if self.depth is not None:
            found["depth"] = np.repeat(self.depth, len(genes), axis=1)
        return found

    def _there(self, values: npt.NDArray[Any]) -> Float32:
        return np.asarray(self.at @ values.astype(np.float32), np.float32)


def _measured(
    file: PredictionFile,
) -> tuple[sparse.csc_matrix | None, npt.NDArray[np.bool_]]:
    """(n, G) raw counts of a measured section, and which genes its assay looked for."""
    from anndata.io import read_elem

    with open_h5(file.path, "a prediction of hespotex in", RunError, "predict again") as table:
        if f"layers/{keys.MEASURED_COUNTS}" not in table:
            return None, np.zeros(len(file.genes), bool)
        counts = sparse.csc_matrix(read_elem(table[f"layers/{keys.MEASURED_COUNTS}"]))
        return counts, np.asarray(table[f"var/{keys.MEASURED}"][()], bool)


def agreement(
    first: PredictionFile, second: PredictionFile, to_first: Affine, pitch_um: float
) -> pd.DataFrame:
    """Every gene of both predictions, every comparison that the files allow.

    Args:
        to_first: from microns of the second section to microns of the first.
        pitch_um: the larger of the two lattices'.

    Returns:
        one row a gene, scale and comparison: `pcc`; `z`, `p_value` and `q_value` against smooth random maps, measured
        depth taken out; `others` (mean absolute correlation with up to 200 other genes' maps in B) and
        `specificity` (share of these that correlate less than the gene's own), of predictions; `n_places`; and
        what is claimed of the gene on either section.

    Raises:
        GeometryError: fewer than 8 spots overlap, or no gene is common.
    """
    places = common_places(
        first.xy_um, to_first(second.xy_um), pitch_um, (first.usable, second.usable)
    )
    known = set(second.genes.tolist())
    genes = [gene for gene in first.genes.tolist() if gene in known]
    if not genes:
        raise GeometryError(
            expected="genes that both sections' predictions hold",
            found="none",
            remedy="predict both with one model",
        )
    m = len(places.rows)
    own = sparse.csr_matrix((np.ones(m), (np.arange(m), places.rows)), shape=(m, first.n_spots))
    sides = Side(first, own), Side(second, places.weights)
    fine = m > _FINE_SPOTS
    xy = first.xy_um[places.rows]
    modes = build_modes(xy, _FINE_MODES) if fine else build_modes(xy)
    spread = np.unique(np.linspace(0, len(genes) - 1, min(_OTHERS, len(genes))).astype(int))
    others = [genes[j] for j in spread]
    rows = [
        table
        for scale in (COMPOSITION, LOG1P)
        for table in _of_scale(sides, genes, others, scale, modes)
    ]
    table = pd.concat(rows, ignore_index=True)
    table["q_value"] = np.nan
    for _, group in table.groupby(["scale", "what"], sort=False):
        p = group["p_value"].to_numpy()
        table.loc[group.index, "q_value"] = benjamini_hochberg(p, np.isfinite(p))
    table["n_places"] = m
    return table.merge(_claims(first, second), on="gene", how="left")


def _claims(first: PredictionFile, second: PredictionFile) -> pd.DataFrame:
    tables = [
        pd.DataFrame(
            {
                "gene": file.genes,
                f"grade_{name}": file.claims.grade,
                f"evidence_{name}": file.claims.evidence,
                f"scope_{name}": file.claims.gene_scope,
            }
        )
        for name, file in (("a", first), ("b", second))
    ]
    return tables[0].merge(tables[1], on="gene")


def _of_scale(
    sides: tuple[Side, Side], genes: list[str], others: list[str], scale: str, modes: SpatialModes
) -> Iterator[pd.DataFrame]:
    a, b = sides
    elsewhere = b.maps(others, scale).get("predicted")
    beside = None if elsewhere is None else np.nan_to_num(standardise(elsewhere)).astype(np.float32)
    given = {
        ("a", True): a.given,
        ("b", True): b.given,
        ("a", False): a.given[:, :0],
        ("b", False): a.given[:, :0],
    }
    for block in gene_blocks(len(genes), block_size(len(modes.vectors))):
        names = genes[block]
        of_a, of_b = a.maps(names, scale), b.maps(names, scale)
        for what, (left, right) in PAIRS.items():
            x = of_a.get(left)
            y = of_a.get("measured") if right == "measured A" else of_b.get(right)
            if x is None or y is None:
                continue
            whose = "a" if right == "measured A" else "b"
            taken = np.hstack(
                [given["a", left == "measured"], given[whose, right.startswith("measured")]]
            )
            _, z = compare_maps(x, y, taken, modes)
            table = pd.DataFrame(
                {
                    "scale": scale,
                    "what": what,
                    "gene": names,
                    "pcc": pcc_per_gene(x, y),
                    "z": z,
                    "p_value": norm.sf(z),
                }
            )
            if what == CONSISTENT and beside is not None:
                table["others"], table["specificity"] = _specific(
                    x, beside, names, others, table["pcc"].to_numpy()
                )
            yield table


def _specific(
    x: Float32, beside: Float32, names: list[str], others: list[str], own: Floats
) -> tuple[Floats, Floats]:
    """Mean absolute correlation with other genes' maps, and the share of these below the gene's own."""
    found = np.abs(standardise(x).astype(np.float32).T @ beside).astype(np.float64)
    itself = np.asarray(names)[:, None] == np.asarray(others)[None]
    found[itself] = np.nan
    known = np.isfinite(found)
    n = known.sum(axis=1)
    total = np.where(known, found, 0.0).sum(axis=1)
    less = np.sum(known & (np.nan_to_num(found) < own[:, None]), axis=1)
    missing = (n == 0) | ~np.isfinite(own)
    n = np.maximum(n, 1)
    return np.where(missing, np.nan, total / n), np.where(missing, np.nan, less / n)
