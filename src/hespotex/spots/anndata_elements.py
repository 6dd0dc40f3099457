"""How single elements of an AnnData file are read: tables, names, matrices, small entries of uns."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex.errors import shorten
from hespotex.spots.counts import distinct_names
from hespotex.spots.sparse_reading import checked_csr, read_compressed, smallest_exact
from hespotex.storage.safe_names import shown_name

_CHUNK_BYTES: Final = 64 * 2**20
# Columns of var with the ids of genes, for symbols that stand there twice.
_ID_COLUMNS: Final = ("gene_ids", "gene_id", "ensembl_id", "ensemblID", "feature_id")


def read_columns(group: Any) -> tuple[pd.DataFrame, dict[str, int]]:
    """A stored table, and what had to be left out of it: columns whose encoding anndata does not know."""
    from anndata.io import read_elem

    try:
        return read_elem(group), {}
    except Exception:  # noqa: BLE001  anndata raises what the broken column raises
        names = [str(name) for name in group.attrs["column-order"]]
    table, unread = pd.DataFrame(index=read_elem(group[index_key(group)])), []
    for name in names:
        try:
            table[name] = read_elem(group[name])
        except Exception:  # noqa: BLE001
            unread.append(name)
    if not unread:
        return table, {}
    shown = shorten([shown_name(name) for name in unread], 4)
    return table, {f"columns of spots that anndata cannot read: {shown}": len(unread)}


def index_key(group: Any) -> str:
    """Where a stored table keeps its index."""
    return str(group.attrs.get("_index", "_index"))


def gene_names(group: Any) -> npt.NDArray[np.str_]:
    """(g,) names of the genes in a stored var; symbols that stand there twice give way to ids beside them."""
    from anndata.io import read_elem

    names = np.asarray(read_elem(group[index_key(group)])).astype(str)
    if len(set(names.tolist())) < len(names):  # as scanpy reads 10x: symbols twice, ids beside them
        for column in _ID_COLUMNS:
            if column in group:
                return distinct_names(names, np.asarray(read_elem(group[column])).astype(str))[0]
    return names


def read_matrix(element: Any) -> sparse.csr_matrix:
    """A stored matrix as CSR; a dense one is read by rows."""
    import h5py
    from anndata.io import read_elem

    if not isinstance(element, h5py.Dataset):
        kind = element.attrs.get("encoding-type", "")
        if kind not in {"csr_matrix", "csc_matrix"}:
            return checked_csr(read_elem(element))
        n_rows, n_columns = (int(side) for side in element.attrs["shape"])
        return read_compressed(
            element["data"],
            element["indices"],
            element["indptr"],
            (n_rows, n_columns),
            by_column=kind == "csc_matrix",
        )
    n, g = element.shape
    step = max(1, _CHUNK_BYTES // max(1, g * 8))
    blocks = []
    for start in range(0, n, step):
        blocks.append(sparse.csr_matrix(smallest_exact(element[start : start + step])))
    return sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((n, g))


def without_images(element: Any) -> Any:
    """A uns entry as nested dictionaries; of pictures (arrays of two and more dimensions) the shape alone."""
    import h5py
    from anndata.io import read_elem

    if isinstance(element, h5py.Group):
        if element.attrs.get("encoding-type", "dict") == "dict":
            return {name: without_images(element[name]) for name in element}
        return None
    if element.ndim >= 2:
        return element.shape
    try:
        return read_elem(element)
    except Exception:  # noqa: BLE001  of another version: a hint that cannot be read is none
        return None
