"""Gene sets: how a GMT file is read, and the score of a set in a prediction; reads files, else pure.

A set is scored like one gene whose counts are those of its members together: its composition, the log of the set's
part of the spot's panel total, against the same part in the training sections. Depth cancels, no spot knows of another,
and the same sum of counts is what a measured section says of the set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import ConfigError, shorten
from hespotex.genes.gene_names import find_names
from hespotex.storage.content_keys import content_key
from hespotex.storage.text_files import read_text

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

# With one or two genes a set is no more than these genes.
MIN_GENES: Final = 3
_SHOWN: Final = 8
_BLOCK: Final = 1024  # spots at a time


@dataclass(frozen=True)
class GeneSet:
    """A named list of genes.

    Attributes:
        genes: every gene once, in the order of the file.
    """

    name: str
    genes: tuple[str, ...]


def read_gmt(path: str | Path) -> tuple[GeneSet, ...]:
    """Read a GMT file: one set a line, tab-separated: name, description, genes.

    A gene named twice in a set counts once; blank lines and comments (#) are skipped.

    Raises:
        ConfigError: no file, no text, no set, a line without tabs or genes, or a doubled name.
    """
    path = Path(path)
    lines = read_text(
        path, "a GMT file (name, description, genes, tab-separated)", ConfigError
    ).splitlines()
    sets: dict[str, GeneSet] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        made = _parse_line(line, f"{path}, line {number}")
        if made.name in sets:
            raise ConfigError(
                expected="every gene set once",
                found=f"{made.name!r} again in {path}, line {number}",
                remedy="rename or remove one",
            )
        sets[made.name] = made
    if not sets:
        raise ConfigError(
            expected=f"at least one gene set (name, description, genes, tab-separated) in {path}",
            found="none",
        )
    return tuple(sets.values())


def _parse_line(line: str, where: str) -> GeneSet:
    cells = [cell.strip() for cell in line.split("\t")]
    genes = tuple(dict.fromkeys(cell for cell in cells[2:] if cell))
    if len(cells) < 3 or not cells[0] or not genes:
        shown = line if len(line) <= 40 else line[:40] + "..."
        raise ConfigError(
            expected="name, description and genes with tabs between them",
            found=f"{shown!r} in {where}",
            remedy="GMT has one set a line, a list of genes alone is no GMT",
        )
    return GeneSet(cells[0], genes)


def check_sets(sets: Sequence[GeneSet]) -> None:
    """Refuse what are no gene sets, such as the path of a file.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(sets, str | Path) or not all(isinstance(s, GeneSet) for s in sets):
        raise ConfigError(
            expected="gene sets as hespotex.genes.gene_sets.read_gmt(FILE) returns them",
            found=f"{str(sets)[:60]!r}",
        )


def sets_key(sets: Sequence[GeneSet]) -> str | None:
    """Content key of gene sets; None where there are none."""
    check_sets(sets)
    return content_key([[s.name, list(s.genes)] for s in sets]) if sets else None


@dataclass(frozen=True)
class PanelSets:
    """Gene sets as they lie in a gene panel; K sets, G genes.

    Attributes:
        names: (K,) of the sets with enough genes in the panel, in the order given.
        members: (K, G) 1 where a gene belongs to a set, else 0.
        n_listed: (K,) genes that the file lists.
        left_out: name -> panel genes, of the sets with fewer than MIN_GENES of them.
    """

    names: tuple[str, ...]
    members: sparse.csr_matrix
    n_listed: npt.NDArray[np.int_]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, sets: Sequence[GeneSet], genes: Sequence[str]) -> PanelSets:
        """Find the sets' genes in a panel, also where one of the two has assemblies, versions or signs of R in its names."""
        column = {gene: j for j, gene in enumerate(genes)}
        wanted = list(dict.fromkeys(gene for item in sets for gene in item.genes))
        place = {gene: column[own] for gene, own in find_names(wanted, genes).items()}
        rows: list[npt.NDArray[np.intp]] = []
        kept: list[GeneSet] = []
        left_out: dict[str, int] = {}
        for item in sets:
            found = np.array(sorted({place[g] for g in item.genes if g in place}), dtype=np.intp)
            if len(found) < MIN_GENES:
                left_out[item.name] = len(found)
            else:
                kept.append(item)
                rows.append(found)
        ends = np.cumsum([0, *map(len, rows)])
        columns = np.concatenate(rows) if rows else np.zeros(0, np.intp)
        members = sparse.csr_matrix(
            (np.ones(len(columns)), columns, ends), shape=(len(rows), len(genes))
        )
        return cls(
            tuple(s.name for s in kept),
            members,
            np.array([len(s.genes) for s in kept], dtype=np.int_),
            left_out,
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_panel(self) -> npt.NDArray[np.int_]:
        """(K,) genes of every set in the panel."""
        return np.asarray(np.diff(self.members.indptr), dtype=np.int_)

    def measured(self, measured: npt.NDArray[np.bool_]) -> PanelSets:
        """The same sets without the genes that an assay did not look for; a set may become empty."""
        kept = sparse.csr_matrix(self.members @ sparse.diags(measured.astype(np.float64)))
        kept.eliminate_zeros()
        return PanelSets(self.names, kept, self.n_listed, self.left_out)

    def scores(
        self,
        composition: Floats,
        pooled: npt.NDArray[np.float64],
        measured: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Composition of every set: log of its part of the total, against its part in the training sections.

        score = log(sum of p over the set) - log(sum of pooled p over the set), p = pooled x exp(composition),
        normalised to sum to 1.

        Args:
            composition: (n, G) log(p) - log(pooled p).
            pooled: (G,) shares of the pooled training counts.
            measured: (G,) genes that the total runs over; None: all.

        Returns:
            (n, K) natural logarithm; NaN where the composition is, or where no gene of the set is measured.
        """
        known = pooled if measured is None else np.where(measured, pooled, 0.0)
        weights = sparse.csr_matrix(self.members @ sparse.diags(known))
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.log(np.asarray(weights.sum(axis=1)).ravel() / known.sum())
        scores = np.empty((len(composition), len(self)), np.float32)
        for start in range(0, len(scores), _BLOCK):
            rows = slice(start, start + _BLOCK)
            ratios = np.exp(np.asarray(composition[rows], dtype=np.float64))
            share = (weights @ ratios.T).T / (ratios @ known)[:, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                scores[rows] = np.log(share) - expected
        return scores

    def counts(self, counts: sparse.csr_matrix) -> npt.NDArray[np.float64]:
        """(n, K) raw counts of every set, from (n, G) counts over the panel."""
        return np.asarray((counts @ self.members.T).toarray(), dtype=np.float64)


def left_out_sentence(left_out: Mapping[str, int]) -> str:
    """Names the sets that have too few genes in a panel."""
    shown = shorten([f"{name} ({n})" for name, n in left_out.items()], _SHOWN)
    return (
        f"left out: {len(left_out):,} gene set{'s' if len(left_out) > 1 else ''} with fewer than {MIN_GENES} "
        f"genes in the panel: {shown}"
    )


def pooled_shares(training_totals: Sequence[float]) -> npt.NDArray[np.float64]:
    """(G,) shares of the pooled training counts, from totals; a gene without any gets half a count."""
    totals = np.maximum(np.asarray(training_totals, dtype=np.float64), 0.5)
    return np.asarray(totals / totals.sum())


@dataclass(frozen=True)
class SetScores:
    """Predicted scores of gene sets; n spots, K sets.

    Attributes:
        names: (K,) of the sets with enough genes in the panel.
        grades: (K,) trust in each set.
        n_listed: (K,) genes that the file lists.
        n_panel: (K,) genes of them in the panel.
        values: (n, K) as `PanelSets.scores`; None where they are written chunk by chunk.
        measured: (n, K) Pearson residuals of the sets' counts; None without expression.
        evidence: (K,) the grade in words (`evaluation.claims`); empty where nobody asked.
        scopes: (K,) which kind of held-out sections the grade rests on; empty likewise.
        half_width: (S, K) of the interval, for regions of `evaluation.regions.SIZES`; None where the model has none.
        upper_quartile: (K,) of training spots, each predicted by a model that had not seen it; None likewise.
    """

    names: tuple[str, ...]
    grades: tuple[str, ...]
    n_listed: npt.NDArray[np.int_]
    n_panel: npt.NDArray[np.int_]
    values: npt.NDArray[np.float32] | None = None
    measured: npt.NDArray[np.float32] | None = None
    evidence: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    half_width: npt.NDArray[np.float32] | None = None
    upper_quartile: npt.NDArray[np.float32] | None = None

    def best(self, at_most: int) -> npt.NDArray[np.intp]:
        """Places of the best graded sets, among equals in the order of the file."""
        order = np.argsort(np.asarray(self.grades, dtype=str), kind="stable")
        return np.asarray(order[:at_most], dtype=np.intp)

    def subset(self, places: npt.NDArray[np.intp]) -> SetScores:
        """Only these sets, in the given order."""
        return SetScores(
            tuple(self.names[k] for k in places),
            tuple(self.grades[k] for k in places),
            self.n_listed[places],
            self.n_panel[places],
            None if self.values is None else self.values[:, places],
            None if self.measured is None else self.measured[:, places],
            tuple(self.evidence[k] for k in places) if self.evidence else (),
            tuple(self.scopes[k] for k in places) if self.scopes else (),
            None if self.half_width is None else self.half_width[:, places],
            None if self.upper_quartile is None else self.upper_quartile[places],
        )
