"""The reader of each format name; a reader is imported when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from types import MappingProxyType
from typing import Final, cast

import numpy as np

from hespotex.errors import SpotTableError
from hespotex.spots.base import SpotSource, SpotTable
from hespotex.spots.counts import check_names

Reader = Callable[[SpotSource], SpotTable]


def _lazy(module: str) -> Reader:
    def read(source: SpotSource) -> SpotTable:
        return cast(Reader, import_module(module).read)(source)

    return read


READERS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        name: _lazy(f"hespotex.spots.{name}")
        for name in (
            "legacy_st",
            "h5ad",
            "hest",
            "space_ranger",
            "visium_hd",
            "xenium",
            "spatialdata",
            "positions",
        )
    }
)


def read_spots(format_name: str, source: SpotSource) -> SpotTable:
    """Read the spots of one section.

    Args:
        format_name: a key of `READERS`.
        source: its files and what the manifest says of them.

    Raises:
        SpotTableError: unknown format, or the reader's own reasons.
    """
    reader = READERS.get(format_name)
    if reader is None:
        raise SpotTableError(
            f"expected a format of {', '.join(READERS)}, found {format_name!r}; correct the manifest"
        )
    table = _without_blanks(reader(source))
    if source.missing_genes is not None:
        table = replace(table, missing_genes=source.missing_genes)
    return table


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
