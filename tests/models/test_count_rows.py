"""Rows of counts are the same numbers however the table is held."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from hespotex.models.default import count_rows
from hespotex.models.default.count_rows import row_reader


@pytest.mark.parametrize("largest", [3.0, 300.0, 40_000.0, 2.5])
@pytest.mark.parametrize("small_bytes", [0, 2**26])
def test_rows_are_those_of_the_table(largest: float, small_bytes: int, monkeypatch):
    monkeypatch.setattr(count_rows, "_SMALL_BYTES", small_bytes)
    table = np.zeros((50, 9), np.float32)
    table[::7, 4] = largest
    table[3, 8] = 1
    rows = torch.tensor([49, 0, 3, 3, 28])
    parts = [sparse.csr_matrix(table[:20]), sparse.csr_matrix(table[20:])]
    found = row_reader(parts, "cpu")(rows)
    np.testing.assert_array_equal(found.float().numpy(), table[rows.numpy()])
