"""AnnData that is not stored as h5ad of today: files of before 0.7, Zarr stores, what others keep in HDF5."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def is_old(file: Any) -> bool:
    """Whether an open h5ad file has the layout of anndata before 0.7."""
    import h5py

    tables = [file[name] for name in ("obs", "var") if name in file]
    return (
        any(isinstance(table, h5py.Dataset) for table in tables)
        or "raw.X" in file
        or ("X" in file and "h5sparse_format" in file["X"].attrs)
    )


def is_zarr_table(path: Path) -> bool:
    """Whether a folder is one AnnData table in Zarr, as `write_zarr` makes it."""
    try:
        marked = any((path / mark).is_file() for mark in ("zarr.json", ".zgroup", ".zattrs"))
        return marked and all((path / part).is_dir() for part in ("obs", "var"))
    except OSError:  # said by whoever opens it
        return False


def other_format(names: Collection[str], path: Path) -> str:
    """What an HDF5 file without obs and var is, with what to do."""
    held = f"HDF5 without obs and var (it holds {', '.join(sorted(names))[:100]})"
    if {"row_attrs", "col_attrs"} <= set(names):
        return (
            f"a loom file; convert it: python -c \"import anndata; anndata.io.read_loom('{path}')"
            ".write_h5ad('NEW.h5ad')\""
        )
    if "mod" in names:
        return (
            f"a MuData file; take its table of genes: python -c \"import mudata; mudata.read_h5mu('{path}')"
            ".mod['rna'].write_h5ad('NEW.h5ad')\""
        )
    return f"{held}; choose the format that wrote it"


@contextmanager
def as_written_today(path: Path, uns: Collection[str]) -> Iterator[Any]:
    """The same table in today's h5ad, in memory, with all of X.

    Args:
        path: the old file, or a Zarr store.
        uns: entries of uns that are kept; positions are, of obsm.
    """
    import h5py
    from anndata.io import read_h5ad, read_zarr, write_elem

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the age of the file
        table = read_zarr(path) if path.is_dir() else read_h5ad(path)
        table.uns = {name: table.uns[name] for name in uns if name in table.uns}
        for name in [name for name in table.obsm if name != "spatial"]:
            del table.obsm[name]
        for name in list(table.varm):
            del table.varm[name]
        with h5py.File.in_memory() as file:
            write_elem(file, "/", table)
            yield file
