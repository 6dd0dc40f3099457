"""One gene of a large table: from chunks of few genes, else from a copy in the cache that is made once."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from anndata.io import read_h5ad

from hespotex.export import chunk_shape
from hespotex.export.chunk_shape import gene_chunks, write_table
from hespotex.export.h5ad_chunks import columns_of
from hespotex.viewer import gene_columns
from hespotex.viewer.gene_columns import GeneColumns


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tables of a few kilobytes count as large; the cache is a folder of this test."""
    for module in (chunk_shape, gene_columns):
        monkeypatch.setattr(module, "SMALL_BYTES", 1000)
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))


def _table() -> AnnData:
    values = np.random.default_rng(0).normal(size=(700, 90)).astype(np.float32)
    table = AnnData(X=values, obs=pd.DataFrame({"name": ["a", "b"] * 350}, index=[f"s{i}" for i in range(700)]))  # fmt: skip
    table.layers["composition"] = values + 1
    return table


def test_a_large_table_is_written_in_chunks_of_few_genes_and_reads_as_before(
    small: None, tmp_path: Path
) -> None:
    write_table(_table(), tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5ad") as file:
        assert file["X"].chunks == file["layers/composition"].chunks == (512, 64)
    again = read_h5ad(tmp_path / "t.h5ad")
    np.testing.assert_array_equal(again.X, _table().X)
    np.testing.assert_array_equal(again.layers["composition"], _table().layers["composition"])
    assert again.obs["name"].tolist() == ["a", "b"] * 350


def test_a_small_table_stays_in_one_piece(tmp_path: Path) -> None:
    write_table(_table(), tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5ad") as file:
        assert file["X"].chunks is None
    assert gene_chunks((60_000, 5_457), 4) == (512, 64)
    assert gene_chunks((60_000,), 4) is None


@pytest.mark.parametrize("chunks", [None, (700, 90), (512, 64)])
def test_a_column_is_that_of_the_file_and_a_copy_is_made_once_and_said(
    small: None, tmp_path: Path, chunks: tuple[int, int] | None
) -> None:
    values = np.asarray(_table().X)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("X", data=values, chunks=chunks)
    said: list[str] = []
    quick = chunks in ((512, 64), (700, 90))  # both have few genes a chunk
    for _ in range(2):
        with h5py.File(tmp_path / "t.h5") as file:
            columns = GeneColumns(file, tmp_path / "t.h5", said.append)
            for j in (0, 41, 89):
                np.testing.assert_array_equal(columns.read("X", j), values[:, j])
    assert len(said) == (0 if quick else 1)
    if not quick:
        assert "gene-wise copy of X (0 MiB) is made in" in said[0]


@pytest.mark.parametrize(("chunks", "read"), [(None, 300), ((512, 64), 128)])
def test_some_genes_are_read_without_the_chunks_of_others(
    tmp_path: Path, chunks: tuple[int, int] | None, read: int
) -> None:
    values = np.random.default_rng(0).normal(size=(1100, 300)).astype(np.float32)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        data = file.create_dataset("X", data=values, chunks=chunks)
        widths: list[int] = []

        class Seen:
            shape, chunks = data.shape, data.chunks

            def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
                part = np.asarray(data[key])
                widths.append(part.shape[1])
                return part

        columns = np.array([270, 3, 299, 17])  # of the last chunk of genes and the first
        np.testing.assert_array_equal(columns_of(Seen(), columns), values[:, columns])
        assert sum(widths) <= 2 * read
        np.testing.assert_array_equal(columns_of(data, columns[:0]), values[:, :0])


def test_another_file_of_that_name_gets_a_copy_of_its_own(small: None, tmp_path: Path) -> None:
    for number in (1, 2):
        values = np.full((300, 200), number, np.float32)
        with h5py.File(tmp_path / "t.h5", "w") as file:
            file.create_dataset("X", data=values[: 300 - number])
        with h5py.File(tmp_path / "t.h5") as file:
            read = GeneColumns(file, tmp_path / "t.h5", lambda _text: None).read("X", 7)
        np.testing.assert_array_equal(read, np.full(300 - number, number))
