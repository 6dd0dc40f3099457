"""Owns which reader belongs to which format name; a reader is imported when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from types import MappingProxyType
from typing import Final, cast

from hespotex.errors import SpotTableError
from hespotex.spots.base import SpotSource, SpotTable

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
    table = reader(source)
    if source.missing_genes is not None:
        table = replace(table, missing_genes=source.missing_genes)
    return table
