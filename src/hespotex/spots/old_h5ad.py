"""Owns h5ad files of anndata before 0.7, read through anndata: compound tables, matrices by attribute, `raw.X`."""

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


@contextmanager
def as_written_today(path: Path, uns: Collection[str]) -> Iterator[Any]:
    """The same file in today's layout, in memory; it has all of X, which such files are small enough for.

    Args:
        path: the old file.
        uns: entries of uns that are kept; positions are, of obsm.
    """
    import h5py
    from anndata import read_h5ad
    from anndata.io import write_elem

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the age of the file
        table = read_h5ad(path)
        table.uns = {name: table.uns[name] for name in uns if name in table.uns}
        for name in [name for name in table.obsm if name != "spatial"]:
            del table.obsm[name]
        for name in list(table.varm):
            del table.varm[name]
        with h5py.File.in_memory() as file:
            write_elem(file, "/", table)
            yield file
