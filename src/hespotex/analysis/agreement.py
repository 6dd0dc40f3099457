"""How alike two sections' maps are, gene by gene, at the same places of the tissue; measured, predicted, by ridge.

Genes are read in blocks, each table once a pass, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from hespotex.analysis.common_maps import COMPOSITION, LOG1P, Side, sides_of
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import GeometryError
from hespotex.evaluation.claims import untested
from hespotex.evaluation.scores import block_size, gene_blocks, standardise
from hespotex.evaluation.spatial_null import (
    Cleared,
    SpatialModes,
    benjamini_hochberg,
    build_modes,
    compare_cleared,
)
from hespotex.geometry import Map

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

# The null of a fine lattice: fewer modes, the rest as detail.
_FINE_SPOTS: Final = 20_000
_FINE_MODES: Final = 300
# So many genes of the other section stand for all others.
_OTHERS: Final = 200
# Means over fewer genes say nothing, unless both predictions hold no others.
_LEAST_GENES: Final = 10
# Values of a section that are read at a time.
_READ_VALUES: Final = 2**26
# A map of which depth leaves a smaller part of the variance is depth.
_EXPLAINED: Final = 1e-5
# Correlations that differ by less are one: what products in float32 leave.
_TIED: Final = 1e-4
# What is compared with what: kinds of maps of the first and of the second section.
MEASURED: Final = "measured A / measured B"
CONSISTENT: Final = "predicted A / predicted B"
OWN: Final = "predicted A / measured A"
PAIRS: Final = {MEASURED: (("measured", "a"), ("measured", "b"))}
for _kind in ("predicted", "ridge", "predicted depth"):
    PAIRS[f"{_kind} A / {_kind} B"] = ((_kind, "a"), (_kind, "b"))
    PAIRS[f"{_kind} A / measured B"] = ((_kind, "a"), ("measured", "b"))
    PAIRS[f"measured A / {_kind} B"] = (("measured", "a"), (_kind, "b"))
    PAIRS[f"{_kind} A / measured A"] = ((_kind, "a"), ("measured", "a"))
SPECIFIC: Final = (CONSISTENT, "ridge A / ridge B")


class _Given:
    """What is taken out of maps before they meet measured ones: measured depth of either section, where it is known.

    Args:
        given: (m, k).
    """

    def __init__(self, given: Floats, modes: SpatialModes) -> None:
        centred = standardise(given)
        u, s, _ = np.linalg.svd(np.nan_to_num(centred), full_matrices=False)
        self.basis = u[:, s > 1e-8].astype(np.float32)
        self.modes, self.parts = modes, modes.parts(self.basis)


@dataclass(frozen=True)
class _Maps:
    """(m, g) maps of one kind, or one for all genes, as they are compared.

    Attributes:
        unit: standardised; 0 where constant.
        constant: (g,), NaN among them.
        as_it_is: for the null.
        cleared: the same without what is given.
    """

    unit: Float32
    constant: npt.NDArray[np.bool_]
    as_it_is: Cleared
    cleared: Cleared

    @classmethod
    def of(cls, values: Float32, given: _Given) -> _Maps:
        """Parts are linear: of what is left they follow from those of the whole, and no map is taken apart twice."""
        unit, constant = _standardised(values)
        missing = ~np.isfinite(values[0])
        of_modes, detail = given.modes.parts(unit)
        share = given.basis.T @ unit
        left = 1 - np.square(share, dtype=np.float64).sum(axis=0)
        nothing = constant | (left < _EXPLAINED)
        factor = np.where(nothing, 0.0, 1 / np.sqrt(np.maximum(left, _EXPLAINED))).astype("f4")
        left_modes = (of_modes - given.parts[0] @ share) * factor
        left_detail = None
        if detail is not None and given.parts[1] is not None:
            left_detail = given.parts[1] @ share
            np.subtract(detail, left_detail, out=left_detail)
            left_detail *= factor
        plain = Cleared((of_modes, detail), constant, missing)
        return cls(unit, constant, plain, Cleared((left_modes, left_detail), nothing, missing))


def _standardised(values: Float32) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """As `standardise`, in the type that maps have; 0 and True where a column is constant or holds NaN."""
    mean = values.mean(axis=0, dtype=np.float64)
    high, low = values.max(axis=0), values.min(axis=0)
    size = np.maximum(8 * np.maximum(np.abs(high), np.abs(low)), 32.0)
    constant = ~(high - low > np.finfo(np.float32).eps * size)
    unit = values - mean.astype(np.float32)
    length = np.sqrt(np.einsum("ij,ij->j", unit, unit, dtype=np.float64))
    unit /= np.where(constant, 1.0, length).astype(np.float32)
    unit[:, constant] = 0.0
    return unit, constant


def agreement(
    first: PredictionFile, second: PredictionFile, to_first: Map, pitch_um: float
) -> pd.DataFrame:
    """Every gene of both predictions, every comparison that the files allow.

    Args:
        to_first: from microns of the second section to microns of the first.
        pitch_um: the larger of the two lattices'.

    Returns:
        one row a gene, scale and comparison: `pcc`; `z`, `p_value` and `q_value` against smooth random maps, in
        comparisons with measured maps without measured depth; `others` (mean absolute correlation with up to 200
        other genes' maps in B) and `specificity` (share of these whose signed correlation is below the gene's own, ties
        half), of the model and of ridge; `n_places`; and what is claimed of the gene on either section.

    Raises:
        GeometryError: fewer than 8 spots of either overlap, or fewer than 10 genes are common and either holds others.
    """
    sides, xy = sides_of(first, second, to_first, pitch_um)
    known = set(second.genes.tolist())
    genes = [gene for gene in first.genes.tolist() if gene in known]
    least = len(known | set(first.genes.tolist()))
    if len(genes) < min(_LEAST_GENES, least):
        raise GeometryError(
            expected=f"at least {_LEAST_GENES} genes that both sections' predictions hold",
            found=common_genes(first, second) or "none",
            remedy="predict both with one model and --all-genes",
        )
    modes = build_modes(xy, _FINE_MODES) if len(xy) > _FINE_SPOTS else build_modes(xy)
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
    table["n_places"] = len(xy)
    return table.merge(_claims(first, second), on="gene", how="left")


def common_genes(first: PredictionFile, second: PredictionFile) -> str:
    """How many genes two predictions share, and whether two models made them; empty where both hold the same."""
    sets = [set(f.genes.tolist()) for f in (first, second)]
    if sets[0] == sets[1]:
        return ""
    models = {str(f.spots.record.get("model_id", "")) for f in (first, second)}
    two = ", predicted by two models" if len(models) > 1 else ""
    n = [len(genes) for genes in sets]
    return f"{len(sets[0] & sets[1]) or 'none'} common of {n[0]:,} and {n[1]:,} genes{two}"


def _claims(first: PredictionFile, second: PredictionFile) -> pd.DataFrame:
    """What is claimed of genes on either section; nothing on one that is unlike the training slides."""
    tables = []
    for name, file in (("a", first), ("b", second)):
        claims = file.claims
        if claims.suspended:
            claims = untested(len(file.genes), "", verdict=claims.verdict)
        words = {"grade": claims.grade, "evidence": claims.evidence, "scope": claims.gene_scope}
        tables.append(
            pd.DataFrame({"gene": file.genes} | {f"{k}_{name}": v for k, v in words.items()})
        )
    return tables[0].merge(tables[1], on="gene")


def _of_scale(
    sides: tuple[Side, Side], genes: list[str], others: list[str], scale: str, modes: SpatialModes
) -> Iterator[pd.DataFrame]:
    given = _Given(np.hstack([side.given for side in sides]), modes)
    depth = {
        ("predicted depth", name): _Maps.of(side.depth, given)
        for name, side in zip("ab", sides, strict=True)
        if side.depth is not None
    }
    beside = {what: _elsewhere(sides[1], what, others, scale) for what in SPECIFIC}
    widest = max(side.file.n_spots for side in sides)
    at_once, block = max(1, _READ_VALUES // widest), block_size(sides[0].at.shape[0])
    for wide in gene_blocks(len(genes), max(block, at_once // block * block)):
        names = genes[wide]
        predicted = [side.predicted(names, scale) for side in sides]
        for part in gene_blocks(len(names), block):
            some = names[part]
            maps = dict(depth)
            for name, side, values in zip("ab", sides, predicted, strict=True):
                kinds = {
                    "predicted": None if values is None else values[:, part],
                    "ridge": side.ridge(some, scale),
                    "measured": side.measured(some, scale),
                }
                for kind, of_kind in kinds.items():
                    if of_kind is not None:
                        maps[kind, name] = _Maps.of(of_kind, given)
            yield from _compared(maps, some, others, scale, modes, beside)


def _elsewhere(b: Side, what: str, others: list[str], scale: str) -> Float32 | None:
    """(m, k) standardised maps of other genes in the second section."""
    values = b.predicted(others, scale) if what == CONSISTENT else b.ridge(others, scale)
    return None if values is None else _standardised(values)[0]


def _compared(
    maps: dict[tuple[str, str], _Maps],
    names: list[str],
    others: list[str],
    scale: str,
    modes: SpatialModes,
    beside: dict[str, Float32 | None],
) -> Iterator[pd.DataFrame]:
    """One table a comparison, of these genes; a gene with a constant map has no score and is not tested."""
    for what, (left, right) in PAIRS.items():
        if left not in maps or right not in maps:
            continue
        x, y = maps[left], maps[right]
        if "measured" in (left[0], right[0]):
            _, z = compare_cleared(x.cleared, y.cleared, modes)
        else:
            _, z = compare_cleared(x.as_it_is, y.as_it_is, modes)
        pcc = np.einsum("ij,ij->j", *np.broadcast_arrays(x.unit, y.unit), dtype=np.float64)
        constant = x.constant | y.constant
        pcc, z = np.clip(np.where(constant, np.nan, pcc), -1.0, 1.0), np.where(constant, np.nan, z)
        pcc, z = (np.broadcast_to(values, len(names)) for values in (pcc, z))
        table = pd.DataFrame(
            {"scale": scale, "what": what, "gene": names, "pcc": pcc, "z": z, "p_value": ndtr(-z)}
        )
        of_others = beside.get(what)
        if of_others is not None:
            table["others"], table["specificity"] = _specific(x.unit, of_others, names, others, pcc)
        yield table


def _specific(
    unit: Float32, beside: Float32, names: list[str], others: list[str], own: Floats
) -> tuple[Floats, Floats]:
    """Mean absolute correlation with other genes' maps, and the share of these whose signed one is below the gene's own.

    Who is as high as the gene's own counts half: maps that know no gene reach 0.5, whether all are one or none are alike.
    """
    found = (unit.T @ beside).astype(np.float64)
    found[np.asarray(names)[:, None] == np.asarray(others)[None]] = np.nan
    known = np.isfinite(found)
    n = known.sum(axis=1)
    total = np.where(known, np.abs(found), 0.0).sum(axis=1)
    ahead = np.where(known, own[:, None] - found, 0.0)
    tied = known & (np.abs(ahead) <= _TIED)
    less = np.sum(known & ~tied & (ahead > 0), axis=1) + 0.5 * tied.sum(axis=1)
    missing = (n == 0) | ~np.isfinite(own)
    n = np.maximum(n, 1)
    return np.where(missing, np.nan, total / n), np.where(missing, np.nan, less / n)
