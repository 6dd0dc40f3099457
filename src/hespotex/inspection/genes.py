"""Owns what gene names tell by themselves: kind of identifier, species, mitochondrial genes; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["symbols", "Ensembl ids", "Ensembl ids with version", "mixed"]

_ENSEMBL: Final = re.compile(r"^ENS([A-Z]{3,4})?G[0-9]{11}(\.[0-9]+)?$")
# Reference packages of two species put the assembly before each name.
_ASSEMBLY: Final = re.compile(r"^(GRCh3[78]|hg19|hg38|GRCm3[89]|mm10|mm39|mRatBN7)_+")
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
    "hg": "human",
    "GRCm": "mouse",
    "mm": "mouse",
    "mR": "rat",
}
_MITOCHONDRIAL_SYMBOL: Final = re.compile(r"^(MT|mt|Mt)-")
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


@dataclass(frozen=True)
class GeneNames:
    """What the names of a section's genes tell.

    Attributes:
        kind: of identifier.
        species: as the names show; None where they do not tell.
        also: a second species in the same table, or None.
        mitochondrial: (g,) True for genes known as mitochondrial.
    """

    kind: Kind
    species: str | None
    also: str | None
    mitochondrial: npt.NDArray[np.bool_]

    def describe(self) -> str:
        """For a sentence."""
        if self.species is None:
            return f"{self.kind} of no known species"
        return f"{self.kind} as of {self.species}"


def describe_genes(genes: npt.NDArray[np.str_]) -> GeneNames:
    """Tell kind and species from the names alone.

    Args:
        genes: (g,) names, at least one.
    """
    names = [str(g) for g in genes]
    assemblies = [m[1] for n in names if (m := _ASSEMBLY.match(n))]
    bare = [_ASSEMBLY.sub("", n) for n in names]
    matches = [_ENSEMBL.match(n) for n in bare]
    found = [m for m in matches if m is not None]
    share = len(found) / len(names)
    versioned = sum(m[2] is not None for m in found)
    kind: Kind
    if share <= _FEW:
        kind = "symbols"
    elif share < _MOST or _FEW < versioned / len(found) < _MOST:
        kind = "mixed"
    else:
        kind = "Ensembl ids with version" if versioned >= _MOST * len(found) else "Ensembl ids"
    if assemblies:
        species = [
            next(v for k, v in _ASSEMBLY_SPECIES.items() if a.startswith(k)) for a in assemblies
        ]
    elif kind == "symbols":
        species = _species_of_symbols(bare)
    else:
        species = [_ENSEMBL_SPECIES.get(m[1] or "", f"ENS{m[1]}") for m in found]
    first, second = _two_most_frequent(species)
    mitochondrial = np.array(
        [
            bool(_MITOCHONDRIAL_SYMBOL.match(n)) or n.split(".")[0] in _MITOCHONDRIAL_IDS
            for n in bare
        ]
    )
    return GeneNames(kind, first, second, mitochondrial)


def is_ensembl(name: str) -> bool:
    """Whether a name is an Ensembl id of a gene, with or without version."""
    return _ENSEMBL.match(name) is not None


def without_version(genes: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    """Ensembl ids without what follows the dot; other names as they are."""
    return np.array(
        [n.split(".")[0] if _ENSEMBL.match(n) else n for n in genes.tolist()], dtype=str
    )


def _species_of_symbols(names: list[str]) -> list[str]:
    lettered = [n for n in names if sum(c.isalpha() for c in n) >= 2]
    if not lettered:
        return []
    upper = sum(n == n.upper() for n in lettered) / len(lettered)
    if upper >= _UPPER:
        return ["human"]
    return ["mouse or rat"] if upper <= _NOT_UPPER else []


def _two_most_frequent(species: list[str]) -> tuple[str | None, str | None]:
    if not species:
        return None, None
    values, times = np.unique(np.array(species), return_counts=True)
    order = np.argsort(-times, kind="stable")
    second = order[1] if len(order) > 1 and times[order[1]] > 0.01 * len(species) else None
    return str(values[order[0]]), None if second is None else str(values[second])
