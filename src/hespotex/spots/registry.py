"""The formats of spots by name; a reader is imported when it is first used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from hespotex.errors import SpotTableError
from hespotex.registry import Registry
from hespotex.spots.base import Reader, Recognised, SpotSource, SpotTable
from hespotex.spots.counts import check_counts, check_names

READERS: Final = Registry(
    "reader",
    Reader,
    {
        "legacy_st": "hespotex.spots.legacy_st:READER",
        "h5ad": "hespotex.spots.h5ad:READER",
        "hest": "hespotex.spots.hest:READER",
        "space_ranger": "hespotex.spots.space_ranger:READER",
        "visium_hd": "hespotex.spots.visium_hd:READER",
        "xenium": "hespotex.spots.xenium:READER",
        "spatialdata": "hespotex.spots.spatialdata:READER",
        "positions": "hespotex.spots.positions:READER",
    },
    group="hespotex.readers",
)


def formats_with(column: str) -> list[str]:
    """The formats that use a column of the manifest."""
    return [name for name, reader in READERS.all().items() if column in reader.columns]


def recognise(path: Path) -> tuple[str, Recognised] | None:
    """The name of the format that a file or folder is of, with what to fill in; None where no format knows it.

    Where several know it, the last of the table counts: special ones stand behind general ones, and those of other
    packages behind all.
    """
    for name, reader in reversed(READERS.all().items()):
        found = None
        with READERS.leaving_out(name):
            found = reader.recognise(path) if reader.recognise is not None else None
        if found is not None:
            return name, found
    return None


def read_spots(format_name: str, source: SpotSource) -> SpotTable:
    """Read the spots of one section.

    Args:
        format_name: a name of `READERS`.

    Raises:
        SpotTableError: unknown format, or the reader's own reasons.
    """
    reader = READERS.find(format_name)
    if reader is None:
        raise SpotTableError(
            expected=f"a format of {', '.join(READERS)}",
            found=f"{format_name!r}",
            remedy="correct the manifest",
        )
    with READERS.blaming(format_name, SpotTableError):
        table = _without_blanks(_checked(reader.read(source)))
    if source.missing_genes is not None:
        table = replace(table, missing_genes=source.missing_genes)
    return table


def _checked(table: SpotTable) -> SpotTable:
    """The table with raw counts for certain: a reader that checked them itself leaves them in 32 bits.

    Raises:
        SpotTableError: the values are no raw counts.
    """
    if table.counts is None or table.genes is None or table.counts.dtype == np.int32:
        return table
    counts = check_counts(table.counts.copy(), table.genes, table.barcodes, table.source)
    return replace(table, counts=counts)


def _without_blanks(table: SpotTable) -> SpotTable:
    """Gene names without blanks around them: with them they would be other genes than the same ones elsewhere.

    Raises:
        SpotTableError: two genes have one name then.
    """
    if table.genes is None:
        return table
    names = np.char.strip(table.genes)
    n = int((names != table.genes).sum())
    if not n:
        return table
    check_names(names, "gene", table.source)
    said = {"gene names had blanks around them (cut off, kept)": n}
    return replace(table, genes=names, dropped={**table.dropped, **said})
