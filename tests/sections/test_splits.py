"""Folds as data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from hespotex.errors import ConfigError
from hespotex.sections.splits import Fold, external_note, inner_folds, make_folds, spatial_blocks

COHORTS = st.lists(st.integers(0, 5), min_size=2, max_size=14).map(
    lambda patients: ([f"s{i}" for i in range(len(patients))], [f"p{p}" for p in patients])
)


def assert_partition(folds: tuple[Fold, ...], sections: list[str]) -> None:
    """Every section is held out once; held out and train make up the cohort."""
    assert sorted(s for f in folds for s in f.held_out) == sorted(sections)
    for fold in folds:
        assert fold.held_out
        assert fold.train
        assert sorted(fold.held_out + fold.train) == sorted(sections)


@given(COHORTS)
@settings(max_examples=60, deadline=None)
def test_by_patient_no_patient_is_on_both_sides(cohort: tuple[list[str], list[str]]) -> None:
    sections, patients = cohort
    of = dict(zip(sections, patients, strict=True))
    folds = make_folds(sections, patients, "patient")
    assert_partition(folds.folds, sections)
    if len(set(patients)) > 1:
        assert folds.by == "patient"
        assert not folds.note
        for fold in folds:
            assert not {of[s] for s in fold.held_out} & {of[s] for s in fold.train}
            assert len({of[s] for s in fold.held_out}) == 1


@given(COHORTS, st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_kfold_keeps_patients_together(cohort: tuple[list[str], list[str]], n: int) -> None:
    sections, patients = cohort
    if len(set(patients)) < n:
        with pytest.raises(ConfigError, match=f"found N = {n} and {len(set(patients))} patient"):
            make_folds(sections, patients, f"kfold:{n}")
        return
    of = dict(zip(sections, patients, strict=True))
    folds = make_folds(sections, patients, f"kfold:{n}")
    assert_partition(folds.folds, sections)
    assert (len(folds), folds.by) == (n, "kfold")
    assert folds == make_folds(sections, patients, f"kfold:{n}")
    for fold in folds:
        assert not {of[s] for s in fold.held_out} & {of[s] for s in fold.train}


@pytest.mark.parametrize(
    ("n", "by", "n_folds"),
    [(2, "patient", 2), (10, "patient", 10), (11, "kfold", 10), (23, "kfold", 10)],
)
def test_more_than_ten_patients_are_left_out_in_ten_groups_by_themselves(n, by, n_folds):
    sections, patients = [f"s{i}" for i in range(2 * n)], [f"p{i // 2}" for i in range(2 * n)]
    folds = make_folds(sections, patients, "auto")
    assert (folds.by, len(folds), folds.note) == (by, n_folds, "")
    assert_partition(folds.folds, sections)
    for fold in folds:
        held = {patients[sections.index(s)] for s in fold.held_out}
        assert not held & {patients[sections.index(s)] for s in fold.train}
    assert len(make_folds(sections, patients, "patient")) == n


def test_one_patient_or_none_known_is_by_itself_what_it_was_when_asked_for():
    for patients in (["C", "C"], ["", " "]):
        assert make_folds(["a", "b"], patients, "auto") == make_folds(
            ["a", "b"], patients, "patient"
        )


@given(COHORTS)
@settings(max_examples=30, deadline=None)
def test_by_section_leaves_out_one_at_a_time(cohort: tuple[list[str], list[str]]) -> None:
    sections, patients = cohort
    folds = make_folds(sections, patients, "section")
    assert_partition(folds.folds, sections)
    assert [f.held_out for f in folds] == [(s,) for s in sections]
    assert bool(folds.note) == (len(set(patients)) < len(patients))


def test_one_patient_falls_back_to_sections_and_says_so() -> None:
    folds = make_folds(["C2", "C3"], ["C", "C"], "patient")
    assert folds.by == "section"
    assert "all sections are of patient C" in folds.note
    assert folds[0] == Fold(("C2",), ("C3",))


def test_no_patient_ids_fall_back_to_sections_and_say_so() -> None:
    folds = make_folds(["a", "b"], ["", " "], "patient")
    assert folds.by == "section"
    assert "no patient ids are given" in folds.note


@pytest.mark.parametrize("by", ["patient", "kfold:2"])
def test_some_patient_ids_empty_is_an_error_that_names_the_sections(by: str) -> None:
    with pytest.raises(ConfigError, match=r"found none for b, d; fill them in, or use --folds sec"):
        make_folds(["a", "b", "c", "d"], ["A", "", "C", " "], by)


def test_sections_of_a_shared_patient_are_named_under_section() -> None:
    note = make_folds(["B4", "C2", "C3"], ["B", "C", "C"], "section").note
    assert "C2, C3" in note
    assert "B4" not in note


def test_a_model_says_whose_sections_it_may_have_seen() -> None:
    assert external_note(["s"], ["p"], ["q", "r"]) == ""
    assert "for s other sections of the same" in external_note(["s", "t"], ["p", "q"], ["p"])
    assert "for s other sections of the same" in external_note(["s"], [" "], ["p"])
    assert "for s other sections of the same" in external_note(["s"], ["p1"], ["P1"])
    assert "does not say what it was trained on" in external_note(["s"], ["p"], [])


def test_a_single_section_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"found one \(only\); add sections .* `hespotex train`"):
        make_folds(["only"], ["p"], "patient")


def test_doubled_sections_are_named() -> None:
    with pytest.raises(ConfigError, match="found doubled: a"):
        make_folds(["a", "b", "a"], ["p", "q", "r"], "section")


def test_unknown_folds_are_named() -> None:
    with pytest.raises(ConfigError, match="found 'slide'"):
        make_folds(["a", "b"], ["p", "q"], "slide")


class TestInnerFolds:
    def test_two_patients_are_left_out_in_turn(self) -> None:
        folds = inner_folds(["a", "b", "c"], ["p", "q", "p"])
        assert folds.by == "patient"
        assert [f.held_out for f in folds] == [("a", "c"), ("b",)]

    def test_many_patients_are_grouped(self) -> None:
        ids = [f"s{i}" for i in range(12)]
        folds = inner_folds(ids, [f"p{i}" for i in range(12)], max_folds=4)
        assert (folds.by, len(folds)) == ("kfold", 4)
        assert_partition(folds.folds, ids)

    def test_one_patient_leaves_out_sections_and_says_so(self) -> None:
        folds = inner_folds(["C2", "C3"], ["C", "C"])
        assert folds.by == "section"
        assert "nothing about another patient" in folds.note

    def test_one_section_asks_for_spatial_blocks_and_says_so(self) -> None:
        folds = inner_folds(["C2"], ["C"])
        assert (folds.by, len(folds)) == ("blocks", 0)
        assert "spatial blocks" in folds.note


class TestSpatialBlocks:
    @given(st.integers(8, 80), st.integers(2, 5), st.integers(0, 1000))
    @settings(max_examples=40, deadline=None)
    def test_blocks_part_the_spots_and_keep_the_gap(self, n: int, blocks: int, seed: int) -> None:
        xy = np.random.default_rng(seed).uniform(0, 1000, (n, 2))
        folds = spatial_blocks(xy, blocks, gap_um=0.5)
        assert sorted(np.concatenate([f.held_out for f in folds])) == list(range(n))
        sizes = [len(f.held_out) for f in folds]
        assert max(sizes) - min(sizes) <= 2
        for fold in folds:
            assert cdist(xy[fold.held_out], xy[fold.train]).min() > 0.5

    def test_the_longer_side_is_cut_and_the_gap_is_left_out(self) -> None:
        xy = np.array([[100.0 * i, 0.0] for i in range(10)])
        first, second = spatial_blocks(xy, 2, gap_um=150)
        assert first.held_out.tolist() == [0, 1, 2, 3, 4]
        assert first.train.tolist() == [6, 7, 8, 9]
        assert second.train.tolist() == [0, 1, 2, 3]

    def test_blocks_do_not_depend_on_the_order_of_spots(self) -> None:
        grid = np.stack(np.meshgrid(np.arange(7.0), np.arange(6.0)), -1).reshape(-1, 2)
        order = np.random.default_rng(0).permutation(len(grid))
        plain = {frozenset(map(tuple, grid[f.held_out])) for f in spatial_blocks(grid, 4, 1)}
        mixed = grid[order]
        assert plain == {
            frozenset(map(tuple, mixed[f.held_out])) for f in spatial_blocks(mixed, 4, 1)
        }

    def test_a_gap_wider_than_the_section_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match=r"farther than 99 um .* smaller gap"):
            spatial_blocks(np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]]), 2, gap_um=99)

    def test_more_blocks_than_spots_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="expected 2 to 3 blocks for 3 spots, found 4"):
            spatial_blocks(np.zeros((3, 2)), 4, gap_um=0)
