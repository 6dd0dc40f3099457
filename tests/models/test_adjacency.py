"""Sparse sums over edges: expected numbers, gradients against a gather and add."""

from __future__ import annotations

import pytest
import torch

from hespotex.models.layers.adjacency import Adjacency


def random_graph(n=9, edges=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    key = torch.randperm(n * n, generator=generator)[:edges]
    return torch.stack([key % n, key // n])


def test_sums_on_a_path_of_four_spots():
    graph = Adjacency.from_edges(torch.tensor([[0, 1, 2, 3], [1, 2, 1, 1]]), 4)
    x = torch.tensor([[1.0], [10], [100], [1000]])
    assert graph.degree.tolist() == [0, 3, 1, 0]
    assert graph.sum(x).flatten().tolist() == [0, 1101, 10, 0]


def test_softmax_is_over_the_edges_into_one_target():
    graph = Adjacency.from_edges(torch.tensor([[0, 2, 1], [1, 1, 0]]), 3)
    score = torch.tensor([5.0, 0, 0])  # edges sorted by target: 1->0, 0->1, 2->1
    assert graph.softmax(score).tolist() == [1.0, 0.5, 0.5]


def test_any_order_of_edges_and_a_doubled_edge_give_the_same_bits():
    edges = random_graph()
    shuffled = edges[:, torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(1))]
    doubled = torch.cat([shuffled, edges[:, :3]], dim=1)
    first, second = (Adjacency.from_edges(e, 9) for e in (edges, doubled))
    for name in ("source", "target", "row_start", "flip", "column_start"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_value_and_both_gradients_equal_a_gather_and_add():
    edges = random_graph()
    graph = Adjacency.from_edges(edges, 9)
    generator = torch.Generator().manual_seed(2)
    score, x, seed = (
        torch.randn(s, generator=generator, dtype=torch.float64) for s in [(25,), (9, 4), (9, 4)]
    )
    score.requires_grad_()
    x.requires_grad_()
    ours = graph.propagate(graph.softmax(score), x)
    e = score.exp()
    weight = e / torch.zeros(9, dtype=e.dtype).index_add(0, graph.target, e)[graph.target]
    gathered = weight[:, None] * x[graph.source]
    theirs = torch.zeros_like(x).index_add(0, graph.target, gathered)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    for a, b in zip(
        torch.autograd.grad((ours * seed).sum(), (score, x)),
        torch.autograd.grad((theirs * seed).sum(), (score, x)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_gradients_pass_the_numerical_check():
    graph = Adjacency.from_edges(random_graph(5, 8), 5)
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in [(8,), (5, 2)]]
    assert torch.autograd.gradcheck(graph.propagate, inputs)


def test_a_graph_without_edges_sums_to_zero():
    graph = Adjacency.from_edges(torch.zeros(2, 0, dtype=torch.int64), 3)
    x = torch.ones(3, 2, requires_grad=True)
    graph.sum(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 0]] * 3


@pytest.mark.parametrize(
    ("edges", "message"),
    [(torch.zeros(3, 2, dtype=torch.int64), r"\(2, E\)"), (torch.tensor([[0], [3]]), r"0 \.\. 2")],
)
def test_edges_of_another_graph_are_refused(edges, message):
    with pytest.raises(ValueError, match=message):
        Adjacency.from_edges(edges, 3)
