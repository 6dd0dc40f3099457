"""The image stream: context by hand, equivariance, rows, and growth with genes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hespotex.models.default.image_stream import ImageStream, ImageStreamSizes, spot_context
from hespotex.models.layers.adjacency import Adjacency

SIZES = ImageStreamSizes(
    inputs=3,
    genes=5,
    latent_size=4,
    hidden=8,
    hops=1,
    graph_layers=2,
    chained=True,
    input_dropout=0.2,
    hidden_dropout=0.5,
)
EDGES = torch.tensor([[1, 0, 2, 1, 3, 2], [0, 1, 1, 2, 2, 3]])  # a chain of four spots


def _net(sizes: ImageStreamSizes = SIZES) -> ImageStream:
    torch.manual_seed(0)
    net = ImageStream(sizes).double().eval()
    for skip in (net.latent_skip, net.depth_skip):  # they start at zero
        torch.nn.init.normal_(skip.weight)
    return net


def _x() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_context_is_the_spot_then_means_over_neighbours_of_growing_reach():
    graph = Adjacency.from_edges(EDGES, 4)
    x = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    expected = torch.tensor([[1.0, 2.0, 2.5], [2.0, 2.5, 3.5], [4.0, 5.0, 3.25], [8.0, 4.0, 5.0]])
    torch.testing.assert_close(spot_context(x, graph, 2), expected)


@pytest.mark.parametrize("chained", [True, False])
def test_permuting_spots_permutes_results(chained: bool):
    net, x = _net(replace(SIZES, chained=chained)), _x()
    order = torch.tensor([2, 0, 3, 1])
    place = torch.argsort(order)
    graph, moved = Adjacency.from_edges(EDGES, 4), Adjacency.from_edges(place[EDGES], 4)
    whole = net(spot_context(x, graph, 1), graph)
    permuted = net(spot_context(x[order], moved, 1), moved)
    torch.testing.assert_close(permuted.log_ratio, whole.log_ratio[order])
    torch.testing.assert_close(permuted.depth, whole.depth[order])


def test_order_of_edges_does_not_change_a_bit():
    net, x = _net(), _x()
    graph, shuffled = (
        Adjacency.from_edges(e, 4) for e in (EDGES, EDGES[:, torch.tensor([5, 2, 0, 4, 1, 3])])
    )
    first = net(spot_context(x, graph, 1), graph)
    second = net(spot_context(x, shuffled, 1), shuffled)
    assert torch.equal(first.log_ratio, second.log_ratio)


@pytest.mark.parametrize("layers", [0, 2])
def test_chosen_rows_are_the_rows_of_the_whole(layers: int):
    net, x = _net(replace(SIZES, graph_layers=layers)), _x()
    graph, rows = Adjacency.from_edges(EDGES, 4), torch.tensor([3, 1])
    context = spot_context(x, graph, 1)
    whole, part = net(context, graph), net(context, graph, rows)
    for a, b in zip(whole, part, strict=True):
        torch.testing.assert_close(a[rows], b)


def test_encode_and_the_gene_read_out_make_the_whole():
    net, x = _net(), _x()
    graph = Adjacency.from_edges(EDGES, 4)
    context = spot_context(x, graph, 1)
    latent, depth = net.encode(context, graph)
    whole = net(context, graph)
    torch.testing.assert_close(net.genes(latent), whole.log_ratio)
    torch.testing.assert_close(depth, whole.depth)


def test_graph_layers_reach_as_far_as_there_are_layers():
    """Spot 3 lies three hops from spot 0: with context of one hop and one layer it is out of reach."""
    graph, x = Adjacency.from_edges(EDGES, 4), _x()
    for layers, reached in ((1, False), (2, True)):
        net = _net(replace(SIZES, graph_layers=layers))
        changed = x.clone()
        changed[3] += 1
        a, b = (net(spot_context(v, graph, 1), graph).log_ratio[0] for v in (x, changed))
        assert bool((a != b).any()) is reached


def test_graph_layers_without_a_graph_are_refused():
    net = _net()
    with pytest.raises(ValueError, match="graph layers needs a graph, found None"):
        net(torch.zeros(4, 6, dtype=torch.float64))


def test_weights_grow_linearly_with_genes():
    def weights(genes: int) -> int:
        return sum(p.numel() for p in ImageStream(replace(SIZES, genes=genes)).parameters())

    per_gene = SIZES.latent_size + 1
    assert weights(1005) - weights(5) == 1000 * per_gene
