"""Positions that a user gives for a slide: a spot file of a known format, or a table with x and y."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from hespotex.errors import SpotTableError
from hespotex.spots.base import SpotSource, SpotTable
from hespotex.spots.registry import read_spots
from hespotex.spots.text import number_column, read_table
from hespotex.storage.text_files import open_text

_NAMES: Final = ("spot", "barcode", "name", "id")


def read_positions(
    path: Path, *, spot_pitch_um: float | None = None, library: str | None = None
) -> SpotTable:
    """Read where to predict: positions alone, without any counts.

    Known are h5ad (obsm["spatial"]), the spot file of legacy ST (x, y, pixel_x, pixel_y), Space
    Ranger's tissue_positions (with its scale factors beside it) and any CSV or TSV whose header has x
    and y, the centres in level-0 pixels; a column spot, barcode, name or id gives the names.

    Args:
        spot_pitch_um: distance of neighbouring spots in microns, where the user states it.
        library: which of several sections in the file.

    Raises:
        SpotTableError: the file is missing or none of these.
    """
    source = SpotSource(spots=path, spot_pitch_um=spot_pitch_um, library=library)
    if path.suffix.lower() == ".h5ad":
        return read_spots("h5ad", source)
    if path.is_dir() or "tissue_positions" in path.name:
        return read_spots("space_ranger", source)
    columns = _header(path)
    if {"x", "y", "pixel_x", "pixel_y"} <= set(columns):
        return read_spots("legacy_st", source)
    if not {"x", "y"} <= set(columns):
        raise SpotTableError(
            expected=(
                "columns x and y (spot centres in level-0 pixels), or a spot file of a known format, in "
                f"{path}"
            ),
            found=", ".join(columns)[:120],
            remedy="name the columns x and y",
        )
    table = read_table(path, ("x", "y"))
    named = next((name for name in _NAMES if name in table), None)
    names = (
        table[named].to_numpy(dtype=str)
        if named
        else np.array([f"spot{i}" for i in range(1, len(table) + 1)])
    )
    xy = np.stack([number_column(table, name, path) for name in ("x", "y")], axis=1)
    return SpotTable(source=str(path), barcodes=names, xy_px0=xy)


def is_positions(path: Path) -> bool:
    """Whether a CSV or TSV is a table of positions by its header; False where it cannot be read.

    A headless tissue_positions_list is known by its name.
    """
    try:
        return {"x", "y"} <= set(_header(path)) or "tissue_positions" in path.name
    except SpotTableError:
        return False


def _header(path: Path) -> list[str]:
    with open_text(path) as stream:
        first = stream.readline()
    separator = "\t" if "\t" in first else ","
    return [cell.strip().strip('"') for cell in first.strip().split(separator)]
