"""A table of Ensembl ids and symbols that a user gives, and genes named by it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hespotex.errors import ConfigError
from hespotex.genes.gene_names import ENSEMBL, bare_names, without_version
from hespotex.storage.text_files import read_text

# Share of the cells of a column that are ids, where it is the column of ids.
_MOST: Final = 0.5
_SYMBOLS: Final = ("symbol", "gene_symbol", "gene name", "gene_name", "name", "hgnc symbol", "mgi symbol")  # fmt: skip


@dataclass(frozen=True)
class NameTable:
    """Symbols of ids, one to one.

    Attributes:
        symbols: by id without version.
        source: name of the file.
    """

    symbols: Mapping[str, str]
    source: str

    def named(self, genes: Sequence[str], by: Literal["symbol", "id"]) -> list[str]:
        """Genes by symbols or by ids; one that the table does not hold, or that would stand twice, keeps its name."""
        known = self.symbols if by == "symbol" else {s: i for i, s in self.symbols.items()}
        now = [known.get(bare, name) for name, bare in zip(genes, bare_names(genes), strict=True)]
        times = Counter(now)
        return [new if times[new] == 1 else old for old, new in zip(genes, now, strict=True)]


def read_name_table(path: Path) -> NameTable:
    """Read ids and symbols: `gene_names.csv` of inspect, a BioMart table, `features.tsv.gz` of 10x; packed or not.

    The column of ids is told by its cells, that of symbols by its header, else it is the first other one. An id with two
    symbols, and a symbol of two ids, name nothing.

    Raises:
        ConfigError: no such file, no text, or no column of Ensembl ids beside another one.
    """
    what = "a table of Ensembl ids and symbols"
    lines = [line for line in read_text(path, what, ConfigError).splitlines() if line.strip()]
    separator = "\t" if lines and "\t" in lines[0] else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    width = min(map(len, rows), default=0)
    ids = [sum(_is_id(row[k]) for row in rows) for k in range(width)]
    if width < 2 or max(ids) < _MOST * len(rows):
        raise ConfigError(
            expected=f"a column of Ensembl ids and one of symbols in {path}",
            found=f"{width} columns, with {max(ids, default=0)} ids in {len(rows)} rows at most",
            remedy="give a table such as gene_names.csv of inspect, of BioMart, or features.tsv.gz of 10x",
        )
    of_id = ids.index(max(ids))
    others = [k for k in range(width) if k != of_id]
    of_symbol = next((k for k in others if rows[0][k].lower() in _SYMBOLS), others[0])
    pairs = {(without_version(r[of_id]), r[of_symbol]) for r in rows if _is_id(r[of_id])}
    pairs = {(i, s) for i, s in pairs if s and not _is_id(s)}
    by_id, by_symbol = (Counter(side) for side in zip(*pairs, strict=True)) if pairs else ({}, {})
    symbols = {i: s for i, s in sorted(pairs) if by_id[i] == 1 and by_symbol[s] == 1}
    return NameTable(symbols, path.name)


def _is_id(cell: str) -> bool:
    return ENSEMBL.fullmatch(cell) is not None
