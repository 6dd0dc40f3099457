"""Two runs are compared pairwise, or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hespotex.errors import RunError
from hespotex.evaluation.compare import RunScores, ScoreDifference, compare_runs

SECTIONS = ["s1", "s2", "s3", "s4"]


def run(
    name: str,
    shift: Mapping[str, float],
    genes: tuple[str, ...] = ("g1", "g2", "g3"),
    n_spots: int = 50,
) -> RunScores:
    """Scores of a fixed table plus a shift per section."""
    base = dict(zip(("g1", "g2", "g3", "g4"), (0.1, 0.3, 0.5, 0.2), strict=True))
    rows = [
        {"section_id": s, "gene": g, "pcc_log1p": base[g] + shift[s], "pcc_composition": base[g]}
        for s in shift
        for g in genes
    ]
    held_out = {s: frozenset(t for t in SECTIONS if t != s) for s in shift}
    return RunScores(name, pd.DataFrame(rows), held_out, dict.fromkeys(shift, n_spots))


FLAT = dict.fromkeys(SECTIONS, 0.0)
BETTER = dict(zip(SECTIONS, (0.10, 0.12, 0.09, 0.11), strict=True))


def _log1p(
    first: RunScores, second: RunScores, patients: Mapping[str, str] | None = None
) -> ScoreDifference:
    found = {d.score: d for d in compare_runs(first, second, patients).differences}
    return found["pcc_log1p"]


def test_a_difference_is_the_paired_t_interval_over_sections() -> None:
    result = _log1p(run("old", FLAT), run("new", BETTER))
    expected = stats.ttest_1samp(list(BETTER.values()), 0).confidence_interval(0.95)
    assert result.difference == pytest.approx(0.105)
    over = result.over_sections
    assert (over.lower, over.upper) == pytest.approx((expected.low, expected.high))
    assert result.over_patients is None
    assert result.second - result.first == pytest.approx(0.105)
    assert result.verdict.startswith("new is better by 0.105")
    assert "over 4 sections" in result.verdict
    assert result.better_genes == 1


def test_the_verdict_goes_by_patients_where_there_are_two() -> None:
    patients = {"s1": "P", "s2": "P", "s3": "Q", "s4": "Q"}
    result = _log1p(run("old", FLAT), run("new", BETTER), patients)
    over = result.over_patients
    assert over is not None
    assert (over.unit, over.n) == ("patient", 2)
    assert result.over_sections.n == 4
    assert np.isfinite(result.over_sections.lower)
    assert "new is better in each of 2 patients, by 0.100 to 0.110" in result.verdict


@pytest.mark.parametrize("n", [2, 3])
def test_two_or_three_units_give_their_range_and_no_interval(n: int) -> None:
    shift = dict(zip(SECTIONS[:n], (0.1, 0.3, 0.2), strict=False))
    flat = dict.fromkeys(shift, 0.0)
    result = _log1p(run("old", flat), run("new", shift))
    over = result.over_sections
    assert np.isnan(over.lower)
    assert np.isnan(over.upper)
    assert (over.lowest, over.highest) == pytest.approx((0.1, 0.3))
    assert over.text() == f"none; +0.1000 to +0.3000 in {n} sections"
    assert result.verdict == (
        f"new is better in each of {n} sections, by 0.100 to 0.300: too few for an interval, so not enough to tell "
        "of others (100% of genes are better in new)"
    )
    back = _log1p(run("new", shift), run("old", flat))
    assert back.verdict.startswith(f"new is better in each of {n} sections, by 0.100 to 0.300")
    mixed = _log1p(run("old", flat), run("new", {**shift, "s1": -0.1}))
    assert mixed.verdict.startswith("no difference can be told: +0.1")
    assert f"-0.100 to +0.300 in {n} sections, too few for an interval" in mixed.verdict


def test_sections_of_one_patient_are_the_unit_when_there_is_no_other() -> None:
    patients = dict.fromkeys(SECTIONS, "P")
    result = _log1p(run("old", FLAT), run("new", BETTER), patients)
    assert result.over_patients is None
    assert "over 4 sections" in result.verdict


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [
        ((-0.10, -0.12, -0.09, -0.11), "old is better by 0.105"),
        ((0.2, -0.2, 0.1, -0.1), "no difference can be told"),
    ],
)
def test_verdicts(shift: tuple[float, ...], verdict: str) -> None:
    changed = dict(zip(SECTIONS, shift, strict=True))
    assert _log1p(run("old", FLAT), run("new", changed)).verdict.startswith(verdict)


def test_depth_alone_stands_beside_both_runs_as_a_mean_over_genes_then_sections() -> None:
    first, second = run("old", FLAT), run("new", BETTER)
    assert np.isnan(_log1p(first, second).depth)
    levels = {"s1": 0.4, "s2": 0.2, "s3": 0.1, "s4": 0.1}
    for scores in (first, second):
        scores.genes["depth_only_pcc_log1p"] = scores.genes["section_id"].map(levels)
    assert _log1p(first, second).depth == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (0.0, "no difference can be told: +0.000, +0.000 to +0.000 in 2 sections"),
        (0.1, "100% of genes are better in new"),
        (-0.1, "100% of genes are better in old"),
    ],
)
def test_genes_are_better_where_they_differ_alone(shift: float, words: str) -> None:
    sections = dict.fromkeys(SECTIONS[:2], 0.0)
    assert words in _log1p(run("old", sections), run("new", dict.fromkeys(sections, shift))).verdict


def test_equal_runs_have_no_difference() -> None:
    for difference in compare_runs(run("a", FLAT), run("b", FLAT)).differences:
        assert difference.difference == 0
        assert difference.verdict.startswith("no difference can be told")


def test_one_section_is_not_enough_to_tell() -> None:
    result = _log1p(run("a", {"s1": 0.0}), run("b", {"s1": 0.5}))
    assert np.isnan(result.over_sections.lower)
    assert "on a single section: not enough to tell" in result.verdict


def test_it_says_what_it_restricted_to() -> None:
    three = dict.fromkeys(SECTIONS[:3], 0.0)
    result = compare_runs(run("a", FLAT), run("b", three, genes=("g1", "g2", "g4")))
    assert "restricted to 3 common sections; left out: s4" in result.restricted[0]
    assert "2 common genes; 1 are only in a, 1 only in b" in result.restricted[1]
    assert set(result.per_gene["gene"]) == {"g1", "g2"}


def test_errors_over_other_panels_are_in_other_units_and_not_compared() -> None:
    first, second = (
        replace(r, genes=r.genes.assign(rmse_log1p=1.0))
        for r in (run("a", FLAT), run("b", FLAT, genes=("g1", "g2")))
    )
    assert "rmse_log1p" in {d.score for d in compare_runs(first, first).differences}
    result = compare_runs(first, second)
    assert {d.score for d in result.differences} == {"pcc_composition", "pcc_log1p"}
    assert "errors are in other units and are left out" in result.restricted[0]
    one_fold = replace(second, genes=pd.concat([second.genes, first.genes.iloc[[2]]]))
    assert "0 are only in a, 0 only in b" in compare_runs(first, one_fold).restricted[0]


def test_a_gene_without_a_score_in_one_run_counts_in_neither() -> None:
    first, second = run("a", FLAT), run("b", FLAT)
    second.genes.loc[second.genes["gene"] == "g3", "pcc_log1p"] = np.nan
    result = _log1p(first, second)
    assert result.first == result.second == pytest.approx(0.2)


def test_other_spots_are_refused() -> None:
    with pytest.raises(RunError, match=r"same spots of section s1 .* found 50 in a and 49 in b"):
        compare_runs(run("a", FLAT), run("b", FLAT, n_spots=49))


def test_as_many_spots_with_other_content_are_refused() -> None:
    first, second = (replace(run(n, FLAT), keys={"s1": n * 20}) for n in "ab")
    with pytest.raises(
        RunError, match=r"positions and counts of section s1 .*a{12} in a and b{12}"
    ):
        compare_runs(first, second)


def _error(first: RunScores, second: RunScores) -> ScoreDifference:
    renamed = [
        replace(r, genes=r.genes.rename(columns={"pcc_log1p": "rmse_log1p"}))
        for r in (first, second)
    ]
    (error,) = (d for d in compare_runs(*renamed).differences if d.score == "rmse_log1p")
    return error


def test_less_error_is_better() -> None:
    error = _error(run("old", BETTER, ("g2",)), run("new", FLAT, ("g2",)))
    assert error.verdict.startswith("new is better by 0.105")
    assert error.better_genes == 1


def test_an_error_over_genes_is_the_root_mean_square_that_a_run_reports() -> None:
    error = _error(run("old", FLAT), run("new", FLAT))
    assert error.first == error.second == pytest.approx(np.sqrt((0.1**2 + 0.3**2 + 0.5**2) / 3))


def test_other_training_sections_are_refused() -> None:
    first, second = run("a", FLAT), run("b", FLAT)
    other = {**second.held_out, "s2": frozenset({"s1"})}
    changed = RunScores("b", second.genes, other, second.n_spots)
    with pytest.raises(
        RunError, match=r"sections for s2 .* found s3, s4 only in a and - only in b"
    ):
        compare_runs(first, changed)


def test_no_common_section_or_gene_is_refused() -> None:
    with pytest.raises(RunError, match="common held-out sections, found s1 in a and s2 in b"):
        compare_runs(run("a", {"s1": 0.0}), run("b", {"s2": 0.0}))
    with pytest.raises(RunError, match="common genes in a and b, found none"):
        compare_runs(run("a", FLAT, genes=("g1",)), run("b", FLAT, genes=("g2",)))
