"""GATE: golden forward pass, published training steps, decoders, symmetries."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hespotex.models.layers.adjacency import Adjacency
from hespotex.models.layers.gate import (
    FreeDecoder,
    Gate,
    GateEncoder,
    SharedStorageDecoder,
    TiedDecoder,
    reset_gate,
)


def golden_encoder(values):
    encoder = GateEncoder(*values["w1"].shape, values["w2"].shape[1]).double()
    with torch.no_grad():
        encoder.w1.copy_(torch.as_tensor(values["w1"]))
        encoder.w2.copy_(torch.as_tensor(values["w2"]))
        encoder.attention.a_source.copy_(torch.as_tensor(values["a_src1"]))
        encoder.attention.a_target.copy_(torch.as_tensor(values["a_dst1"]))
    return encoder


def golden_input(values):
    x = torch.as_tensor(values["x"]).double()
    return x, Adjacency.from_edges(torch.as_tensor(values["edge_index"]), len(x))


def small_gate(decoder=FreeDecoder, seed=0):
    encoder = GateEncoder(6, 5, 3).double()
    gate = Gate(encoder, decoder(encoder))
    reset_gate(gate, torch.Generator().manual_seed(seed))
    return gate


@pytest.mark.parametrize("decoder", [SharedStorageDecoder, TiedDecoder])
def test_forward_equals_golden(golden, decoder):
    values = golden("gate_forward")
    encoder = golden_encoder(values)
    x, graph = golden_input(values)
    with torch.no_grad():
        latent, y = Gate(encoder, decoder(encoder))(x, graph)
    np.testing.assert_allclose(latent, values["latent"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(y, values["reconstruction"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(((y - x) ** 2).mean(), values["mse"], rtol=0, atol=1e-12)


def golden_trajectory(values, decoder):
    encoder = golden_encoder(values)
    gate = Gate(encoder, decoder(encoder))
    x, graph = golden_input(values)
    optimiser = torch.optim.Adam(gate.parameters(), lr=1e-3, weight_decay=1e-4, foreach=False)
    losses = []
    for _ in range(len(values["loss_per_step"])):
        optimiser.zero_grad()
        loss = torch.mean((gate(x, graph)[1] - x) ** 2)
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gate.parameters(), 5.0)
        optimiser.step()
    return np.array(losses), gate.encode(x, graph).detach().numpy()


def test_shared_storage_reproduces_the_golden_training(golden):
    values = golden("gate_training")
    losses, latent = golden_trajectory(values, SharedStorageDecoder)
    np.testing.assert_allclose(losses, values["loss_per_step"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(latent, values["latent"], rtol=0, atol=1e-12)


def test_plain_tying_does_not_reproduce_the_golden_training(golden):
    values = golden("gate_training")
    losses, _ = golden_trajectory(values, TiedDecoder)
    assert abs(losses - values["loss_per_step"]).max() > 1e-2


def test_attention_on_three_spots():
    """Spot 0 hears 1 and 2: sigmoids 0.5 and sigmoid(2), softmaxed by hand."""
    encoder = GateEncoder(1, 1, 1).double()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.fill_(1.0)
        encoder.attention.a_target.zero_()
    graph = Adjacency.from_edges(torch.tensor([[1, 2], [0, 0]]), 3)
    x = torch.tensor([[5.0], [0.0], [2.0]], dtype=torch.float64)
    latent, alpha = encoder(x, graph)
    weight = np.exp([0.5, 1 / (1 + np.exp(-2.0))])
    weight /= weight.sum()
    np.testing.assert_allclose(alpha.detach(), weight, rtol=0, atol=1e-15)
    np.testing.assert_allclose(latent.detach()[:, 0], [2 * weight[1], 0, 0], rtol=0, atol=1e-15)


def test_shared_storage_is_one_memory_and_two_parameters():
    gate = small_gate(SharedStorageDecoder)
    assert len(list(gate.parameters())) == 6
    with torch.no_grad():
        gate.encoder.w1[0, 1] = 7.0
    assert gate.decoder.v1[1, 0].item() == 7.0
    assert gate.decoder.v1.data_ptr() == gate.encoder.w1.data_ptr()


def test_tied_decoder_has_no_parameters_and_follows_a_copy_of_the_network():
    gate = small_gate(TiedDecoder)
    assert list(gate.decoder.parameters()) == []
    assert len(list(gate.parameters())) == 4
    other = copy.deepcopy(gate)
    with torch.no_grad():
        other.encoder.w1.zero_()
    graph = Adjacency.from_edges(torch.tensor([[0, 1], [0, 1]]), 2)
    assert other(torch.ones(2, 6).double(), graph)[1].abs().max() == 0
    assert gate(torch.ones(2, 6).double(), graph)[1].abs().max() > 0


def test_free_decoder_learns_apart_from_the_encoder():
    gate = small_gate(FreeDecoder)
    assert not torch.equal(gate.decoder.v1, gate.encoder.w1.t())
    assert len(list(gate.parameters())) == 6


def test_reset_depends_on_the_generator_alone():
    torch.manual_seed(5)
    first = small_gate(seed=3).state_dict()
    torch.manual_seed(6)
    second = small_gate(seed=3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@given(st.integers(0, 1000), st.integers(2, 12))
@settings(max_examples=25, deadline=None)
def test_order_of_edges_changes_no_bit_and_permuted_spots_permute_the_result(seed, n):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, n, (2, 3 * n), generator=generator)
    x = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    gate = small_gate()
    latent, y = gate(x, Adjacency.from_edges(edges, n))

    shuffled = edges[:, torch.randperm(3 * n, generator=generator)]
    assert torch.equal(gate(x, Adjacency.from_edges(shuffled, n))[1], y)

    order = torch.randperm(n, generator=generator)
    place = torch.argsort(order)
    moved = gate(x[order], Adjacency.from_edges(place[edges], n))
    torch.testing.assert_close(moved[0], latent[order], rtol=0, atol=1e-12)
    torch.testing.assert_close(moved[1], y[order], rtol=0, atol=1e-12)
