"""Reader of legacy Spatial Transcriptomics: a counts TSV and a spot file, joined on array position."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.errors import SpotTableError
from hespotex.spots.base import Joined, Reader, SpotSource, SpotTable
from hespotex.spots.counts import check_counts, check_names, is_control
from hespotex.spots.sparse_reading import smallest_exact
from hespotex.spots.text import number_column, read_table, truth_column
from hespotex.storage.text_files import open_binary, open_text

# Pitches between two ways to round one position; another spot is one away.
_SAME_PLACE = 0.05
# R puts an X before a name that begins with a digit where it makes column names of it.
_INDEX = re.compile(r"^\s*X?([0-9]+(?:\.[0-9]+)?)x([0-9]+(?:\.[0-9]+)?)\s*$")


def read(source: SpotSource) -> SpotTable:
    """Read `expression` (spots x genes, index "XxY") and `spots` (x, y, pixel_x, pixel_y[, selected]).

    Without `expression` all selected spots of the spot file are returned, without counts.

    Raises:
        SpotTableError: a file is missing or malformed, or the two have no array position in common.
    """
    if source.spots is None:
        raise SpotTableError(
            expected=f"a spot file beside the counts {source.expression}",
            found="none: the counts hold array positions only",
            remedy="give the file with x, y, pixel_x, pixel_y in the manifest's column spots",
        )
    array_xy, xy_px0, not_selected, adjusted_xy = read_spot_file(source.spots)
    dropped = {"spots not selected in the spot file": not_selected}
    if source.expression is None:
        return SpotTable(
            source=str(source.spots),
            barcodes=np.array([spot_name(x, y) for x, y in array_xy]),
            xy_px0=xy_px0,
            array_xy=array_xy,
            dropped=dropped,
        )
    names, columns, counts = read_counts_tsv(source.expression)
    genes, counts, no_genes = _without_no_genes(np.array(columns), counts)
    dropped["features that are no genes"] = no_genes
    positions = array_positions(names, source.expression)
    rows = _match(positions, array_xy)
    if adjusted_xy is not None and (rows < 0).all():  # named by new_x, new_y
        rows = _match_near(positions, adjusted_xy)
    kept = rows >= 0
    if not kept.any():
        raise SpotTableError(
            expected=f"spots of {source.expression} in {source.spots}",
            found=f"none in common (counts have {names[0]}, the spot file has {spot_name(*array_xy[0])})",
            remedy="give the spot file of this section",
        )
    dropped["counts without a position"] = int((~kept).sum())
    dropped["positions without counts"] = len(array_xy) - int(kept.sum())
    return SpotTable(
        source=str(source.expression),
        barcodes=np.array(names)[kept],
        xy_px0=xy_px0[rows[kept]],
        counts=counts if kept.all() else counts[kept],  # a copy of a large table is memory
        genes=genes,
        array_xy=array_xy[rows[kept]],
        dropped=dropped,
        joined=Joined(
            len(names), int((~kept).sum()), len(array_xy), len(array_xy) - int(kept.sum())
        ),
    )


def _match(
    positions: npt.NDArray[np.float64], array_xy: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """For every position its row in the spot file, -1 where there is none."""
    known = {(x, y): row for row, (x, y) in enumerate(map(tuple, array_xy))}
    return np.array([known.get((x, y), -1) for x, y in map(tuple, positions)])


def _match_near(
    positions: npt.NDArray[np.float64], adjusted_xy: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """The same for positions that were measured, and rounded differently in the two files."""
    from scipy.spatial import cKDTree

    known = np.flatnonzero(np.isfinite(adjusted_xy).all(axis=1))
    if not len(known):
        return np.full(len(positions), -1)
    distance, nearest = cKDTree(adjusted_xy[known]).query(positions)
    return np.where(distance < _SAME_PLACE, known[nearest], -1)


def _without_no_genes(
    genes: npt.NDArray[np.str_], counts: sparse.csr_matrix
) -> tuple[npt.NDArray[np.str_], sparse.csr_matrix, int]:
    """Without `__ambiguous[...]`, `__no_feature` and the like, as HTSeq counts them along."""
    kept = ~is_control(genes)
    return (genes, counts, 0) if kept.all() else (genes[kept], counts[:, kept], int((~kept).sum()))


def spot_name(x: float, y: float) -> str:
    """Array position as legacy ST writes it: 9, 13 -> "9x13"."""
    return f"{x:g}x{y:g}"


def read_spot_file(
    path: Path,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int, npt.NDArray[np.float64] | None]:
    """Array positions (n, 2), centres in level-0 pixels (n, 2), how many were not selected, and the
    adjusted array positions (new_x, new_y), where the file has them.
    """
    table = read_table(path, ("x", "y", "pixel_x", "pixel_y"))
    n_all = len(table)
    if "selected" in table:
        table = table[truth_column(table, "selected", path)]
        if table.empty:
            raise SpotTableError(
                expected=f"selected spots in {path}", found=f"all {n_all} with selected = 0"
            )
    array_xy = np.column_stack([number_column(table, name, path) for name in ("x", "y")])
    xy_px0 = np.column_stack([number_column(table, name, path) for name in ("pixel_x", "pixel_y")])
    check_names([spot_name(x, y) for x, y in array_xy], "spot", str(path))
    adjusted_xy = None
    if {"new_x", "new_y"} <= set(table.columns):
        adjusted = [pd.to_numeric(table[name], errors="coerce") for name in ("new_x", "new_y")]
        adjusted_xy = np.column_stack([column.to_numpy(np.float64) for column in adjusted])
    return array_xy, xy_px0, n_all - len(table), adjusted_xy


def read_counts_tsv(path: Path) -> tuple[list[str], list[str], sparse.csr_matrix]:
    """Names of the spots, of the genes, and counts (n, g); tables of genes x spots are turned.

    Raises:
        SpotTableError: not tab separated, a ragged row, or anything that is no raw count.
    """
    with open_text(path) as stream:
        header = next(csv.reader([stream.readline()], delimiter="\t"), [])
        width = len(stream.readline().rstrip("\n").split("\t"))
    if len(header) < 2:
        raise SpotTableError(
            expected=f"genes separated by tabs in the first row of {path}",
            found=f"one column ({''.join(header)[:40]!r}...)",
            remedy="save the table separated by tabs",
        )
    if width not in (len(header), len(header) + 1):
        raise SpotTableError(
            expected=f"{len(header)} cells in row 2 of {path} as in its header", found=width
        )
    # R writes no name above the row names: then the header is one shorter than the rows.
    columns = [name.strip() for name in header[1 - (width - len(header)) :]]
    rows, counts = _read_rows(path, columns)
    if sum(_INDEX.match(name) is not None for name in columns) > len(columns) / 2:
        genes, names, counts = rows, columns, counts.T.tocsr()
    else:
        genes, names = columns, rows
    names = [name.removeprefix("X") if _INDEX.match(name) else name for name in names]
    return names, genes, check_counts(counts, genes, names, str(path))


def _read_rows(path: Path, genes: Sequence[str]) -> tuple[list[str], sparse.csr_matrix]:
    """Row names and the values behind them, both below the header, line by line.

    Nearly all cells of a counts table are one digit: these are read as bytes, the others as numbers.
    That is 5 to 7 times as fast as the table readers of pandas and pyarrow, and memory holds one line.
    """
    names: list[str] = []
    data, columns, lengths = [], [], [0]
    with open_binary(path) as stream:
        stream.readline()
        for number, raw in enumerate(stream, start=2):
            line = raw.rstrip(b"\r\n")
            if not line:
                continue
            name, _, cells = line.partition(b"\t")
            names.append(name.decode().strip().strip('"'))
            values = _parse_cells(cells, genes, number, path)
            places = np.flatnonzero(values).astype(np.int32)
            columns.append(places)
            data.append(smallest_exact(values[places]))
            lengths.append(len(places))
    merged = np.concatenate(data) if data else np.zeros(0)
    data.clear()
    indices = np.concatenate(columns) if columns else np.zeros(0, np.int32)
    columns.clear()
    indptr = np.cumsum(np.array(lengths, dtype=np.int64))
    return names, sparse.csr_matrix((merged, indices, indptr), shape=(len(names), len(genes)))


def _parse_cells(
    cells: bytes, genes: Sequence[str], number: int, path: Path
) -> npt.NDArray[np.float64]:
    """Values of one row; `number` is its place in the file, for messages."""
    text = np.frombuffer(b"\t" + cells + b"\t", dtype=np.uint8)
    tabs = np.flatnonzero(text == ord("\t"))
    if len(tabs) - 1 != len(genes):
        raise SpotTableError(
            expected=f"{len(genes) + 1} cells in every row of {path}",
            found=f"{len(tabs)} in row {number}",
            remedy="the file may be cut or edited, make it again",
        )
    starts, widths = tabs[:-1] + 1, np.diff(tabs) - 1
    values = text[starts].astype(np.float64) - ord("0")
    longer = np.flatnonzero((widths != 1) | (values < 0) | (values > 9))
    if len(longer):
        parts = [bytes(text[starts[i] : starts[i] + widths[i]]).strip(b' "') for i in longer]
        try:
            values[longer] = np.array(parts, dtype="S").astype(np.float64)
        except ValueError:
            values[longer] = [
                _parse_cell(part, genes[i], number, path)
                for part, i in zip(parts, longer.tolist(), strict=True)
            ]
    return values


def _parse_cell(cell: bytes, gene: str, number: int, path: Path) -> float:
    try:
        return float(cell) if cell else float("nan")
    except ValueError as error:
        found = cell.decode("utf-8", errors="replace")[:40]
        raise SpotTableError(
            expected=f"numbers in {path}",
            found=f"{found!r} in row {number}, gene {gene}",
            remedy="correct it there",
        ) from error


def array_positions(names: Sequence[str], path: Path) -> npt.NDArray[np.float64]:
    """(n, 2) x, y of spots that are named XxY in a table.

    Raises:
        SpotTableError: one has another name.
    """
    positions = np.empty((len(names), 2))
    for row, name in enumerate(names):
        match = _INDEX.match(name)
        if match is None:
            raise SpotTableError(
                expected=f"the array position as XxY (for example 9x13) in the first column of {path}",
                found=f"{name!r} in row {row + 2}",
                remedy="rename the spots so, one section a table",
            )
        positions[row] = float(match[1]), float(match[2])
    return positions


READER = Reader(
    read,
    columns=("expression", "spots"),
    needs_spots="the spot file (x, y, pixel_x, pixel_y) that legacy_st needs beside its counts",
)
