"""A prediction that does not fit into memory, written as the same h5ad as `h5ad.write_prediction` writes.

Some of its genes are read again without the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.claims import Claims
from hespotex.evaluation.trust import Extras
from hespotex.export.chunk_shape import gene_chunks
from hespotex.export.claims_store import claims_of, record_in
from hespotex.export.h5ad import (
    StoredPrediction,
    Thumbnail,
    file_record,
    gene_table,
    holds_log1p,
    spot_table,
    stored_prediction,
    thumbnail_in,
)
from hespotex.sections.section import Section
from hespotex.storage.atomic import atomic_path
from hespotex.storage.disk_errors import disk_fields
from hespotex.storage.hdf5 import open_h5

Chunk = tuple[slice, Mapping[str, npt.NDArray[Any]]]

_DENSE = {"encoding-type": "array", "encoding-version": "0.2.0"}
_LOG1P = "log1p"
_ROWS = 1024


def write_prediction_by_chunks(
    path: Path,
    *,
    section: Section,
    genes: Sequence[str],
    depth: npt.NDArray[np.float32],
    extras: Extras,
    chunks: Iterable[Chunk],
    thumbnail: Thumbnail | None,
    provenance: Mapping[str, Any],
    columns: npt.NDArray[np.intp] | None = None,
    places: npt.NDArray[np.intp] | None = None,
) -> None:
    """Write one slide's prediction; memory holds one chunk of the tables at a time.

    Keys, units and layout are those of `h5ad.write_prediction`, since all but the tables comes from
    the same function.

    Args:
        path: the h5ad; replaced as a whole.
        section: where the spots lie; nothing is measured.
        genes: (G,) the model's panel.
        depth: (n,) predicted depth.
        extras: scores and flags per spot, grades and half widths per gene; no intervals of log1p.
        chunks: rows and their (b, G) arrays: `log1p`, `composition`, and `lower` and `upper` where the
            first chunk has them, and (b, K) `gene_sets` where the extras name sets; every row once. Without `log1p`
            composition is X, too: the layer is a second name of it.
        provenance: goes into uns["hespotex"].
        columns: which genes to write, default all.
        places: where these lie in the arrays of a chunk; default: `columns`.

    Raises:
        RunError: the file cannot be written.
    """
    kept = np.arange(len(genes)) if columns is None else columns
    taken, parts = kept if places is None else places, iter(chunks)
    first = next(parts, None)
    held = _Held.of(None if first is None else first[1])
    obs, var = spot_table(section, depth, extras), _of_genes(gene_table(genes, extras), kept)
    written = (*held.layers, *obs.columns)
    uns = file_record(section, extras, written, thumbnail, provenance, log1p=held.x == _LOG1P)
    with _new_file(path) as file:
        _write_frame(file, section, obs, var, uns)
        tables = _make_tables(file, (section.n_spots, len(kept)), held)
        of_sets = _make_sets(file, section.n_spots, extras, held)
        for rows, arrays in () if first is None else chain([first], parts):
            for name, table in tables.items():
                table[rows] = arrays[name][:, taken]
            for name, table in of_sets.items():
                table[rows] = arrays[name]


@contextmanager
def _new_file(path: Path) -> Iterator[Any]:
    """An HDF5 file that takes its place when it is whole.

    Raises:
        RunError: the disk is full, or the file cannot be written.
    """
    import h5py

    with atomic_path(path) as temporary:
        try:
            with h5py.File(temporary, "w") as file:
                yield file
        except (OSError, RuntimeError) as error:  # h5py raises either where the disk is full
            said = disk_fields(error, writing=True, otherwise="free space or choose another folder")
            raise RunError(expected=f"to write {path}", **said) from error


@dataclass(frozen=True)
class _Held:
    """What the chunks hold: which array is X, which are layers, and their type."""

    x: str
    layers: tuple[str, ...]
    dtype: npt.DTypeLike

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]] | None) -> _Held:
        """As the first chunk tells; of a slide without a spot as of one that is not compact."""
        has = {_LOG1P, keys.COMPOSITION} if arrays is None else set(arrays)
        layers = tuple(n for n in (keys.COMPOSITION, keys.LOWER, keys.UPPER) if n in has)
        dtype = np.float32 if arrays is None else arrays[keys.COMPOSITION].dtype
        return cls(_LOG1P if _LOG1P in has else keys.COMPOSITION, layers, dtype)


def _write_frame(
    file: Any, section: Section, obs: pd.DataFrame, var: pd.DataFrame, uns: Mapping[str, Any]
) -> None:
    """All but the tables."""
    from anndata.io import write_elem

    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    write_elem(file, "obs", obs)
    write_elem(file, "var", var)
    write_elem(file, "obsm", {keys.SPATIAL: np.asarray(section.xy_px0, np.float64)})
    for name in ("varm", "obsp", "varp", "layers"):
        write_elem(file, name, {})
    write_elem(file, "uns", uns)


def _make_tables(file: Any, shape: tuple[int, int], held: _Held) -> dict[str, Any]:
    """Empty X and layers by the name of their array; the layer that is X is a second name of it."""
    chunks = gene_chunks(shape, np.dtype(held.dtype).itemsize)
    tables = {held.x: file.create_dataset("X", shape, held.dtype, chunks=chunks)}
    for name in held.layers:
        if name == held.x:
            file[f"layers/{name}"] = file["X"]
        else:
            tables[name] = file["layers"].create_dataset(name, shape, held.dtype, chunks=chunks)
    for table in tables.values():
        table.attrs.update(_DENSE)
    return tables


def _make_sets(file: Any, n_spots: int, extras: Extras, held: _Held) -> dict[str, Any]:
    """The empty array of gene sets, where there are any."""
    if extras.gene_sets is None:
        return {}
    wide = (n_spots, len(extras.gene_sets.names))
    place = file["obsm"].create_dataset(keys.GENE_SETS, wide, held.dtype)
    place.attrs.update(_DENSE)
    return {keys.GENE_SETS: place}


def read_some_genes(path: Path, genes: Sequence[str]) -> StoredPrediction:
    """Read these genes of a prediction, in this order; memory holds few rows of the others at a time.

    Intervals and measured values are left out.

    Raises:
        RunError: the file is cut short, or lacks a gene.
    """
    return read_with_genes(path, genes)[0]


def read_with_genes(path: Path, genes: Sequence[str]) -> tuple[StoredPrediction, pd.DataFrame]:
    """`read_some_genes`, and the table of all genes that the file holds."""
    from anndata import AnnData
    from anndata.io import read_elem

    with _opened(path) as file:
        var: Any = read_elem(file["var"])
        columns = var.index.get_indexer(list(genes))
        if (columns < 0).any():
            lacking = [g for g, column in zip(genes, columns, strict=True) if column < 0]
            raise RunError(
                expected=f"{', '.join(lacking[:5])} in {path}", found="none", remedy="predict again"
            )
        uns = read_elem(file["uns"])
        composition = columns_of(file[f"layers/{keys.COMPOSITION}"], columns)
        table = AnnData(
            X=columns_of(file["X"], columns) if holds_log1p(uns) else composition,
            obs=read_elem(file["obs"]),
            var=var.iloc[columns],
            uns=uns,
            obsm=read_elem(file["obsm"]),
        )
        table.layers[keys.COMPOSITION] = composition
    return stored_prediction(table, path), var


@dataclass(frozen=True)
class Facts:
    """What a list tells of a prediction: neither spots nor genes are read one by one.

    Attributes:
        record: uns["hespotex"].
        claims: of its genes.
        n_spots: number of spots.
        thumbnail: None where there was no slide.
    """

    record: Mapping[str, Any]
    claims: Claims
    n_spots: int
    thumbnail: Thumbnail | None


def read_facts(path: Path) -> Facts:
    """The facts of a prediction.

    Raises:
        RunError: the file is cut short, or none of ours.
    """
    from anndata.io import read_elem

    with _opened(path) as file:
        uns, var = read_elem(file["uns"]), read_elem(file["var"])
        record = record_in(uns, path)
        n_spots = int(file[f"layers/{keys.COMPOSITION}"].shape[0])
    return Facts(record, claims_of(record, var, n_spots), n_spots, thumbnail_in(uns))


def _opened(path: Path) -> AbstractContextManager[Any]:
    what, remedy = "a prediction of hespotex in", "delete it and predict again"
    return open_h5(path, what, RunError, remedy)


def stored_genes(path: Path) -> list[str]:
    """Names of the genes that a prediction holds.

    Raises:
        RunError: the file is cut short.
    """
    from anndata.io import read_elem

    with _opened(path) as file:
        return [str(name) for name in read_elem(file["var"]).index]


def columns_of(dataset: Any, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """(n, g) these columns of a table; of the others no more is read than shares a chunk, few rows at a time."""
    out = np.empty((dataset.shape[0], len(columns)), np.float32)
    wide = dataset.shape[1] if dataset.chunks is None else dataset.chunks[1]
    blocks = [(k * wide, np.flatnonzero(columns // wide == k)) for k in np.unique(columns // wide)]
    for start in range(0, len(out), _ROWS):
        rows = slice(start, start + _ROWS)
        for left, places in blocks:
            out[rows, places] = dataset[rows, left : left + wide][:, columns[places] - left]
    return out


def _of_genes(var: pd.DataFrame, kept: npt.NDArray[np.intp]) -> pd.DataFrame:
    """The rows of these genes; of categories only those that they have, as a slice of AnnData has them."""
    rows = var.iloc[kept].copy()
    for name in rows.select_dtypes("category"):
        rows[name] = rows[name].cat.remove_unused_categories()
    return rows
