"""Arrays on the disk are the same arrays; memory is asked first, and a full disk is said in a line."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from hespotex.errors import RunError
from hespotex.storage import spill as module
from hespotex.storage.spill import Spill, release_pages


def _table(seed: int = 0) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(0.7, (40, 9)).astype(np.int32))


def test_what_fits_into_the_budget_stays_where_it_is_and_no_folder_is_asked_for():
    def nowhere() -> Path:
        raise AssertionError

    values, table = np.arange(10.0), _table()
    spill = Spill(nowhere, budget=values.nbytes + table.data.nbytes + table.indices.nbytes)
    assert spill.array(values) is values
    assert spill.counts(table) is table


def test_beyond_the_budget_the_same_numbers_stand_on_the_disk_under_no_name(tmp_path):
    spill = Spill(lambda: tmp_path / "cache", budget=100)
    first, second = np.arange(12.0), np.arange(30, dtype=np.float32).reshape(5, 3, 2)[:, ::-1]
    assert spill.array(first) is first
    kept, table = spill.array(second), spill.counts(_table())
    release_pages()
    np.testing.assert_array_equal(kept, second)
    assert kept.dtype == second.dtype
    assert not np.shares_memory(kept, second)
    assert (table != _table()).nnz == 0
    assert table.has_canonical_format
    np.testing.assert_array_equal((table.T @ np.ones((40, 2))), _table().T @ np.ones((40, 2)))
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_array_that_is_filled_on_the_disk_keeps_what_is_written(tmp_path):
    filled = Spill(lambda: tmp_path, budget=0).empty((6, 4), np.uint8)
    filled[:] = np.arange(24).reshape(6, 4)
    release_pages()
    np.testing.assert_array_equal(filled, np.arange(24).reshape(6, 4))
    assert filled.dtype == np.uint8


def test_a_full_disk_is_one_line_with_size_folder_and_what_to_do(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(
        RunError, match=r"4\.0 GB for counts or features in .*No space left.*HESPOTEX_CACHE"
    ):
        Spill(lambda: tmp_path, budget=0).empty((10**9,), np.float32)
