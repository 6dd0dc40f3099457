"""The picture of domains: words above the columns keep clear of one another, however many lines they take."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from benchmarks.made_predictions import write_made_prediction

from hespotex.analysis.domains import DomainOptions, find_domains
from hespotex.plots.domain_pictures import Column, plot_domains


@pytest.mark.parametrize("n_columns", [1, 2, 4])
@pytest.mark.parametrize(
    "said", ["One line.", "Words of some length. " * 8, "Many more words. " * 25]
)
def test_no_two_pieces_of_text_overlap(tmp_path: Path, n_columns: int, said: str) -> None:
    path = write_made_prediction(
        tmp_path / "a.h5ad", level=np.zeros(30), section_id="a", patient_id="a",
        genes=[f"G{j}" for j in range(30)], side=4,
    )  # fmt: skip
    (file,) = find_domains([path], tmp_path / "out", DomainOptions(n=2)).files.values()
    columns = [
        Column("predicted composition", {0: "D1", 2: "D3"}, {"a": np.zeros(16, np.int32)})
    ] * n_columns
    figure = plot_domains([file.spots], columns, said)
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.texts]
    assert len(boxes) > 4 + n_columns
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    (legend,) = {tuple(t.get_text() for t in figure.texts if t.get_text().startswith("D"))}
    assert legend == ("D1", "D3") * n_columns
