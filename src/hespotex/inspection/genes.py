"""Facts that gene names tell by themselves: kind of identifier, species, mitochondrial genes; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from hespotex.genes.gene_names import ENSEMBL, split_assembly

Kind = Literal[
    "symbols",
    "Ensembl ids",
    "Ensembl ids with version",
    "Ensembl ids, some with version",
    "symbols and Ensembl ids",
    "ids and symbols in one name",
    "ids of transcripts",
]

# `ENSG00000141510_TP53`, `Xkr4|ENSMUSG00000051951`.
_BOTH: Final = re.compile(
    r"ENS(?:[A-Z]{3,4})?G[0-9]{11}(?:\.[0-9]+)?[^A-Za-z0-9.].+|.+[^A-Za-z0-9]ENS(?:[A-Z]{3,4})?G[0-9]{11}(?:\.[0-9]+)?"
)
_TRANSCRIPT: Final = re.compile(r"ENS(?:[A-Z]{3,4})?T[0-9]{11}(?:\.[0-9]+)?")
# Spreadsheets make dates of MARCH1 and SEPT2, and numbers of 2310009E13Rik.
_SPREADSHEET: Final = re.compile(
    r"[0-9]{1,2}-(Mar|Sep|Sept|Dec|Apr|Oct|Nov|Feb)|[0-9](\.[0-9]+)?E\+[0-9]{2}|#(REF|NAME\?|N/A|VALUE)!?"
)
_ENSEMBL_SPECIES: Final = {
    "": "human",
    "MUS": "mouse",
    "RNO": "rat",
    "DAR": "zebrafish",
    "SSC": "pig",
    "BTA": "cow",
    "GAL": "chicken",
    "MMU": "macaque",
    "CAF": "dog",
}
_ASSEMBLY_SPECIES: Final = {
    "GRCh": "human",
    "CHM": "human",
    "hg": "human",
    "GRCm": "mouse",
    "mm": "mouse",
    "mR": "rat",
    "GRCr": "rat",
    "R": "rat",
    "rn": "rat",
    "GRCz": "zebrafish",
    "dan": "zebrafish",
    "Ssc": "pig",
    "GRCg": "chicken",
    "Mmul": "macaque",
}
_MITOCHONDRIAL_SYMBOL: Final = re.compile(r"^(MT|mt|Mt)[-.]")
# The 13 protein-coding genes of the mitochondrion, by their Ensembl numbers (release 110).
_MITOCHONDRIAL_IDS: Final = frozenset(
    [f"ENSG00000{n}" for n in (
        "198888", "198763", "198804", "198712", "228253", "198899", "198938", "198840", "212907",
        "198886", "198786", "198695", "198727",
    )]
    + [f"ENSMUSG000000{n}" for n in (
        "64341", "64345", "64351", "64354", "64356", "64357", "64358", "64360", "65947", "64363",
        "64367", "64368", "64370",
    )]
)  # fmt: skip
# Shares of the names; references hold a few names of the other kind.
_MOST, _FEW = 0.9, 0.1
# Human symbols are upper case but for some such as C1orf112; mouse and rat begin with one capital.
_UPPER, _NOT_UPPER = 0.85, 0.25
# These are written alike for every species, and say nothing of one.
_OF_ANY_SPECIES: Final = re.compile(r"(LOC|RGD)[0-9]+|ENS[A-Z]*[GT][0-9]+.*|.*[0-9]Rik")
_RODENTS: Final = "mouse or rat"
_RODENT_SPECIES: Final = frozenset({"mouse", "rat"})
_LOWER_CASE_SPECIES: Final = frozenset({"zebrafish"})


@dataclass(frozen=True)
class GeneNames:
    """Kind and species that the names of a section's genes tell.

    Attributes:
        kind: of identifier.
        species: as the names show; None where they do not tell.
        also: a second species in the same table, or None.
        mitochondrial: (g,) True for genes known as mitochondrial.
        by_case: whether upper and lower case alone tell the species.
        n_spoilt: names that a spreadsheet made into dates, numbers or errors.
    """

    kind: Kind
    species: str | None
    also: str | None
    mitochondrial: npt.NDArray[np.bool_]
    by_case: bool = False
    n_spoilt: int = 0

    def describe(self) -> str:
        """For a sentence."""
        if self.species is None:
            return f"{self.kind} of no known species"
        return f"{self.kind} as of {self.species}"

    @property
    def identifier(self) -> Literal["symbol", "id", "either", "both", "transcript"]:
        """The kind by which these genes are joined with others, without versions and mixtures."""
        if self.kind == "symbols and Ensembl ids":
            return "either"
        if self.kind == "ids and symbols in one name":
            return "both"
        if self.kind == "ids of transcripts":
            return "transcript"
        return "symbol" if self.kind == "symbols" else "id"

    def may_be_of_one_species(self, other: GeneNames) -> bool:
        """Whether nothing says that two tables are of two species: case tells human from mouse, not mouse from rat."""
        if self.species is None or other.species is None or self.species == other.species:
            return True
        one, two = (names for names in sorted((self, other), key=lambda n: n.by_case))
        if not two.by_case:
            return False  # assemblies or ids of two species
        if two.species == _RODENTS:
            return one.species in _RODENT_SPECIES
        return not one.by_case and one.species not in _RODENT_SPECIES | _LOWER_CASE_SPECIES


def describe_genes(genes: npt.NDArray[np.str_]) -> GeneNames:
    """Tell kind and species from the names alone.

    Args:
        genes: (g,) names, at least one.
    """
    names = [str(g) for g in genes]
    assemblies, bare = zip(*map(split_assembly, names), strict=True)
    prefixed = sum(bool(a) for a in assemblies) >= _MOST * len(names)
    found = [m for m in map(ENSEMBL.fullmatch, bare) if m is not None]
    kind = _kind(bare, found)
    if kind == "ids and symbols in one name":
        found = [m for m in map(ENSEMBL.search, bare) if m is not None]
    by_case = False
    if prefixed:
        species = [_species_of_assembly(a) for a in assemblies if a]
    elif kind in {"symbols", "symbols and Ensembl ids"} and len(found) < len(names) / 2:
        species, by_case = _species_of_symbols(bare), True
    else:
        species = [_ENSEMBL_SPECIES.get(m[2] or "", f"ENS{m[2]}") for m in found]
    first, second = _two_most_frequent(species)
    mitochondrial = np.array(
        [
            bool(_MITOCHONDRIAL_SYMBOL.match(n)) or n.split(".")[0] in _MITOCHONDRIAL_IDS
            for n in bare
        ]
    )
    spoilt = sum(_SPREADSHEET.fullmatch(name) is not None for name in bare)
    return GeneNames(kind, first, second, mitochondrial, by_case and first is not None, spoilt)


def _kind(bare: Sequence[str], found: list[re.Match[str]]) -> Kind:
    """Of names without assembly; `found` are the Ensembl ids among them."""
    if sum(_BOTH.fullmatch(name) is not None for name in bare) >= _MOST * len(bare):
        return "ids and symbols in one name"
    if sum(_TRANSCRIPT.fullmatch(name) is not None for name in bare) >= _MOST * len(bare):
        return "ids of transcripts"
    share = len(found) / len(bare)
    if share <= _FEW:
        return "symbols"
    if share < _MOST:
        return "symbols and Ensembl ids"
    versioned = sum(m[3] is not None for m in found) / len(found)
    if versioned >= _MOST:
        return "Ensembl ids with version"
    return "Ensembl ids" if versioned <= _FEW else "Ensembl ids, some with version"


def _species_of_assembly(assembly: str) -> str:
    return next(s for start, s in _ASSEMBLY_SPECIES.items() if assembly.startswith(start))


def is_ensembl(name: str) -> bool:
    """Whether a name is an Ensembl id of a gene, with or without version."""
    return ENSEMBL.fullmatch(name) is not None


def _species_of_symbols(names: Sequence[str]) -> list[str]:
    lettered = [
        n for n in names if sum(c.isalpha() for c in n) >= 2 and not _OF_ANY_SPECIES.fullmatch(n)
    ]
    if not lettered:
        return []
    upper = sum(n == n.upper() for n in lettered) / len(lettered)
    if upper >= _UPPER:
        return ["human"]
    capital = sum(n[0].isupper() for n in lettered) / len(lettered)
    return [_RODENTS] if upper <= _NOT_UPPER and capital >= 0.5 else []


def _two_most_frequent(species: list[str]) -> tuple[str | None, str | None]:
    if not species:
        return None, None
    values, times = np.unique(np.array(species), return_counts=True)
    order = np.argsort(-times, kind="stable")
    second = order[1] if len(order) > 1 and times[order[1]] > 0.01 * len(species) else None
    return str(values[order[0]]), None if second is None else str(values[second])
