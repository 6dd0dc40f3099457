"""Contracts on layouts that scipy, scanpy and anndata of any age write: read alike, or refused with the cause."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse
from scipy.io import mmread, mmwrite

from helpers.made_sections import KNOWN, h5ad, write_mtx
from helpers.old_anndata import REGIONS, write_06, write_07
from hespotex.errors import SpotTableError
from hespotex.inspection.inputs import resolve_input
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots
from hespotex.spots.sparse_reading import read_matrix_market
from hespotex.spots.ten_x import read_matrix

# ------------------------------------------------------------------------------- MatrixMarket

GENES_BY_SPOTS = KNOWN.counts.T
SQUARE = np.array([[3, 1, 0, 2], [1, 0, 5, 0], [0, 5, 7, 0], [2, 0, 0, 4]])


@pytest.mark.parametrize("field", ["integer", "real", "unsigned-integer"])
@pytest.mark.parametrize("layout", ["coordinate", "array"])
@pytest.mark.parametrize("shape", ["general", "symmetric"])
def test_a_matrix_reads_as_scipy_reads_it(
    layout: str, field: str, shape: str, tmp_path: Path
) -> None:
    values = (SQUARE if shape == "symmetric" else GENES_BY_SPOTS).astype(
        {"integer": np.int64, "real": np.float64, "unsigned-integer": np.uint64}[field]
    )
    path = tmp_path / "m.mtx"
    written = sparse.coo_array(values) if layout == "coordinate" else values
    mmwrite(path, written, symmetry=shape)
    assert path.read_text().split()[2:5] == [layout, field, shape]
    scipys = mmread(path)
    scipys = scipys.toarray() if sparse.issparse(scipys) else scipys
    np.testing.assert_array_equal(read_matrix_market(path).toarray(), np.asarray(scipys).T)
    np.testing.assert_array_equal(read_matrix_market(path).toarray(), values.T)


@pytest.mark.parametrize(
    "entries", ["1 1 5\n2 1 3\n1 1 5\n", "1 1 5\n1 1 2\n1 2 1\n", "1 2 4\n1 1 5\n1 1 5\n"]
)
def test_a_place_with_two_entries_is_refused_with_a_way_to_sum_them(
    entries: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.mtx"
    path.write_text(f"%%MatrixMarket matrix coordinate integer general\n2 2 3\n{entries}")
    with pytest.raises(
        SpotTableError, match=r"found 1 entries of a gene and spot .*remove the copies"
    ):
        read_matrix_market(path)
    twice = mmread(path)
    mmwrite(path, twice.tocsr())  # as the message says
    np.testing.assert_array_equal(read_matrix_market(path).toarray(), twice.toarray().T)


@pytest.mark.parametrize("layout", ["coordinate", "array"])
def test_remarks_blank_lines_and_line_ends_do_no_harm(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "m.mtx"
    mmwrite(path, sparse.coo_array(GENES_BY_SPOTS) if layout == "coordinate" else GENES_BY_SPOTS)
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if not line.startswith("%"))
    head = [lines[0].upper().replace("%%MATRIXMARKET", "%%MatrixMarket"), "% a remark", "", "%"]
    body = [lines[at], "", *lines[at + 1 : at + 9], "", "% another", *lines[at + 9 :], "", ""]
    path.write_bytes(gzip.compress("\r\n".join([*head, *body]).encode()))
    np.testing.assert_array_equal(read_matrix_market(path).toarray(), KNOWN.counts)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("coordinate pattern general", r"field pattern, which says where counts are, not how many"),
        ("coordinate complex general", r"field complex, which are no counts; write the counts"),
        ("array complex hermitian", r"field complex, which are no counts"),
        ("coordinate integer skew-symmetric", r"found coordinate skew-symmetric; write the counts"),
        ("vector integer general", r"found vector general"),
        ("coordinate text general", r"found field text, which is none"),
    ],
)
def test_what_holds_no_counts_is_refused_with_its_cause(
    head: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.mtx"
    path.write_text(f"%%MatrixMarket matrix {head}\n2 2 1\n1 1 1\n")
    with pytest.raises(SpotTableError, match=message) as caught:
        read_matrix_market(path)
    assert "copy it again" not in str(caught.value)


def _cut(text: str) -> str:
    return text[: len(text) // 2].rpartition("\n")[0] + "\n"


@pytest.mark.parametrize("layout", ["coordinate", "array"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_cut, r"entries where its head says [0-9]+; copy it again"),
        (lambda t: t + "1 1 1\n", r"found: .*; correct it there"),
        (lambda t: t.replace("\n7 30", "\n7 x"), r"found: .*; correct it there"),
        (lambda t: t.replace("\n7 30", "\n7"), r"found: .*; correct it there"),
    ],
)
def test_only_a_matrix_with_less_than_it_announces_is_to_be_copied_again(
    layout: str, change: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.mtx"
    mmwrite(path, sparse.coo_array(GENES_BY_SPOTS) if layout == "coordinate" else GENES_BY_SPOTS)
    text = change(path.read_text())
    path.write_text(text if layout == "coordinate" else text.replace("1 1 1\n", "1\n"))
    with pytest.raises(SpotTableError, match=message):
        read_matrix_market(path)


def test_a_matrix_of_spots_by_genes_is_told_by_its_names(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path, KNOWN, packed=False)
    mmwrite(folder / "matrix.mtx", sparse.coo_array(KNOWN.counts))
    read = read_matrix(folder)
    np.testing.assert_array_equal(read.counts.toarray(), KNOWN.counts)
    assert read.genes.tolist() == KNOWN.genes


# ----------------------------------------------------------------------------- names of genes


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("header", ["", "gene_id,gene_name,feature_type"])
def test_names_separated_by_commas_are_cells_and_no_gene_names(
    quote: str, header: str, tmp_path: Path
) -> None:
    folder = write_mtx(tmp_path, KNOWN, packed=False)
    rows = [
        ",".join(f"{quote}{cell}{quote}" for cell in (f"ENSG{g}", name, "Gene Expression"))
        for g, name in enumerate(KNOWN.genes)
    ]
    (folder / "genes.tsv").write_text("\n".join([header, *rows] if header else rows))
    (folder / "barcodes.tsv").write_text("\n".join(["x", *(f'"{b}"' for b in KNOWN.barcodes)]))
    read = read_matrix(folder)
    assert read.genes.tolist() == KNOWN.genes
    assert read.barcodes.tolist() == KNOWN.barcodes
    np.testing.assert_array_equal(read.counts.toarray(), KNOWN.counts)


def test_a_comma_in_the_name_of_one_gene_stays_one(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path, KNOWN, packed=False)
    names = ["A,B", *KNOWN.genes[1:]]
    (folder / "genes.tsv").write_text("\n".join(names))
    assert read_matrix(folder).genes.tolist() == names
    (folder / "genes.tsv").write_text("\n".join(f"ENSG{i}\t{n}" for i, n in enumerate(names)))
    assert read_matrix(folder).genes.tolist() == names


def test_names_of_another_number_are_refused_as_before(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path, KNOWN, packed=False)
    (folder / "genes.tsv").write_text("\n".join(["ACTB", *KNOWN.genes]))
    with pytest.raises(SpotTableError, match=r"30 barcodes x 8 features .*found 30 x 7"):
        read_matrix(folder)


# -------------------------------------------------------------------------------------- h5ad


@pytest.mark.parametrize("write", [write_06, write_07])
@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
@pytest.mark.parametrize("logged", [False, True])
def test_files_of_older_versions_of_anndata_are_read(
    write: Callable[..., Path], kind: str, logged: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "old.h5ad", KNOWN, kind, logged=logged)
    table = read_spots("h5ad", SpotSource(expression=path))
    assert table.counts is not None
    assert table.genes is not None
    assert table.obs is not None
    assert table.array_xy is not None
    assert table.genes.tolist() == KNOWN.genes
    assert table.barcodes.tolist() == KNOWN.barcodes
    np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts)
    np.testing.assert_array_equal(table.xy_px0, KNOWN.xy_px0)
    np.testing.assert_array_equal(table.array_xy, KNOWN.array_xy)
    assert table.obs["region"].astype(str).tolist() == REGIONS[np.arange(30) % 2].tolist()
    assert table.hints.image_scales == {"hires": 0.25}


def test_an_old_file_without_positions_or_counts_says_so(tmp_path: Path) -> None:
    path = write_06(tmp_path / "old.h5ad", KNOWN)
    with h5py.File(path, "r+") as file:
        file["X/data"][:] = np.log1p(file["X/data"][:])
    with pytest.raises(SpotTableError, match=r"X has already logged values, log1p of counts"):
        read_spots("h5ad", SpotSource(expression=path))
    with h5py.File(path, "r+") as file:
        del file["obsm"]
    with pytest.raises(SpotTableError, match=r"obsm\['spatial'\] of .*old\.h5ad, found none"):
        read_spots("h5ad", SpotSource(spots=path))


NUMBERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "?"]


def _with_values(folder: Path, dtype: str, kind: str) -> SpotSource:
    source = h5ad(folder, KNOWN)
    assert source.expression is not None
    with h5py.File(source.expression, "r+") as file:
        del file["X"]
        if kind == "dense":
            file["X"] = KNOWN.counts.astype(dtype)
            return source
        stored = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}[kind](KNOWN.counts)
        group = file.create_group("X")
        group.attrs.update({"encoding-type": f"{kind}_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = stored.shape
        group["data"] = stored.data.astype(dtype)
        group["indices"], group["indptr"] = stored.indices, stored.indptr
    return source


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
def test_counts_of_every_type_of_number_are_read(dtype: str, kind: str, tmp_path: Path) -> None:
    table = read_spots("h5ad", _with_values(tmp_path, dtype, kind))
    assert table.counts is not None
    expected = KNOWN.counts > 0 if dtype == "?" else KNOWN.counts
    np.testing.assert_array_equal(table.counts.toarray(), expected)


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_complex_values_are_refused_and_the_layer_of_counts_is_still_taken(
    kind: str, tmp_path: Path
) -> None:
    source = _with_values(tmp_path, "c8", kind)
    with pytest.raises(SpotTableError, match=r"X has values of type complex64, .*no counts; store"):
        read_spots("h5ad", source)
    assert source.expression is not None
    with h5py.File(source.expression, "r+") as file:
        file["layers/counts"] = KNOWN.counts
    table = read_spots("h5ad", source)
    assert table.counts is not None
    np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts)


@pytest.mark.parametrize("version", [2, 3])
def test_a_table_in_zarr_is_read_as_the_h5ad_is(version: int, tmp_path: Path) -> None:
    source = h5ad(tmp_path, KNOWN)
    assert source.expression is not None
    store = tmp_path / "section.zarr"
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        anndata.read_h5ad(source.expression).write_zarr(store)
    table = read_spots("h5ad", SpotSource(expression=store))
    assert table.counts is not None
    np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts)
    np.testing.assert_array_equal(table.xy_px0, KNOWN.xy_px0)
    assert [row.format for row in resolve_input(store).rows] == ["h5ad"]
    with pytest.raises(
        SpotTableError, match=r"found a single AnnData table; set the format to h5ad"
    ):
        read_spots("spatialdata", SpotSource(expression=store))
    for part in (store / "X").rglob("*"):
        if part.is_file() and part.name[0].isdigit():
            part.write_bytes(b"x")
    with pytest.raises(SpotTableError, match=r"a whole AnnData store at .*compare it with"):
        read_spots("h5ad", SpotSource(expression=store))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("matrix", "row_attrs", "col_attrs", "layers"), r"a loom file; convert it: .*read_loom\("),
        (("mod", "obsm", "uns"), r"a MuData file; take its table of genes: .*read_h5mu\("),
        (
            ("matrix",),
            r"HDF5 without obs and var \(it holds matrix\); choose the format that wrote",
        ),
    ],
)
def test_tables_of_other_tools_say_the_line_that_converts_them(
    names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        for name in names:
            file.create_group(name)
    with pytest.raises(SpotTableError, match=message):
        read_spots("h5ad", SpotSource(expression=tmp_path / "x.h5ad"))
