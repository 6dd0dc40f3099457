"""The checks of one section's counts that a reader does not make: depth, genes, emptiness; pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.evaluation.bootstrap import FEWEST_SPOTS
from hespotex.inspection.findings import Finding
from hespotex.inspection.genes import GeneNames, describe_genes
from hespotex.sections.section import Section

# Median counts of a spot below which a spot says next to nothing about single genes.
_SHALLOW = 100
_SHALLOW_REMEDY = (
    "pool bins or cells into larger spots; those less than 50 um apart a fit sums by itself"
)
# Above this share of mitochondrial counts a spot is mostly of broken cells.
_MUCH_MITOCHONDRIAL = 0.5


def count_findings(section: Section) -> list[Finding]:
    """Findings on the counts of a section; its reader has made sure that they are raw."""
    if section.counts is None or section.genes is None:
        return [
            Finding(section.section_id, "counts", "info", "no expression: to predict, not to train")
        ]
    name, genes = section.section_id, section.genes
    counts = sparse.csr_matrix(section.counts)
    names = describe_genes(genes)
    n, g = counts.shape
    shown = f"raw counts of {n:,} spots x {g:,} genes, every gene and spot once"
    return [
        Finding(name, "counts", "ok", shown),
        *_few_spots(name, n),
        _genes(name, genes, names),
        *_depth(name, counts),
        _mitochondrial(name, counts, names),
    ]


def _few_spots(name: str, n_spots: int) -> list[Finding]:
    if n_spots >= FEWEST_SPOTS:
        return []
    return [
        Finding(
            name,
            "counts",
            "warning",
            f"{n_spots:,} spots, fewer than {FEWEST_SPOTS}: a correlation over so few is mostly chance, and gets no "
            "interval",
            "believe none of this section's own scores",
        )
    ]


def _genes(name: str, genes: npt.NDArray[np.str_], names: GeneNames) -> Finding:
    if names.n_spoilt:
        return Finding(
            name,
            "genes",
            "warning",
            f"{names.n_spoilt:,} gene names are dates, numbers or errors of a spreadsheet, as 1-Mar for MARCH1",
            "take the table as it was before a spreadsheet opened it",
        )
    if names.kind == "ids and symbols in one name":
        return Finding(
            name,
            "genes",
            "warning",
            f"every gene name holds an id and a symbol ({genes[0]})",
            "keep one of the two, as other sections, gene lists and gene sets name genes",
        )
    if names.kind == "ids of transcripts":
        return Finding(
            name,
            "genes",
            "warning",
            f"the counts are of transcripts ({genes[0]}), not of genes",
            "sum the counts of the transcripts of each gene, where genes are meant",
        )
    if names.also is not None:
        return Finding(
            name,
            "genes",
            "warning",
            f"genes of {names.species} and {names.also} in one table",
            "keep the genes of one species unless both are meant",
        )
    return Finding(name, "genes", "ok", names.describe())


def _depth(name: str, counts: sparse.csr_matrix) -> list[Finding]:
    depth = _totals(counts)
    low, middle, high = np.percentile(depth, [5, 50, 95])
    spread = (
        f"depth (counts of a spot): median {middle:,.0f}, 5 % below {low:,.0f}, 5 % above {high:,.0f}; "
        f"median of {np.median(np.diff(counts.indptr)):,.0f} genes seen"
    )
    found = [Finding(name, "depth", "ok", spread)]
    if middle < _SHALLOW:
        found = [Finding(name, "depth", "warning", spread, _SHALLOW_REMEDY)]
    empty = int((depth == 0).sum())
    if empty:
        found.append(
            Finding(
                name,
                "depth",
                "warning",
                f"{empty:,} of {len(depth):,} spots without a single count",
                "mark them as outside the tissue, or leave them out",
            )
        )
    return found


def _mitochondrial(name: str, counts: sparse.csr_matrix, names: GeneNames) -> Finding:
    if not names.mitochondrial.any():
        return Finding(name, "depth", "info", "no mitochondrial gene in the table")
    depth, part = _totals(counts), _totals(counts[:, names.mitochondrial])
    seen = depth > 0
    share = float(np.median(part[seen] / depth[seen])) if seen.any() else 0.0
    n_genes = int(names.mitochondrial.sum())
    shown = f"mitochondrial share: median {100 * share:.1f} % ({n_genes} genes)"
    if share > _MUCH_MITOCHONDRIAL:
        return Finding(name, "depth", "warning", shown, "look at the tissue's quality")
    return Finding(name, "depth", "ok", shown)


def _totals(counts: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
