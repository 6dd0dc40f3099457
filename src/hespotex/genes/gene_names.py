"""One gene under several names: an assembly before it, a version behind its Ensembl id, what R makes of it; pure.

Two names are one gene where their keys are equal and no table holds the key twice. Everything else is compared as
it is written: upper and lower case tell human genes from mouse genes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Names = npt.NDArray[np.str_]

ENSEMBL: Final = re.compile(r"(ENS([A-Z]{3,4})?G[0-9]{11})(\.[0-9]+)?(_PAR_Y)?")
# GENCODE before release 25 wrote the copies on chromosome Y so.
_PAR_Y_OF_OLD: Final = re.compile(r"ENSGR([0-9]{10})(?:\.[0-9]+)?")
# References of several species put the assembly, sometimes with a release, before each name.
_ASSEMBLY: Final = re.compile(
    r"(GRCh3[78]|CHM13|hg(?:19|38)|GRCm3[89]|mm(?:9|10|39)|mRatBN7(?:\.2)?|GRCr8|Rnor_6(?:\.0)?|rn[5-7]|GRCz1[01]|"
    r"danRer1[01]|Sscrofa11(?:\.1)?|GRCg[67][ab]|Mmul_10)(?:[.-]?p[0-9]+)?(?:[-_]20[0-9]{2}-A)?(?:-[0-9]\.[0-9]\.[0-9])?"
    r"(?:[-_.]premrna)?[-_.:|]+(?=.)"
)
# Share of the names that carry an assembly where it belongs to the table, not to a name.
_MOST: Final = 0.9

ASSEMBLY, VERSION, SIGNS = "assembly", "version", "signs"
REASONS: Final[Mapping[str, str]] = {
    ASSEMBLY: "assemblies before the names",
    VERSION: "versions of their Ensembl ids",
    SIGNS: "signs that R or Seurat replace",
}


def split_assembly(name: str) -> tuple[str, str]:
    """The assembly before a name, empty where there is none, and the rest."""
    found = _ASSEMBLY.match(name)
    return (found[1], name[found.end() :]) if found else ("", name)


def table_assembly(names: Iterable[str]) -> str:
    """The one assembly that nearly all names of a table carry; empty where there is none, or two."""
    found = [split_assembly(name)[0] for name in names]
    (first, times), *_ = Counter(found).most_common(1) or [("", 0)]
    return first if first and times >= _MOST * len(found) else ""


def without_version(name: str) -> str:
    """An Ensembl id without its version; the copy on chromosome Y stays a gene of its own; other names as they are."""
    found = ENSEMBL.fullmatch(name)
    if found:
        return found[1] + (found[4] or "")
    old = _PAR_Y_OF_OLD.fullmatch(name)
    return f"ENSG0{old[1]}_PAR_Y" if old else name


def bare_names(names: Sequence[str]) -> list[str]:
    """Names without the assembly of their table and without versions."""
    assembly = table_assembly(names)
    if assembly:
        names = [rest if a == assembly else n for n in names for a, rest in [split_assembly(n)]]
    return [without_version(name) for name in names]


def make_names(name: str) -> str:
    """What R's make.names writes: `HLA-A` as `HLA.A`, `7SK` as `X7SK`."""
    changed = re.sub(r"[^A-Za-z0-9._]", ".", name)
    return f"X{changed}" if re.match(r"[0-9_]|\.[0-9]", changed) else changed


def _key(bare: str) -> str:
    """Equal for all names that R or Seurat make of one."""
    key = re.sub(r"[^A-Za-z0-9]", ".", bare)
    return key[1:] if re.match(r"X[0-9.]", key) else key


