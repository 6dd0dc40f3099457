"""The gene panel and what is computed from counts: depth, log1p(CPM), residuals, composition; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.config import PanelConfig
from hespotex.errors import GenePanelError, shorten
from hespotex.genes.absent_genes import OtherGenes
from hespotex.genes.panel_rules import Seen, chosen_by_rules
from hespotex.genes.parts import measured_parts
from hespotex.sections.section import Section

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class PanelCounts:
    """Counts of one section over the genes of a panel.

    Attributes:
        counts: (n, G) raw counts, CSR float32; zero where a gene is unmeasured.
        measured: (G,) False where the section's assay did not look for the gene.
    """

    counts: sparse.csr_matrix
    measured: npt.NDArray[np.bool_]

    @property
    def depth(self) -> npt.NDArray[np.float64]:
        """(n,) total count of every spot over the panel."""
        return spot_totals(self.counts)


@dataclass(frozen=True)
class GenePanel:
    """The ordered genes that a model predicts, chosen on training sections.

    Genes that the rules choose stand in the order of their sorted names; a given list keeps its order.

    Attributes:
        genes: (G,) unique names.
        training_totals: (G,) total raw count over the training spots; empty if nothing was fitted.
        others: genes of the training tables that it leaves out; empty if nothing was chosen.
    """

    genes: tuple[str, ...]
    training_totals: tuple[float, ...] = ()
    others: OtherGenes = field(default_factory=OtherGenes)

    def __post_init__(self) -> None:
        if not self.genes:
            raise GenePanelError(expected="at least one gene in the panel", found="none")
        if len(set(self.genes)) != len(self.genes):
            doubled = sorted(g for g in set(self.genes) if self.genes.count(g) > 1)
            raise GenePanelError(
                expected="every gene once in the panel",
                found=f"doubled: {shorten(doubled)}",
                remedy="remove the repeats",
            )
        if self.training_totals and len(self.training_totals) != len(self.genes):
            raise GenePanelError(
                expected=f"a training total for each of {len(self.genes)} genes",
                found=len(self.training_totals),
            )

    @classmethod
    def fit(cls, sections: Sequence[Section], config: PanelConfig) -> GenePanel:
        """Choose the panel on training sections.

        `all`: genes seen in at least `min_spot_fraction` and `min_spots` of the training spots. `hvg`: of
        these the union over sections of each one's `n_top` highly variable genes (scanpy's seurat_v3 on
        raw counts). `list`: as given; a listed gene that whole-transcriptome sections lack was never seen
        there and counts as 0. To each, `add` adds its genes that some section's table has.
        The share of spots is taken over the spots of the sections that measured the gene.

        Raises:
            GenePanelError: a section has no counts, listed genes are not of these sections, no gene passes.
        """
        if not sections:
            raise GenePanelError(
                expected="at least one training section to fit a panel on", found="none"
            )
        union = measured = all_genes(sections)
        added = np.intersect1d(union, np.asarray(config.add, dtype=np.str_))
        if config.kind == "list":
            check_listed(config.genes or (), sections)
            union = np.union1d(union, np.asarray(config.genes))
        seen = Seen.of(_align(s, union) for s in sections)
        if config.kind == "list":
            listed = np.asarray(config.genes)
            names = np.concatenate([listed, added[~np.isin(added, listed)]])
        else:
            tables = ((np.isin(union, _names(s)), _align(s, union).counts) for s in sections)
            names = np.union1d(union[chosen_by_rules(seen, tables, config)], added)
        left_out = np.setdiff1d(measured, names)
        shares = (seen.spots / np.maximum(seen.base, 1))[np.searchsorted(union, left_out)]
        return cls(
            tuple(str(g) for g in names),
            tuple(float(t) for t in seen.totals[np.searchsorted(union, names)]),
            OtherGenes(tuple(left_out.tolist()), tuple(shares.tolist())),
        )

    @classmethod
    def given(cls, genes: Sequence[str], sections: Sequence[Section]) -> GenePanel:
        """These very genes with their totals in these sections; 0 where no section measured a gene."""
        panel, totals = cls(tuple(genes)), np.zeros(len(genes))
        for section in sections:
            counts = panel.counts(section).counts
            totals += np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
        return cls(panel.genes, tuple(float(t) for t in totals))

    def counts(self, section: Section) -> PanelCounts:
        """Counts of a section over the panel, whatever genes the section has in whatever order.

        A gene that the section lacks is zero, or unmeasured if the section says so (`missing_genes`).

        Raises:
            GenePanelError: the section has no counts, or measured no gene of the panel.
        """
        result = _align(section, np.asarray(self.genes, dtype=np.str_))
        if not set(self.genes).intersection(_names(section)):
            raise GenePanelError(
                expected=f"some of the panel's {len(self.genes)} genes ({shorten(self.genes)})",
                found=f"none among the section's {len(_names(section))}",
                remedy="check species and kind of gene names",
                section=section.section_id,
            )
        return result

    def abundant(self, n_top: int = 200) -> npt.NDArray[np.intp]:
        """(min(n_top, G),) places of the genes with the largest training totals, ties in panel order.

        Raises:
            GenePanelError: the panel was not fitted on counts.
        """
        if not self.training_totals:
            raise GenePanelError(expected="a panel with training totals", found="gene names alone")
        return np.argsort(-np.asarray(self.training_totals), kind="stable")[:n_top]


def spot_totals(counts: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """(n,) total count of every spot over the panel."""
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()


def empty_spots(counts: sparse.csr_matrix) -> npt.NDArray[np.bool_]:
    """(n,) True where a spot has no count of any panel gene."""
    return np.asarray(spot_totals(counts) == 0)


@dataclass(frozen=True)
class Margins:
    """Totals of one section's counts, computed once where genes are worked on in blocks.

    Attributes:
        spot: (n,) total over the panel.
        gene: (G,) total over the spots.
    """

    spot: npt.NDArray[np.float64]
    gene: npt.NDArray[np.float64]

    @classmethod
    def of(cls, counts: sparse.csr_matrix) -> Margins:
        """Totals of (n, G) counts."""
        return cls(spot_totals(counts), np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel())


def log1p_cpm(
    counts: sparse.csr_matrix, columns: slice | None = None, margins: Margins | None = None
) -> npt.NDArray[np.float32]:
    """log1p of counts scaled to 1e6 per spot over the panel; a spot without counts stays zero.

    Args:
        counts: (n, G) raw counts over the panel.
        columns: genes to return; totals are over the whole panel all the same.
        margins: of the counts, if known.

    Returns:
        (n, G) or (n, number of columns), natural logarithm.
    """
    return np.asarray(sparse_log1p_cpm(counts, columns, margins).toarray())


def sparse_log1p_cpm(
    counts: sparse.csr_matrix, columns: slice | None = None, margins: Margins | None = None
) -> sparse.csr_matrix:
    """`log1p_cpm` as it is, mostly zeros: CSR or CSC as the counts are, float32."""
    totals = spot_totals(counts) if margins is None else margins.spot
    scale = np.divide(1e6, totals, out=np.zeros_like(totals), where=totals > 0).astype(np.float32)
    part = counts if columns is None else counts[:, columns]
    data = np.repeat(scale, np.diff(part.indptr)) if part.format == "csr" else scale[part.indices]
    data *= part.data
    data += 1  # log1p itself is several times slower; below 1e-3, where it differs, there is next to nothing
    np.log(data, out=data)
    return type(part)((data, part.indices, part.indptr), shape=part.shape)


def pearson_residuals(
    counts: sparse.csr_matrix,
    theta: float = 100.0,
    columns: slice | None = None,
    margins: Margins | None = None,
    rows: slice | npt.NDArray[np.intp] | None = None,
    n_spots: int | None = None,
) -> npt.NDArray[np.float32]:
    """Pearson residuals of counts under a negative binomial in which composition is constant.

    residual = (c - mu) / sqrt(mu + mu^2 / theta), mu = spot total x gene total / grand total, clipped to
    +-sqrt(n); 0 where mu = 0 (Lause et al. 2021, doi 10.1186/s13059-021-02451-7).

    Args:
        counts: (n, G) raw counts of ONE section over the panel.
        theta: dispersion.
        columns: genes to return; totals are over the whole panel all the same.
        margins: of the counts, if known.
        rows: spots to return; totals are over the whole section all the same.
        n_spots: of the section, where counts are a part of it: `margins.gene` is then over the section.

    Returns:
        (n, G), or fewer spots and genes; no unit.
    """
    known = Margins.of(counts) if margins is None else margins
    grand = known.gene.sum()
    share = known.gene / grand if grand > 0 else known.gene
    part, spot = (counts, known.spot) if rows is None else (counts[rows], known.spot[rows])
    if columns is not None:
        part, share = part[:, columns], share[columns]
    mu = np.multiply.outer(spot.astype(np.float32), share.astype(np.float32))
    result = np.asarray(part.toarray(), dtype=np.float32)
    result -= mu
    mu *= 1 + mu / np.float32(theta)  # the variance, in place
    np.sqrt(mu, out=mu)
    mu[mu == 0] = 1  # then the count is 0 as well
    result /= mu
    bound = np.float32(np.sqrt(counts.shape[0] if n_spots is None else n_spots))
    return np.clip(result, -bound, bound, out=result)


def pooled_composition(
    counts: Sequence[sparse.csr_matrix], measured: Sequence[npt.NDArray[np.bool_]] | None = None
) -> npt.NDArray[np.float64]:
    """(G,) share of every gene in the pooled counts of sections; positive, sums to 1.

    A gene's share is taken over the sections that measured it, whose counts are brought to one unit (`parts`). A gene
    without any count gets half a count, so that its logarithm exists.

    Args:
        counts: per section (n, G).
        measured: per section (G,); None if all were.

    Raises:
        GenePanelError: there is no count at all.
    """
    gene_totals = np.stack([np.asarray(c.sum(axis=0, dtype=np.float64)).ravel() for c in counts])
    masks = np.ones(gene_totals.shape, dtype=bool) if measured is None else np.stack(list(measured))
    grand = gene_totals.sum(axis=1, keepdims=True)
    if not grand.sum() > 0:
        raise GenePanelError(
            expected="counts of panel genes in the training sections", found="none"
        )
    seen = (gene_totals * masks).sum(axis=0)
    base = (grand / measured_parts(gene_totals, masks)[:, None] * masks).sum(axis=0)
    share = np.maximum(seen, 0.5) / np.where(base > 0, base, grand.sum())
    return np.asarray(share / share.sum())


def composition(mean: FloatArray, pooled: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """log(p) - log(pooled p), with p = mean / sum of the spot's means.

    Args:
        mean: (n, G) expected counts, or shares p themselves; >= 0.
        pooled: (G,) as `pooled_composition` gives it.

    Returns:
        (n, G), natural logarithm; a spot whose means are all zero gets zeros.
    """
    total = mean.sum(axis=1, keepdims=True, dtype=np.float64)
    p = np.where(total > 0, mean / np.where(total > 0, total, 1.0), pooled)
    return np.asarray(np.log(np.maximum(p, 1e-12)) - np.log(pooled), dtype=np.float32)


def _names(section: Section) -> npt.NDArray[np.str_]:
    """The section's gene names.

    Raises:
        GenePanelError: the section has no measured expression.
    """
    if section.counts is None or section.genes is None:
        raise GenePanelError(
            expected="measured expression",
            found="a section without counts",
            remedy="give `expression` in the manifest",
            section=section.section_id,
        )
    return section.genes


def _align(section: Section, genes: npt.NDArray[np.str_]) -> PanelCounts:
    """Counts of a section in the order of `genes`, without a dense copy."""
    names, source = _names(section), sparse.csr_matrix(section.counts)
    if np.array_equal(names, genes):  # as they are: nothing to look up, nothing to copy
        same = (source.data.astype(np.float32, copy=False), source.indices, source.indptr)
        return PanelCounts(
            sparse.csr_matrix(same, shape=source.shape), np.ones(len(genes), dtype=np.bool_)
        )
    order = np.argsort(genes, kind="stable")
    place = np.clip(np.searchsorted(genes[order], names), 0, len(genes) - 1)
    target = order[place]
    known = genes[target] == names
    kept = known[source.indices]
    indptr = np.concatenate([[0], np.cumsum(kept)])[source.indptr]
    data = source.data[kept].astype(np.float32)
    aligned = sparse.csr_matrix(
        (data, target[source.indices[kept]].astype(np.int32), indptr),
        shape=(source.shape[0], len(genes)),
    )
    aligned.sort_indices()
    measured = np.ones(len(genes), dtype=np.bool_)
    if section.missing_genes == "unmeasured":
        measured[:] = False
        measured[target[known]] = True
    return PanelCounts(aligned, measured)


def all_genes(sections: Sequence[Section]) -> npt.NDArray[np.str_]:
    """Sorted names of the genes in any of these sections' tables.

    Raises:
        GenePanelError: a section has no counts.
    """
    # Sections mostly name the same genes, so that names stay few however many the sections.
    return reduce(np.union1d, (_names(s) for s in sections), np.empty(0, np.str_))


def check_listed(genes: tuple[str, ...], sections: Sequence[Section]) -> list[str]:
    """Listed genes that no section's table has.

    Whole-transcriptome tables leave out genes that were never seen, so a listed gene may be absent
    from them; where most are, the list is of another kind of names. A targeted panel lists all that
    it looked for, so there an absent gene was never measured.

    Raises:
        GenePanelError: the list is empty, doubled, or not of these sections' genes.
    """
    GenePanel(genes)  # not empty, every gene once
    known = set().union(*(_names(s).tolist() for s in sections))
    unknown = [gene for gene in genes if gene not in known]
    targeted = all(s.missing_genes == "unmeasured" for s in sections)
    if unknown and (targeted or 2 * len(unknown) > len(genes)):
        raise GenePanelError(
            expected="listed genes that the training sections have",
            found=f"{len(unknown)} of {len(genes)} unknown: {shorten(unknown)}",
            remedy="remove them from the list or check the kind of gene names",
        )
    return unknown
