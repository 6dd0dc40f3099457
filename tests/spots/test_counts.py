"""Contracts of the checks that every reader's counts pass."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from hespotex.errors import SpotTableError
from hespotex.spots.base import Reader, SpotSource, SpotTable
from hespotex.spots.counts import check_counts, find_count_problem
from hespotex.spots.registry import READERS, read_spots


def raw(seed: int = 0, n: int = 40, g: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.8, (n, g)).astype(np.float64)


def names(letter: str, number: int) -> list[str]:
    return [f"{letter}{i}" for i in range(number)]


def test_raw_counts_keep_their_values_and_get_one_form() -> None:
    values = raw()
    for made in (sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix):
        matrix = check_counts(
            sparse.csr_matrix(made(values)), names("g", 30), names("s", 40), "file"
        )
        assert matrix.dtype == np.int32
        assert matrix.has_sorted_indices
        np.testing.assert_array_equal(matrix.toarray(), values)


def test_stored_zeros_and_split_entries_do_not_matter() -> None:
    split = sparse.csr_matrix(([1.0, 2.0, 0.0], [0, 0, 1], [0, 3, 3]), shape=(2, 2))
    split.data[2] = 0
    matrix = check_counts(split, ["a", "b"], ["s", "t"], "file")
    assert matrix.nnz == 1
    assert matrix.toarray().tolist() == [[3, 0], [0, 0]]


cpm = raw(1) + 1
cpm = cpm / cpm.sum(axis=1, keepdims=True) * 1e4

TRANSFORMED = [
    pytest.param(np.log1p(raw()), "already logged values, log1p of counts", id="log1p"),
    pytest.param(np.log2(1 + raw()), r"already logged values, log2\(1 \+ x\) of counts", id="log2"),
    pytest.param(
        np.log1p(cpm),
        "already logged values, log1p of spots scaled to a total of 10000",
        id="log1p of CP10k",
    ),
    pytest.param(cpm, "already scaled values, every spot has a total of 10000", id="CP10k"),
    pytest.param(np.sqrt(raw()), "values that look logged", id="square root"),
    pytest.param(raw() * 30.5, "values that are not whole numbers", id="factor"),
    pytest.param(raw() - 1, "negative values", id="negative"),
    pytest.param(np.where(raw() > 2, np.nan, raw()), "no numbers", id="NaN"),
    pytest.param(np.where(raw() > 2, np.inf, raw()), "no numbers", id="infinite"),
    pytest.param(raw() * 1e10, "too large for a count", id="huge"),
]


@pytest.mark.parametrize(("values", "message"), TRANSFORMED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transformed_counts_are_recognised(
    values: np.ndarray, message: str, dtype: type[np.floating]
) -> None:
    matrix = sparse.csr_matrix(values.astype(dtype))
    with pytest.raises(SpotTableError, match=f"expected raw counts in file, found .*{message}"):
        check_counts(matrix, names("g", 30), names("s", 40), "file")


def test_the_place_of_a_fault_is_named() -> None:
    values = raw()
    values[7, 3] = 0.5
    problem = find_count_problem(sparse.csr_matrix(values), names("g", 30), names("s", 40))
    assert problem is not None
    assert "0.5 for gene g3 in spot s7" in problem


def test_faults_below_thousands_of_empty_spots_are_found() -> None:
    values = np.zeros((3000, 4))
    values[2999] = np.log1p([1, 2, 3, 0])
    problem = find_count_problem(sparse.csr_matrix(values))
    assert problem is not None
    assert problem.startswith("already logged values, log1p of counts (for example")
    assert "row 3000" in problem


@pytest.mark.parametrize(
    ("genes", "spots", "message"),
    [
        (["a", "a", "b"], ["s", "t"], r"every gene once in file, found 1 gene names .*\(a\)"),
        (["a", "c", "b"], ["s", "s"], r"every spot once in file, found 1 spot names .*\(s\)"),
        (
            ["a", "", "b"],
            ["s", "t"],
            "a name for every gene in file, found an empty one at place 2",
        ),
    ],
)
def test_names_occur_once(genes: list[str], spots: list[str], message: str) -> None:
    with pytest.raises(SpotTableError, match=message):
        check_counts(sparse.csr_matrix(np.ones((2, 3))), genes, spots, "file")


@pytest.mark.parametrize(("factor", "refused"), [(1.0, False), (0.7, True)])
def test_counts_that_a_reader_did_not_check_are_checked(
    factor: float, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of another package may leave it out; what it hands over is raw counts all the same, or refused."""
    values = sparse.csr_matrix(np.array([[3, 0], [1, 2]]) * factor)
    table = SpotTable(
        barcodes=np.array(["s1", "s2"]),
        xy_px0=np.array([[0.0, 0.0], [100.0, 0.0]]),
        counts=values,
        genes=np.array(["A", "B"]),
        source="theirs.bin",
    )
    monkeypatch.setitem(READERS._found, "theirs", Reader(lambda source: table, ("expression",)))
    if refused:
        with pytest.raises(SpotTableError, match=r"expected raw counts in theirs\.bin"):
            read_spots("theirs", SpotSource())
        return
    read = read_spots("theirs", SpotSource())
    assert read.counts is not None
    assert read.counts.dtype == np.int32
    np.testing.assert_array_equal(read.counts.toarray(), [[3, 0], [1, 2]])
