"""Regions are compact and apart, and their composition is that of their summed counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers.toy_cohort import lattice
from hespotex.errors import HESpotExError
from hespotex.evaluation.regions import (
    SIZES,
    apart,
    held_out_regions,
    neighbourhoods,
    region_composition,
)
from hespotex.genes.gene_sets import GeneSet, PanelSets
from hespotex.genes.panel import PanelCounts
from hespotex.models.types import Prediction


def said(composition: np.ndarray) -> Prediction:
    """A prediction of this composition, equally deep everywhere."""
    values = composition.astype(np.float32)
    return Prediction(values, values, np.full(len(values), 30, np.float32))


def test_a_region_is_a_spot_with_its_nearest_ones() -> None:
    xy = lattice(5, 5, hexagonal=False)
    centre = neighbourhoods(xy, 9)[12]
    assert centre[0] == 12
    assert sorted(centre) == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    assert sorted(neighbourhoods(lattice(9, 9, hexagonal=True), 7)[40]) == [30, 31, 39, 40, 41, 48, 49]  # fmt: skip


def test_equally_near_spots_come_in_their_order_however_much_the_lattice_wobbles() -> None:
    xy = lattice(5, 5, hexagonal=False)
    assert neighbourhoods(xy, 4)[12].tolist() == [12, 7, 11, 13]
    wobbling = xy + np.random.default_rng(0).normal(0, 0.2, xy.shape)
    np.testing.assert_array_equal(neighbourhoods(wobbling, 4)[12], [12, 7, 11, 13])


def test_a_region_of_more_spots_than_there_are_is_an_error() -> None:
    with pytest.raises(HESpotExError, match="at least 9 spots for a region of 9, found 8"):
        neighbourhoods(lattice(2, 4, hexagonal=False), 9)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.sampled_from(SIZES), st.booleans())
def test_regions_share_no_spot_and_leave_no_room(
    rows: int, columns: int, size: int, hexagonal: bool
) -> None:
    xy = lattice(rows, columns, hexagonal=hexagonal)
    if len(xy) < size:
        return
    members = neighbourhoods(xy, size)
    chosen = members[apart(members, xy)]
    used = np.zeros(len(xy), int)
    np.add.at(used, chosen.ravel(), 1)
    assert used.max() == 1
    assert (used[members] > 0).any(axis=1).all()


@pytest.mark.parametrize("hexagonal", [False, True])
def test_regions_fill_most_of_a_lattice(hexagonal: bool) -> None:
    xy = lattice(30, 30, hexagonal=hexagonal)
    for size in SIZES:
        members = neighbourhoods(xy, size)
        assert members[apart(members, xy)].size > 0.7 * len(xy)


def test_regions_around_some_spots_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    xy = lattice(12, 12, hexagonal=True)
    centres = np.array([7, 60, 143])
    np.testing.assert_array_equal(neighbourhoods(xy, 9, centres), neighbourhoods(xy, 9)[centres])
    monkeypatch.setattr("hespotex.evaluation.regions._MOST_CENTRES", 20)
    counts = PanelCounts(sparse.csr_matrix(np.ones((144, 2), np.float32)), np.ones(2, bool))
    held = held_out_regions(said(np.zeros((144, 2))), np.full(2, 0.5), counts, xy)
    assert len(held.by_size[1].counts) == 20


def test_composition_of_a_region_is_that_of_its_summed_expected_counts() -> None:
    pooled = np.array([0.5, 0.25, 0.25])
    parts = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])
    composition = np.log(parts / pooled).astype(np.float32)
    depth = np.array([100.0, 300.0, 50.0], np.float32)
    members = np.array([[0, 1], [2, 0]])
    expected = np.stack([parts[0] + 3 * parts[1], 0.5 * parts[2] + parts[0]])
    expected /= expected.sum(axis=1, keepdims=True)
    found = region_composition(composition, depth, pooled, members)
    np.testing.assert_allclose(found, np.log(expected / pooled), rtol=1e-5, atol=1e-6)
    alone = region_composition(composition, depth, pooled, np.arange(3)[:, None])
    np.testing.assert_allclose(alone, composition, atol=1e-6)
    unknown = region_composition(composition, depth * np.float32(np.nan), pooled, members)
    np.testing.assert_allclose(np.exp(unknown[0]) * pooled, parts[:2].mean(axis=0), rtol=1e-5)


def test_what_is_expected_of_a_region_adds_up_to_what_was_counted_of_measured_genes() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(5, (36, 6)).astype(np.float32)
    counts[7] = 0  # an empty spot is in no region
    measured = np.arange(6) != 2
    counts[:, 2] = 0
    held = held_out_regions(
        said(rng.normal(0, 0.3, (36, 6))),
        np.full(6, 1 / 6),
        PanelCounts(sparse.csr_matrix(counts), measured),
        lattice(6, 6, hexagonal=False),
        fitted=np.arange(6) != 4,
    )
    assert list(held.by_size) == [1, 4, 9, 25]
    assert len(held.by_size[1].counts) == 35
    assert held.by_size[1].counts.sum() == counts.sum()
    for regions in held.by_size.values():
        np.testing.assert_allclose(
            regions.expected.sum(axis=1), regions.counts.sum(axis=1), rtol=1e-5
        )
        assert (regions.expected[:, 2] == 0).all()
        assert regions.genes.tolist() == [True, True, False, True, False, True]


def test_a_gene_set_has_the_counts_and_the_expectation_of_its_members_that_count() -> None:
    rng = np.random.default_rng(0)
    measured = np.arange(8) != 2
    counts = rng.poisson(5, (36, 8)).astype(np.float32) * measured
    held = held_out_regions(
        said(rng.normal(0, 0.3, (36, 8))),
        np.full(8, 1 / 8),
        PanelCounts(sparse.csr_matrix(counts), measured),
        lattice(6, 6, hexagonal=False),
    )
    names = [f"G{j}" for j in range(8)]
    sets = PanelSets.of([GeneSet("of three", ("G1", "G2", "G3", "G4")), GeneSet("of two", ("G1", "G2", "G3"))], names)  # fmt: skip
    of_sets = held.of_sets(sets)
    for size, regions in held.by_size.items():
        found = of_sets.by_size[size]
        assert found.genes.tolist() == [True, False]
        members = [1, 3, 4]
        np.testing.assert_allclose(found.counts[:, 0], regions.counts[:, members].sum(axis=1))
        np.testing.assert_allclose(
            found.expected[:, 0], regions.expected[:, members].sum(axis=1), rtol=1e-5
        )


def test_a_section_of_fewer_spots_has_no_region_of_that_size() -> None:
    counts = PanelCounts(sparse.csr_matrix(np.ones((12, 2), np.float32)), np.ones(2, bool))
    xy = lattice(3, 4, hexagonal=False)
    held = held_out_regions(said(np.zeros((12, 2))), np.full(2, 0.5), counts, xy)
    assert list(held.by_size) == [1, 4, 9]


def test_of_a_mean_error_over_the_section_only_a_share_is_kept() -> None:
    counts = np.array([[30.0, 10.0]] * 400, np.float32)
    held = held_out_regions(
        said(np.zeros((400, 2))),
        np.full(2, 0.5),
        PanelCounts(sparse.csr_matrix(counts), np.ones(2, bool)),
        lattice(20, 20, hexagonal=False),
    ).with_offsets(0.5)
    # Expected 20 and 20, counted 30 and 10: half of log 1.5 and of log 0.5 is left.
    expected = held.by_size[1].expected[0]
    np.testing.assert_allclose(expected, [20 * 1.5**0.5, 20 * 0.5**0.5], rtol=1e-3)
