"""Edges between spots: expected numbers on small graphs, order, ties, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hespotex.errors import GeometryError
from hespotex.models.graph import (
    Neighbours,
    join_edges,
    knn_edges,
    published_decoder_edges,
    published_gate_edges,
)

LINE = np.array([[0.0, 0], [1, 0], [3, 0], [7, 0]])


def pairs(edges):
    return {(int(j), int(i)) for j, i in edges.T}


def test_knn_on_a_line_has_these_edges_sorted_by_target():
    assert knn_edges(LINE, 1).tolist() == [[1, 0, 1, 2], [0, 1, 2, 3]]


def test_undirected_adds_the_reverse_edge():
    assert pairs(knn_edges(LINE, 1, undirected=True)) == {
        (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2),
    }  # fmt: skip


def test_self_loops_are_added_once():
    edges = knn_edges(LINE, 1, self_loops=True, undirected=True)
    assert sum(j == i for j, i in edges.T) == 4
    assert len(pairs(edges)) == edges.shape[1] == 10


def test_published_gate_query_counts_the_spot_itself():
    assert pairs(published_gate_edges(LINE, 2)) == pairs(
        knn_edges(LINE, 1, self_loops=True, undirected=True)
    )


def test_published_decoder_has_four_edges_into_each_spot_and_no_self_loop():
    xy = np.random.default_rng(0).normal(size=(30, 2))
    edges = published_decoder_edges(xy)
    assert np.bincount(edges[1]).tolist() == [4] * 30
    assert (edges[0] != edges[1]).all()


def test_square_lattice_interior_gets_its_four_sides():
    y, x = np.divmod(np.arange(25), 5)
    edges = knn_edges(np.stack([x, y], 1) * 200.0, 4)
    assert sorted(edges[0][edges[1] == 12].tolist()) == [7, 11, 13, 17]


def test_hexagonal_lattice_interior_gets_its_six_neighbours_at_odd_and_even_rows():
    y, x = np.divmod(np.arange(49), 7)
    xy = np.stack([(x + 0.5 * (y % 2)) * 100, y * 100 * np.sqrt(3) / 2], 1)
    edges = knn_edges(xy, 6)
    assert sorted(edges[0][edges[1] == 24].tolist()) == [17, 18, 23, 25, 31, 32]
    assert sorted(edges[0][edges[1] == 16].tolist()) == [8, 9, 15, 17, 22, 23]


def test_of_equally_far_spots_the_smaller_x_then_y_is_taken():
    xy = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    edges = knn_edges(xy, 2)
    assert sorted(edges[0][edges[1] == 0].tolist()) == [2, 4]


def test_a_circle_of_ties_wider_than_the_first_query_is_still_resolved():
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    xy = np.vstack([[[0.0, 0.0]], np.stack([np.cos(angle), np.sin(angle)], 1)])
    edges = knn_edges(xy, 1)
    leftmost = 1 + int(np.argmin(np.cos(angle)))
    assert edges[0][edges[1] == 0].tolist() == [leftmost]


def test_fewer_spots_than_neighbours_take_all_others():
    assert pairs(knn_edges([[0, 0], [1, 1]], 4)) == {(0, 1), (1, 0)}
    assert knn_edges([[0, 0]], 4).shape == (2, 0)
    assert knn_edges(np.zeros((0, 2)), 4).shape == (2, 0)


def test_spots_in_one_place_are_neighbours_of_each_other_never_of_themselves():
    edges = knn_edges(np.zeros((3, 2)), 2)
    assert pairs(edges) == {(i, j) for i in range(3) for j in range(3) if i != j}


def test_joined_sections_have_no_edge_between_them():
    graph = knn_edges(LINE, 1)
    assert join_edges([graph, graph], [4, 4]).tolist() == [
        [1, 0, 1, 2, 5, 4, 5, 6],
        [0, 1, 2, 3, 4, 5, 6, 7],
    ]


@given(
    arrays(float, st.tuples(st.integers(2, 40), st.just(2)), elements=st.integers(0, 9)).map(
        lambda a: np.unique(a, axis=0)
    ),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_permuted_lattice_spots_give_the_permuted_graph(xy, k, random):
    order = list(range(len(xy)))
    random.shuffle(order)
    moved = knn_edges(xy[order], k)
    assert {(order[j], order[i]) for j, i in moved.T} == pairs(knn_edges(xy, k))


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_knn_equals_a_sorted_distance_matrix(seed, k):
    xy = np.random.default_rng(seed).normal(size=(20, 2))
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    expected = {(int(j), i) for i in range(20) for j in np.argsort(distance[i])[1 : k + 1]}
    assert pairs(knn_edges(xy, k)) == expected


def test_golden_graphs_are_rebuilt_from_positions(golden):
    gate, decoder = golden("gate_forward"), golden("decoder_forward")
    assert pairs(published_gate_edges(gate["xy"], 7)) == pairs(gate["edge_index"])
    j, i = published_decoder_edges(decoder["xy_px"])
    dense = np.zeros_like(decoder["adjacency"])
    dense[i, j] = 1
    assert np.array_equal(dense, decoder["adjacency"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: knn_edges(np.zeros((3, 3)), 1), r"shape \(n, 2\), found \(3, 3\)"),
        (lambda: knn_edges([[0, 0], [np.nan, 1]], 1), "found .nan, 1.0. at spot 1: drop"),
        (lambda: knn_edges(LINE, -1), "0 or more, found -1"),
        (lambda: join_edges([], [3]), "0 graphs and 1 sizes"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(GeometryError, match=message):
        call()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30),
    st.integers(0, 7),
    st.data(),
)
def test_neighbours_that_are_looked_up_are_those_of_the_whole_graph(
    places: list[tuple[int, int]], k: int, data: st.DataObject
) -> None:
    xy = np.array(places, float)
    spots = np.array(data.draw(st.lists(st.integers(0, len(xy) - 1), unique=True)), np.intp)
    edges = knn_edges(xy, k)
    expected = np.unique(edges[0][np.isin(edges[1], spots)])
    np.testing.assert_array_equal(Neighbours(xy, k).of(spots), expected)
