"""Training of GATE: golden trajectory, sections together and in turn, seeds, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hespotex.errors import ConfigError
from hespotex.models.graph import published_gate_edges
from hespotex.models.layers.adjacency import Adjacency
from hespotex.models.layers.fit_gate import Descent, descend, fit_gate, fit_gate_in_turn
from hespotex.models.layers.gate import FreeDecoder, Gate, GateEncoder, SharedStorageDecoder


def cohort(sizes=(12, 15), genes=8, seed=0):
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(n, genes)) for n in sizes]
    graphs = [published_gate_edges(rng.normal(size=(n, 2)), 5) for n in sizes]
    return inputs, graphs


def test_descent_reproduces_the_golden_trajectory(golden):
    values = golden("gate_training")
    encoder = GateEncoder(*values["w1"].shape, values["w2"].shape[1]).double()
    with torch.no_grad():
        encoder.w1.copy_(torch.as_tensor(values["w1"]))
        encoder.w2.copy_(torch.as_tensor(values["w2"]))
        encoder.attention.a_source.copy_(torch.as_tensor(values["a_src1"]))
        encoder.attention.a_target.copy_(torch.as_tensor(values["a_dst1"]))
    gate = Gate(encoder, SharedStorageDecoder(encoder))
    x = torch.as_tensor(values["x"]).double()
    graph = Adjacency.from_edges(torch.as_tensor(values["edge_index"]), len(x))
    losses = descend(gate, [(x, graph)], Descent(steps=25))
    latent = gate.encode(x, graph).detach()
    np.testing.assert_allclose(losses, values["loss_per_step"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(latent, values["latent"], rtol=0, atol=1e-12)


def test_together_equals_one_section_when_the_sections_are_copies():
    inputs, graphs = cohort((12,))
    options = {"latent_size": 3, "hidden": 6, "steps": 20, "seed": 4}
    one = fit_gate(inputs, graphs, **options)
    two = fit_gate(inputs * 2, graphs * 2, **options)
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-12)
    np.testing.assert_allclose(two.latents[1], one.latents[0], rtol=0, atol=1e-10)


def test_latents_of_all_sections_come_from_the_final_weights():
    inputs, graphs = cohort()
    fit = fit_gate(inputs, graphs, latent_size=3, hidden=6, steps=10)
    encoder = GateEncoder(8, 6, 3).double()
    encoder.load_state_dict(
        {k.removeprefix("encoder."): torch.as_tensor(v) for k, v in fit.weights.items()}
    )
    for x, graph, latent in zip(inputs, graphs, fit.latents, strict=True):
        again, _ = encoder(torch.as_tensor(x), Adjacency.from_edges(torch.as_tensor(graph), len(x)))
        np.testing.assert_allclose(again.detach(), latent, rtol=0, atol=1e-12)


def test_in_turn_takes_the_first_latent_before_the_second_section_is_seen():
    inputs, graphs = cohort()
    options = {"latent_size": 3, "hidden": 6, "descent": Descent(steps=10), "seed": 2}
    both = fit_gate_in_turn(inputs, graphs, **options)
    first = fit_gate_in_turn(inputs[:1], graphs[:1], **options)
    np.testing.assert_array_equal(both.latents[0], first.latents[0])
    assert both.losses[:10] == first.losses
    assert len(both.losses) == 20
    assert set(both.weights) == {
        "encoder.w1", "encoder.w2", "encoder.attention.a_source", "encoder.attention.a_target",
    }  # fmt: skip


def test_the_loss_falls_on_a_signal_that_fits_the_latent():
    rng = np.random.default_rng(0)
    inputs = [(rng.normal(size=(40, 2)) @ rng.normal(size=(2, 10))).astype(np.float32)]
    graphs = [np.stack([np.arange(40), np.arange(40)])]
    losses = fit_gate(inputs, graphs, latent_size=4, hidden=16, steps=150, lr=1e-2).losses
    assert losses[-1] < 0.2 * losses[0]


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not():
    inputs, graphs = cohort()
    fits = [
        fit_gate(inputs, graphs, latent_size=3, hidden=6, steps=5, seed=seed, decoder=FreeDecoder)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(fits[0].latents[0], fits[1].latents[0])
    assert not np.array_equal(fits[0].latents[0], fits[2].latents[0])
    assert "decoder.v1" in fits[0].weights


def test_float32_stays_float32():
    inputs, graphs = cohort()
    fit = fit_gate([x.astype(np.float32) for x in inputs], graphs, latent_size=3, hidden=6, steps=2)
    assert {a.dtype for a in [*fit.weights.values(), *fit.latents]} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graphs": []}, "one graph a section and equal features in all, found 0 graphs"),
        ({"inputs": [np.ones((12, 8)), np.ones((15, 7))]}, r"shapes \[\(12, 8\), \(15, 7\)\]"),
        ({"latent_size": 0}, "found latent_size=0"),
        ({"lr": 0.0}, "lr > 0.*found Descent.*lr=0.0.*change the value"),
    ],
)
def test_wrong_input_is_named(change, message):
    inputs, graphs = cohort()
    with pytest.raises(ConfigError, match=message):
        fit_gate(**({"inputs": inputs, "graphs": graphs, "steps": 1} | change))
