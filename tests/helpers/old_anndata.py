"""The known section as older versions of anndata wrote it: the layouts of 0.6 and 0.7, written here with h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy import sparse

from helpers.made_sections import Known

REGIONS = np.array(["cortex", "medulla"])


def _records(index: list[str], columns: dict[str, np.ndarray]) -> np.ndarray:
    """A table of 0.6: one compound data set, the names in its field `index`."""
    names = np.array(index, dtype="S")
    return np.rec.fromarrays(
        [names, *columns.values()],
        dtype={"names": ["index", *columns], "formats": [names.dtype, *(v.dtype for v in columns.values())]},
    )  # fmt: skip


def _matrix(file: Any, name: str, values: np.ndarray, kind: str) -> None:
    """A matrix of 0.6: a data set, or a group whose attributes say how it is compressed."""
    if kind == "dense":
        file[name] = values
        return
    stored = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}[kind](values)
    group = file.create_group(name)
    group.attrs["h5sparse_format"] = np.bytes_(kind)
    group.attrs["h5sparse_shape"] = np.array(stored.shape)
    for part in ("data", "indices", "indptr"):
        group[part] = getattr(stored, part)


def write_06(path: Path, known: Known, kind: str = "csr", *, logged: bool = False) -> Path:
    """A file of anndata 0.6; with `logged` the counts lie in `raw.X` alone."""
    counts = known.counts.astype(np.float32)
    codes = np.arange(len(counts), dtype=np.int8) % 2
    with h5py.File(path, "w") as file:
        _matrix(file, "X", np.log1p(counts) if logged else counts, kind)
        obs = {
            "array_row": known.array_xy[:, 1],
            "array_col": known.array_xy[:, 0],
            "region": codes,
        }
        file["obs"] = _records(known.barcodes, obs)
        file["var"] = _records(known.genes, {"n_cells": (counts > 0).sum(axis=0)})
        file["obsm"] = np.rec.fromarrays(
            [known.xy_px0], dtype=[("spatial", known.xy_px0.dtype, (2,))]
        )
        file["uns/region_categories"] = REGIONS.astype("S")
        file["uns/spatial/one/scalefactors/tissue_hires_scalef"] = 0.25
        if logged:
            _matrix(file, "raw.X", counts, kind)
            file["raw.var"] = _records(known.genes, {})
    return path


def _table_07(file: Any, name: str, index: list[str], columns: dict[str, np.ndarray]) -> None:
    """A table of 0.7: a group, categories of a column beside it and referred to."""
    group = file.create_group(name)
    group.attrs.update(
        {"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "_index"}
    )
    group.attrs["column-order"] = np.array(list(columns), dtype=h5py.string_dtype())
    group["_index"] = np.array(index, dtype=h5py.string_dtype())
    for column, values in columns.items():
        group[column] = values
    if "region" in columns:
        group["__categories/region"] = REGIONS.astype(h5py.string_dtype())
        group["__categories/region"].attrs["ordered"] = False
        group["region"].attrs["categories"] = group["__categories/region"].ref


def write_07(path: Path, known: Known, kind: str = "csr", *, logged: bool = False) -> Path:
    """A file of anndata 0.7; with `logged` the counts lie in `raw/X` alone."""
    counts = known.counts.astype(np.float32)
    codes = np.arange(len(counts), dtype=np.int8) % 2

    def matrix(name: str, values: np.ndarray) -> None:
        if kind == "dense":
            file[name] = values
            return
        stored = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}[kind](values)
        group = file.create_group(name)
        group.attrs.update({"encoding-type": f"{kind}_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array(stored.shape)
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(stored, part)

    with h5py.File(path, "w") as file:
        matrix("X", np.log1p(counts) if logged else counts)
        obs = {
            "array_row": known.array_xy[:, 1],
            "array_col": known.array_xy[:, 0],
            "region": codes,
        }
        _table_07(file, "obs", known.barcodes, obs)
        _table_07(file, "var", known.genes, {})
        file["obsm/spatial"] = known.xy_px0
        file["uns/spatial/one/scalefactors/tissue_hires_scalef"] = 0.25
        if logged:
            matrix("raw/X", counts)
            _table_07(file, "raw/var", known.genes, {})
    return path
