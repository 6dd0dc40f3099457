"""How large tables lie in a file: in chunks of few genes, so that one gene is read without the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from anndata import AnnData

# Smaller tables are read whole in a moment, and stay in one piece.
SMALL_BYTES: Final = 32 * 2**20
# A slide is written 512 spots at a time: every chunk is written once.
_SPOTS: Final = 512
GENES: Final = 64


def gene_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, int] | None:
    """Spots and genes of a chunk of an (n, G) table; None where it stays in one piece."""
    if len(shape) != 2 or shape[0] * shape[1] * itemsize <= SMALL_BYTES:
        return None
    return min(_SPOTS, shape[0]), min(GENES, shape[1])


def write_table(table: AnnData, path: Path) -> None:
    """Write an h5ad whose large dense tables lie in such chunks; otherwise as `AnnData.write_h5ad` writes it."""
    import h5py
    from anndata.experimental import write_dispatched

    dense = [v for v in (table.X, *table.layers.values()) if hasattr(v, "itemsize")]
    if all(gene_chunks(v.shape, v.itemsize) is None for v in dense):
        table.write_h5ad(path)
        return

    def write(func: Any, store: Any, key: str, elem: Any, dataset_kwargs: Any, iospec: Any) -> None:
        chunks = None
        if iospec.encoding_type == "array" and elem.ndim == 2:
            chunks = gene_chunks(elem.shape, elem.itemsize)
        func(store, key, elem, dataset_kwargs={**dataset_kwargs, **({"chunks": chunks} if chunks else {})})  # fmt: skip

    table.strings_to_categoricals()
    with h5py.File(path, "w") as file:
        write_dispatched(file, "/", table, callback=write)
