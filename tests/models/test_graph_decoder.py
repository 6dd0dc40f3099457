"""Graph decoder: golden numbers of every part, small graphs by hand, symmetries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hespotex.models.layers.adjacency import Adjacency
from hespotex.models.layers.graph_decoder import (
    ChainedLayers,
    GraphBranch,
    GraphDecoder,
    GraphLayer,
    JumpingKnowledge,
    MeanMessage,
    ParallelLayers,
    PublishedMessage,
    build_published_net,
    two_layer_head,
)


@pytest.fixture(scope="module")
def published(golden):
    """The published network with golden weights, its input and its graph."""
    values = golden("decoder_forward")
    renamed = {
        "image_decoder.": "decoder.graph_branch.layers.",
        "jknet.0.": "decoder.graph_branch.readout.lstm.",
        "gene_head.": "decoder.gene_head.",
        "latent_head.": "latent_head.",
    }
    state = {}
    for name in values:
        for old, new in renamed.items():
            if name.startswith("w/" + old):
                state[new + name.removeprefix("w/" + old)] = torch.as_tensor(values[name]).double()
    net = build_published_net(512, 17, latent_size=5).double()
    net.load_state_dict(state)
    edges = torch.as_tensor(np.stack(np.nonzero(values["adjacency"].T)))
    features = torch.as_tensor(values["features"])
    return values, net.requires_grad_(False), features, Adjacency.from_edges(edges, 23)


def test_latent_head_equals_golden(published):
    values, net, features, _ = published
    np.testing.assert_allclose(net.latent_head(features), values["latent_hat"], rtol=0, atol=1e-12)


def test_gene_head_equals_golden(published):
    values, net, features, graph = published
    latent, _ = net(features, graph)
    ours = net.decoder.gene_head(latent)
    np.testing.assert_allclose(ours, values["mlp_expression"], rtol=0, atol=1e-12)


def test_each_graph_layer_equals_golden(published):
    values, net, features, graph = published
    ours = net.decoder.graph_branch.layers(net.latent_head(features), graph)
    np.testing.assert_allclose(ours, values["graph_layers"], rtol=0, atol=1e-12)


def test_expression_times_nuclei_factor_equals_golden(published):
    values, net, features, graph = published
    ours = net(features, graph)[1].numpy() * values["nuclei_factor"]
    np.testing.assert_allclose(ours, values["expression_hat"], rtol=0, atol=1e-12)


def path_of_four():
    return Adjacency.from_edges(torch.tensor([[1, 0, 2, 1, 3, 2], [0, 1, 1, 2, 2, 3]]), 4)


X = torch.tensor([[1.0, 0], [2, 4], [3, 0], [4, 8]], dtype=torch.float64)


def test_mean_message_by_hand():
    assert MeanMessage()(X, path_of_four()).tolist() == [[2, 4], [2, 0], [3, 6], [3, 0]]


def test_mean_message_of_a_lonely_spot_is_zero():
    graph = Adjacency.from_edges(torch.tensor([[0], [1]]), 2)
    assert MeanMessage()(X[:2], graph).tolist() == [[0, 0], [1, 0]]


def test_published_message_by_hand():
    """Four neighbours 1 .. 4 around spot 0: (their sum - own value) / 3."""
    graph = Adjacency.from_edges(torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0]]), 5)
    x = torch.tensor([[7.0], [1], [2], [3], [10]])
    assert PublishedMessage()(x, graph)[0].tolist() == [3.0]


def test_published_message_with_one_neighbour_divides_by_one():
    message = PublishedMessage()(X, path_of_four())
    assert message.tolist() == [[1, 4], [2, -4], [3, 12], [-1, -8]]


def test_graph_layer_by_hand():
    """W = [I | I]: ReLU(x + m), rows scaled to norm 1; a row of zeros stays zero."""
    layer = GraphLayer(2, MeanMessage()).double()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2, dtype=torch.float64).repeat(1, 2))
    x = torch.tensor([[3.0, 0], [0, 4], [-9, -9]], dtype=torch.float64)
    graph = Adjacency.from_edges(torch.tensor([[1, 0], [0, 1]]), 3)
    expected = [[0.6, 0.8], [0.6, 0.8], [0, 0]]
    np.testing.assert_allclose(layer(x, graph).detach(), expected, rtol=0, atol=1e-15)


def open_layers(number):
    """Graph layers whose ReLU lets every value pass."""
    layers = [GraphLayer(2, MeanMessage()).double() for _ in range(number)]
    generator = torch.Generator().manual_seed(0)
    for layer in layers:
        nn.init.uniform_(layer.weight, 0.1, 1.0, generator=generator)
    return layers


def test_chained_layers_reach_one_hop_a_layer_and_parallel_layers_one_hop_in_all():
    layers = open_layers(3)
    x = (X + 1).requires_grad_()
    hops = {}
    for wiring in (ParallelLayers(layers), ChainedLayers(layers)):
        last = wiring(x, path_of_four())[-1]
        (gradient,) = torch.autograd.grad(last[0, 0], x)
        hops[type(wiring).__name__] = (gradient.abs().sum(1) > 0).tolist()
    assert hops == {
        "ParallelLayers": [True, True, False, False],
        "ChainedLayers": [True, True, True, True],
    }


def test_the_first_layer_does_not_depend_on_the_wiring():
    layers = open_layers(2)
    parallel = ParallelLayers(layers)(X, path_of_four())
    chained = ChainedLayers(layers)(X, path_of_four())
    assert torch.equal(parallel[0], chained[0])
    assert not torch.equal(parallel[1], chained[1])


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_readout_grows_with_genes_squared_and_a_projected_one_linearly():
    published = [count(JumpingKnowledge(8, g, nn.Identity())) for g in (100, 200)]
    ours = [count(JumpingKnowledge(8, 16, nn.Linear(16, g))) for g in (100, 200, 300)]
    assert published[0] == 12 * 100**2 + 4 * 100 * 8 + 16 * 100
    assert published[1] > 3.5 * published[0]
    assert ours[2] - ours[1] == ours[1] - ours[0] == 17 * 100


def default_like_decoder():
    torch.manual_seed(1)
    layers = ChainedLayers(GraphLayer(4, MeanMessage()) for _ in range(2))
    branch = GraphBranch(layers, JumpingKnowledge(4, 6, nn.Linear(6, 7)))
    return GraphDecoder(two_layer_head(4, 7, hidden=8), branch).double()


@given(st.integers(0, 1000), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_order_of_edges_changes_no_bit_and_permuted_spots_permute_the_result(seed, n):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, n, (2, 3 * n), generator=generator)
    latent = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    decoder = default_like_decoder()
    out = decoder(latent, Adjacency.from_edges(edges, n))
    assert out.shape == (n, 7)

    shuffled = edges[:, torch.randperm(3 * n, generator=generator)]
    assert torch.equal(decoder(latent, Adjacency.from_edges(shuffled, n)), out)

    order = torch.randperm(n, generator=generator)
    moved = decoder(latent[order], Adjacency.from_edges(torch.argsort(order)[edges], n))
    torch.testing.assert_close(moved, out[order], rtol=0, atol=1e-12)
