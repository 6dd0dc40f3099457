"""Owns the reader of legacy Spatial Transcriptomics: a counts TSV and a spot file, joined on array position."""

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
from hespotex.spots.base import SpotSource, SpotTable
from hespotex.spots.counts import check_counts, check_names
from hespotex.spots.text import number_column, open_text, read_table, table_errors

_INDEX = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)x([0-9]+(?:\.[0-9]+)?)\s*$")
_CHUNK_BYTES = 64 * 2**20


def read(source: SpotSource) -> SpotTable:
    """Read `expression` (spots x genes, index "XxY") and `spots` (x, y, pixel_x, pixel_y[, selected]).

    Without `expression` all selected spots of the spot file are returned, without counts.

    Raises:
        SpotTableError: a file is missing or malformed, or the two have no array position in common.
    """
    if source.spots is None:
        raise SpotTableError(
            f"expected a spot file beside the counts {source.expression}, found none: the counts hold array "
            "positions only; give the file with x, y, pixel_x, pixel_y in the manifest's column spots"
        )
    array_xy, xy_px0, not_selected = read_spot_file(source.spots)
    dropped = {"spots not selected in the spot file": not_selected}
    if source.expression is None:
        return SpotTable(
            source=str(source.spots),
            barcodes=np.array([spot_name(x, y) for x, y in array_xy]),
            xy_px0=xy_px0,
            array_xy=array_xy,
            dropped=_seen(dropped),
        )
    names, genes, counts = read_counts_tsv(source.expression)
    positions = _parse_index(names, source.expression)
    known = {(x, y): row for row, (x, y) in enumerate(map(tuple, array_xy))}
    rows = np.array([known.get((x, y), -1) for x, y in map(tuple, positions)])
    kept = rows >= 0
    if not kept.any():
        raise SpotTableError(
            f"expected spots of {source.expression} in {source.spots}, found none in common (counts have "
            f"{names[0]}, the spot file has {spot_name(*array_xy[0])}); give the spot file of this section"
        )
    dropped["counts without a position"] = int((~kept).sum())
    dropped["positions without counts"] = len(array_xy) - int(kept.sum())
    return SpotTable(
        source=str(source.expression),
        barcodes=np.array(names)[kept],
        xy_px0=xy_px0[rows[kept]],
        counts=counts[kept],
        genes=np.array(genes),
        array_xy=array_xy[rows[kept]],
        dropped=_seen(dropped),
    )


def spot_name(x: float, y: float) -> str:
    """Array position as legacy ST writes it: 9, 13 -> "9x13"."""
    return f"{x:g}x{y:g}"


def read_spot_file(
    path: Path,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Array positions (n, 2), centres in level-0 pixels (n, 2), and how many were not selected."""
    table = read_table(path, ("x", "y", "pixel_x", "pixel_y"))
    n_all = len(table)
    if "selected" in table:
        chosen = number_column(table, "selected", path)
        wrong = ~np.isin(chosen, (0, 1))
        if wrong.any():
            raise SpotTableError(
                f"expected 0 or 1 in column selected of {path}, found {chosen[wrong][0]:g}"
            )
        table = table[chosen == 1]
        if table.empty:
            raise SpotTableError(
                f"expected selected spots in {path}, found all {n_all} with selected = 0"
            )
    array_xy = np.column_stack([number_column(table, name, path) for name in ("x", "y")])
    xy_px0 = np.column_stack([number_column(table, name, path) for name in ("pixel_x", "pixel_y")])
    check_names([spot_name(x, y) for x, y in array_xy], "spot", str(path))
    return array_xy, xy_px0, n_all - len(table)


def read_counts_tsv(path: Path) -> tuple[list[str], list[str], sparse.csr_matrix]:
    """Names of the spots, of the genes, and counts (n, g), read by chunks of rows.

    Raises:
        SpotTableError: not tab separated, genes x spots, a ragged row, or anything that is no raw count.
    """
    with open_text(path) as stream:
        header = next(csv.reader([stream.readline()], delimiter="\t"), [])
        width = len(stream.readline().rstrip("\n").split("\t"))
    if len(header) < 2:
        raise SpotTableError(
            f"expected genes separated by tabs in the first row of {path}, found one column "
            f"({''.join(header)[:40]!r}...); save the table separated by tabs"
        )
    if width not in (len(header), len(header) + 1):
        raise SpotTableError(
            f"expected {len(header)} cells in row 2 of {path} as in its header, found {width}"
        )
    names, counts = _read_rows(path, width)
    # R writes no name above the row names: then the header is one shorter than the rows.
    genes = header if len(header) == counts.shape[1] else header[1:]
    genes = [gene.strip() for gene in genes]
    if sum(_INDEX.match(gene) is not None for gene in genes) > len(genes) / 2:
        raise SpotTableError(
            f"expected spots x genes in {path}, found genes x spots (the columns are {', '.join(genes[:3])}, ...);"
            " transpose the table"
        )
    return names, genes, check_counts(counts, genes, names, str(path))


def _read_rows(path: Path, width: int) -> tuple[list[str], sparse.csr_matrix]:
    """Row names and the values behind them, both below the header; `width` cells a row."""
    names: list[str] = []
    data, columns, lengths = [], [], [np.zeros(1, np.int64)]
    dtypes: dict[int, type] = {0: str, **dict.fromkeys(range(1, width), np.float64)}
    with open_text(path) as stream, table_errors(path, width):
        stream.readline()
        chunks = pd.read_csv(
            stream,
            sep="\t",
            header=None,
            names=range(width),
            index_col=False,
            dtype=dtypes,
            chunksize=max(1, _CHUNK_BYTES // (8 * width)),
        )
        for chunk in chunks:
            names += [str(name).strip() for name in chunk.iloc[:, 0]]
            block = sparse.csr_matrix(chunk.iloc[:, 1:].to_numpy(np.float64))
            exact = block.data.astype(np.float32)
            data.append(exact if (exact == block.data).all() else block.data)
            columns.append(block.indices.astype(np.int32))
            lengths.append(np.diff(block.indptr).astype(np.int64))
    values = np.concatenate(data)
    data.clear()
    indices = np.concatenate(columns)
    columns.clear()
    indptr = np.cumsum(np.concatenate(lengths))
    return names, sparse.csr_matrix((values, indices, indptr), shape=(len(names), width - 1))


def _parse_index(names: Sequence[str], path: Path) -> npt.NDArray[np.float64]:
    positions = np.empty((len(names), 2))
    for row, name in enumerate(names):
        match = _INDEX.match(name)
        if match is None:
            raise SpotTableError(
                f"expected the array position as XxY (for example 9x13) in the first column of {path}, "
                f"found {name!r} in row {row + 2}"
            )
        positions[row] = float(match[1]), float(match[2])
    return positions


def _seen(dropped: dict[str, int]) -> dict[str, int]:
    return {reason: number for reason, number in dropped.items() if number}