def find_names(wanted: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Known name of every wanted gene, as it is written or, where that is unique, under another form.

    Wanted genes that are not known are left out.
    """
    exact = set(known)
    found = {name: name for name in wanted if name in exact}
    if len(found) == len(set(wanted)):
        return found
    keys = [_key(bare) for bare in bare_names(known)]
    times = Counter(keys)
    place = {key: name for key, name in zip(keys, known, strict=True) if times[key] == 1}
    for name in wanted:
        forms = (name, split_assembly(name)[1])
        keyed = (place.get(_key(without_version(form))) for form in forms)
        other = next((known_name for known_name in keyed if known_name is not None), None)
        if name not in found and other is not None:
            found[name] = other
    # Two wanted names of one gene would stand for it twice: then only the one as it is written does.
    times = Counter(found.values())
    return {w: k for w, k in found.items() if times[k] == 1 or w == k}


@dataclass(frozen=True)
class Joined:
    """A table's genes under names that all tables share.

    Attributes:
        names: (g,) in the order of the table.
        changed: genes that have another name now, by key of `REASONS`.
        example: a name before, and now; empty where nothing changed.
        kept_apart: genes of other tables' keys that stay as they were, since a table holds the key twice.
    """

    names: Names
    changed: Mapping[str, int] = field(default_factory=dict)
    example: tuple[str, str] = ("", "")
    kept_apart: int = 0


def join_names(tables: Sequence[Names], anchor: Sequence[str] = ()) -> list[Joined]:
    """Give every gene one name in all tables.

    Tables that name their genes alike keep the names. Where assemblies or versions differ, all genes of all tables
    lose them, so that one table does not mix both; a gene of the anchor takes the anchor's name.

    Args:
        tables: (g,) unique names each.
        anchor: names that go before, as of a model's panel.
    """
    distinct: dict[bytes, list[str]] = {}
    for table in tables:
        distinct.setdefault(_content(table), table.tolist())
    if len(distinct) < 2 and not anchor:
        return [Joined(table) for table in tables]
    forms = {content: bare_names(names) for content, names in distinct.items()}
    keys = {content: [_key(bare) for bare in bares] for content, bares in forms.items()}
    spelt: dict[str, dict[str, str]] = {}  # key: name as written: bare name
    twice: set[str] = set()
    for content, names in distinct.items():
        twice |= {key for key, times in Counter(keys[content]).items() if times > 1}
        for key, name, bare in zip(keys[content], names, forms[content], strict=True):
            spelt.setdefault(key, {})[name] = bare
    of_anchor = [_key(bare) for bare in bare_names(anchor)]
    times = Counter(of_anchor)
    wanted = {
        key: name
        for key, name in zip(of_anchor, anchor, strict=True)
        if key in spelt and key not in twice and times[key] == 1
    }
    as_written = twice | times.keys()
    wanted |= _agreed({key: forms_of for key, forms_of in spelt.items() if key not in as_written})
    apart = {key for key in twice if len(spelt[key]) > 1}
    renamed = {
        content: _renamed(names, keys[content], wanted, apart)
        for content, names in distinct.items()
    }
    return [renamed[_content(table)] for table in tables]


def _content(names: Names) -> bytes:
    return str(names.dtype).encode() + names.tobytes()


def _agreed(spelt: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """One name for every key that several names have; for every key at all, where assemblies or versions differ."""
    differ = any(len(forms) > len(set(forms.values())) for forms in spelt.values())
    ones = {
        key: _one_name(set(forms.values()))
        for key, forms in spelt.items()
        if differ or len(forms) > 1
    }
    return {key: one for key, one in ones.items() if one}


def _one_name(bare: set[str]) -> str:
    """The name that the others were made of; empty where there are several such."""
    made = {
        form for name in bare for form in (make_names(name), name.replace("_", "-")) if form != name
    }
    originals = bare - made
    return next(iter(originals)) if len(originals) == 1 else ""


def _renamed(
    names: Sequence[str], keys: Sequence[str], wanted: Mapping[str, str], apart: set[str]
) -> Joined:
    now = [wanted.get(key, name) for key, name in zip(keys, names, strict=True)]
    pairs = [(a, b) for a, b in zip(names, now, strict=True) if a != b]
    return Joined(
        np.array(now, dtype=str),
        dict(Counter(_reason(a, b) for a, b in pairs)),
        pairs[0] if pairs else ("", ""),
        sum(key in apart for key in keys),
    )


def _reason(before: str, after: str) -> str:
    (assembly, rest), (other, other_rest) = split_assembly(before), split_assembly(after)
    if assembly != other:
        return ASSEMBLY
    return (
        VERSION
        if rest != other_rest and without_version(rest) == without_version(other_rest)
        else SIGNS
    )
