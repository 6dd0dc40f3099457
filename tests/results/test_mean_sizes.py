"""Scores by size of square: a mean over the sections that have the size, and words for sections of unlike squares."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hespotex.report.report_tables import SIZE_COLUMNS, size_rows
from hespotex.results.mean_scores import gene_sizes, mean_sizes
from hespotex.results.run_notes import run_notes
from hespotex.sections.splits import Folds, make_folds
from hespotex.storage.metrics import FoldRecord, Metrics, ScoreSummary, SectionRecord, SizeScores


def _size(size: float, score: float, *, fitted: bool = False) -> SizeScores:
    values = ScoreSummary(pcc_composition_abundant200=score, pcc_log1p_mean=score / 2)
    return SizeScores(
        size_um=size, n_squares=100, n_fitted=int(fitted), scores={"model": values}, ceiling=values
    )


def _section(name: str, *sizes: SizeScores) -> SectionRecord:
    return SectionRecord(section_id=name, patient_id=name, n_spots=100, sizes=list(sizes))


FIRST = _section("S1", _size(16.0, 0.1), _size(32.0, 0.2, fitted=True), _size(64.0, 0.4))
SECOND = _section("S2", _size(16.0, 0.3), _size(32.0, 0.4), _size(64.0, 0.6, fitted=True))
COARSE = _section("S3")


def test_a_size_is_the_mean_of_the_sections_that_have_it() -> None:
    found = mean_sizes([[FIRST, COARSE], [SECOND]])
    assert [scored.size_um for scored in found] == [16.0, 32.0, 64.0]
    scores = [scored.scores["model"].pcc_composition_abundant200 for scored in found]
    assert scores == pytest.approx([0.2, 0.3, 0.5])
    assert [scored.n_squares for scored in found] == [200] * 3
    assert [scored.n_fitted for scored in found] == [0, 1, 1]
    assert mean_sizes([[COARSE]]) == []


def test_a_gene_at_a_size_is_the_mean_of_the_sections_that_have_both() -> None:
    rows = pd.DataFrame(
        {
            "gene": ["NA", "B", "NA", "B"],
            "pcc_composition": [0.9] * 4,
            "pcc_composition_lower": [0.8] * 4,
            "pcc_composition_128um": [0.5, np.nan, 0.7, np.nan],
            "ceiling_composition_128um": [0.6, np.nan, 0.8, np.nan],
            "pcc_composition_16um": [0.1, 0.2, np.nan, 0.4],
            "ceiling_composition_16um": [0.2, 0.4, np.nan, 0.6],
        }
    )
    found = gene_sizes(rows)
    assert (found.genes, found.sizes_um) == (("B", "NA"), (16.0, 128.0))
    np.testing.assert_allclose(found.pcc, [[0.3, np.nan], [0.1, 0.6]])
    np.testing.assert_allclose(found.ceiling, [[0.5, np.nan], [0.2, 0.7]])


def test_the_table_says_which_size_was_fitted_and_in_how_many_sections() -> None:
    rows = size_rows(Metrics(sizes=mean_sizes([[FIRST], [SECOND]])))
    assert all(len(row) == len(SIZE_COLUMNS) for row in rows)
    assert [row[0] for row in rows] == [
        "16 um",
        "32 um, fitted in 1 of 2 sections",
        "64 um, fitted in 1 of 2 sections",
    ]
    assert rows[0][1:4] == ["200", "0.200", "–"]
    alone = size_rows(Metrics(sizes=mean_sizes([[FIRST]])))
    assert alone[1][0] == "32 um, fitted"
    assert size_rows(Metrics()) == []


def test_a_run_says_of_which_squares_its_scores_are() -> None:
    folds: Folds = make_folds(["S1", "S2", "S3"], ["S1", "S2", "S3"], "patient")
    records = [FoldRecord(sections=[s]) for s in (FIRST, SECOND, COARSE)]
    (note,) = run_notes(folds, records)
    assert note == (
        "bins 16 um apart are summed into squares of 32 um in S1; bins 16 um apart are summed into squares of 64 um in "
        "S2: scores, null and grades are of these"
    )
    whole = _section("S4", _size(16.0, 0.1, fitted=True), _size(32.0, 0.2))
    assert run_notes(folds, [FoldRecord(sections=[s]) for s in (whole, COARSE)]) == []
