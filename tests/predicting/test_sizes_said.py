"""The sizes of fine maps in the docs are those that the code says before it begins."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hespotex.predicting.compact import Compact, sizes_of

PAGE = Path(__file__).parents[2] / "docs" / "design" / "fine.md"


@pytest.mark.parametrize("n_spots", [200_000, 4_000_000])
def test_the_page_has_the_sizes_that_the_command_says(n_spots: int) -> None:
    compact = Compact(np.arange(500), None, np.ones(9000))
    said = re.findall(r"([\d.]+) GB", sizes_of(n_spots, 4 * 1568, 9000, 4, compact).words())
    (row,) = (
        line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| {n_spots:,} |")
    )
    printed = re.findall(r"([\d.]+) GB", row)
    assert len(printed) == len(said) == 2
    for value, exact in zip(printed, said, strict=True):
        digits = len(value.partition(".")[2])
        assert f"{float(exact):.{digits}f}" == value
