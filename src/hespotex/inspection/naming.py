"""How the genes of several sections, and of a model, are named: joined where they are one, refused where they cannot be.

Nothing but names is looked at, so that no count of one section says anything of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.config import InputChoices
from hespotex.genes.gene_names import REASONS, Joined, join_names
from hespotex.genes.name_table import NameTable, read_name_table
from hespotex.inspection.findings import Finding
from hespotex.inspection.genes import GeneNames, describe_genes
from hespotex.sections.section import Section

_SMALL_OVERLAP = 0.5


@dataclass(frozen=True)
class GivenPanel:
    """Genes that sections are given to: of a model, or of a list.

    Attributes:
        genes: their names, which go before those of sections.
        listed: whether a user listed them for a model that is to be fitted.
        added: genes that a user adds to the panel of such a model.
    """

    genes: tuple[str, ...] = ()
    listed: bool = False
    added: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """For a sentence."""
        return "the list of genes" if self.listed else "the model"


NO_PANEL: Final = GivenPanel()


def join_sections(
    sections: Sequence[Section], panel: GivenPanel = NO_PANEL
) -> tuple[tuple[Section, ...], list[Finding]]:
    """The sections with every gene under one name, and what was done to the names.

    Args:
        sections: as they were read.
        panel: whose names go before.
    """
    named = [s.genes for s in sections if s.genes is not None and len(s.genes)]
    joined = iter(join_names(named, tuple(dict.fromkeys((*panel.genes, *panel.added)))))
    found: list[Finding] = []
    result = []
    for section in sections:
        if section.genes is None or not len(section.genes):
            result.append(section)
            continue
        one = next(joined)
        notes = _sentences(one)
        found += [Finding(section.section_id, "genes", "info", note) for note, _ in notes]
        counted = {f"genes joined {reason} (kept)": n for reason, n in _counted(one)}
        result.append(
            replace(section, genes=one.names, dropped={**section.dropped, **counted})
            if counted
            else section
        )
    return tuple(result), found


def _counted(joined: Joined) -> list[tuple[str, int]]:
    return [(f"although {REASONS[key]} differ", n) for key, n in joined.changed.items()]


def _sentences(joined: Joined) -> list[tuple[str, int]]:
    before, now = joined.example
    found = [
        (f"{n:,} genes are joined with the others' {how}: {before} is now {now}", n)
        for how, n in _counted(joined)
    ]
    if joined.kept_apart:
        n = joined.kept_apart
        found.append(
            (
                f"{n:,} genes keep their names: without versions or assemblies a table holds two of one name",
                n,
            )
        )
    return found


def name_sections(
    sections: Sequence[Section], choices: InputChoices, panel: GivenPanel = NO_PANEL
) -> tuple[tuple[Section, ...], list[Finding]]:
    """The sections with genes named as the panel's, else by symbols where some section is, by the table that a user gave.

    Raises:
        ConfigError: the table is none.
    """
    if choices.gene_names is None:
        return tuple(sections), []
    table, found, result = read_name_table(choices.gene_names), [], []
    kinds = [
        describe_genes(s.genes).identifier if s.genes is not None and len(s.genes) else None
        for s in sections
    ]
    wanted = describe_genes(np.asarray(panel.genes)).identifier if panel.genes else "symbol"
    needed = wanted in kinds or bool(panel.genes)
    for section, kind in zip(sections, kinds, strict=True):
        if section.genes is None or kind == wanted or not needed:
            result.append(section)
            continue
        named, note = _named_by(section, section.genes, table, wanted)
        result.append(named)
        found.append(note)
    return tuple(result), found


def _named_by(
    section: Section, genes: npt.NDArray[np.str_], table: NameTable, wanted: str
) -> tuple[Section, Finding]:
    old = genes.tolist()
    now = table.named(old, "id" if wanted == "id" else "symbol")
    pairs = [(a, b) for a, b in zip(old, now, strict=True) if a != b]
    said = f"{len(pairs):,} of {len(old):,} genes are named by {table.source}"
    if not pairs:
        remedy = "give a table of this species with --gene-names"
        return section, Finding(section.section_id, "genes", "warning", said, remedy)
    said += f": {pairs[0][0]} is now {pairs[0][1]}"
    dropped = {**section.dropped, f"genes named by {table.source} (kept)": len(pairs)}
    named = replace(section, genes=np.array(now, dtype=str), dropped=dropped)
    return named, Finding(section.section_id, "genes", "info", said)


@dataclass(frozen=True)
class _Named:
    """Names of genes, and whose they are."""

    name: str
    genes: npt.NDArray[np.str_]
    names: GeneNames
    targeted: bool = False


def compare_names(sections: Sequence[Section], panel: GivenPanel = NO_PANEL) -> list[Finding]:
    """Findings that keep genes of sections from being one panel, with each other and with a model's.

    Args:
        sections: joined.
        panel: to compare with, too.
    """
    named = [
        _Named(s.section_id, s.genes, describe_genes(s.genes), s.missing_genes == "unmeasured")
        for s in sections
        if s.genes is not None and len(s.genes)
    ]
    if panel.genes:
        genes = np.asarray(panel.genes, dtype=str)
        named.insert(0, _Named(panel.owner, genes, describe_genes(genes), targeted=True))
    found = []
    for place, other in enumerate(named[1:], start=1):
        telling = next((n for n in named[:place] if n.names.species is not None), named[0])
        finding = _compare_species(telling, other) or _compare_genes(named[0], other)
        if finding is not None:
            found.append(finding)
    return found


def _compare_species(first: _Named, other: _Named) -> Finding | None:
    if first.names.may_be_of_one_species(other.names):
        return None
    return Finding(
        other.name,
        "genes",
        "error",
        f"{other.names.describe()}, where {first.name} has {first.names.describe()}",
        "keep the sections of one species in a manifest (--accept genes where both are meant)",
    )


def _compare_genes(first: _Named, other: _Named) -> Finding | None:
    kinds = {first.names.identifier, other.names.identifier}
    if kinds == {"symbol", "id"} or (kinds & {"both", "transcript"} and len(kinds) > 1):
        return Finding(
            other.name,
            "genes",
            "error",
            f"genes are named by {other.names.kind} ({other.genes[0]}), "
            f"in {first.name} by {first.names.kind} ({first.genes[0]})",
            "keep the id or the symbol alone in every name"
            if "both" in kinds
            else "sum the counts of the transcripts of each gene, and name the genes as the others do"
            if "transcript" in kinds
            else "name the genes of all sections in one way: no mapping between them stands in the files; --gene-names takes one",
        )
    fewest = min(len(first.genes), len(other.genes))
    shared = len(np.intersect1d(first.genes, other.genes))
    if not shared:
        return Finding(
            other.name,
            "genes",
            "error",
            f"none of its {len(other.genes):,} genes ({other.genes[0]}, ...) is one of the {len(first.genes):,} of "
            f"{first.name} ({first.genes[0]}, ...)",
            "name the genes of all in one way (--accept genes where nothing is to be shared)",
        )
    if shared >= _SMALL_OVERLAP * fewest:
        return None
    panels = first.targeted and other.targeted
    return Finding(
        other.name,
        "genes",
        "info" if panels else "warning",
        f"only {shared:,} of {fewest:,} genes are also in {first.name}",
        ""
        if panels
        else "check that both come from one reference: only shared genes can be predicted well",
    )
