"""The training of GATE: all sections together, or the published way one after the other.

Pure: arrays in, arrays out; the seed and the device are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hespotex.errors import ConfigError
from hespotex.models.layers.adjacency import Adjacency
from hespotex.models.layers.gate import (
    Gate,
    GateEncoder,
    SharedStorageDecoder,
    TiedDecoder,
    reset_gate,
)

FloatArray = npt.NDArray[np.floating[Any]]
Edges = npt.NDArray[np.int64]
Part = tuple[Tensor, Adjacency]


@dataclass(frozen=True)
class Descent:
    """How the weights go down: Adam with weight decay in the gradient, the gradient's norm clipped.

    Attributes:
        steps: number of steps, each over all spots.
        lr: learning rate.
        weight_decay: added to the gradient as weight_decay x weight.
        clip: largest norm of the gradient over all parameters.
    """

    steps: int = 500
    lr: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 5.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.lr <= 0 or self.weight_decay < 0 or self.clip <= 0:
            raise ConfigError(
                "GATE needs steps >= 0, lr > 0, weight_decay >= 0 and clip > 0, "
                f"found {self}: change the value in the configuration"
            )


@dataclass(frozen=True)
class GateFit:
    """A trained GATE.

    Attributes:
        weights: the network's arrays by name (encoder.w1, encoder.attention.a_source, ...).
        latents: (n_i, latent_size) of each section.
        losses: mean squared error before each step (published: section after section).
    """

    weights: dict[str, FloatArray]
    latents: list[FloatArray]
    losses: list[float]


def fit_gate(
    inputs: Sequence[FloatArray],
    graphs: Sequence[Edges],
    *,
    latent_size: int = 64,
    hidden: int = 512,
    steps: int = 500,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    clip: float = 5.0,
    seed: int = 0,
    device: str = "cpu",
    decoder: Callable[[GateEncoder], nn.Module] = TiedDecoder,
) -> GateFit:
    """Train one network on all sections together; every latent comes from the final weights.

    A step passes over every section and minimises the mean squared error over all their spots, as
    if they were one graph without edges between sections; memory is that of the largest section.

    Args:
        inputs: (n_i, F) of each section, one dtype (float32, or float64 to train in float64).
        graphs: edge_index (2, E_i) of each section, with self-loops.
        latent_size, hidden: sizes of the network.
        steps, lr, weight_decay, clip: see `Descent`.
        seed: of the starting weights, the only chance involved.
        decoder: builds the decoder on the encoder: tied weights, or `FreeDecoder`.

    Raises:
        ConfigError: inputs and graphs do not fit each other, or a size is not positive.
    """
    descent = Descent(steps, lr, weight_decay, clip)
    gate, parts = _prepare(inputs, graphs, latent_size, hidden, decoder, seed, device)
    losses = descend(gate, parts, descent)
    return GateFit(_weights(gate), [_latent(gate, part) for part in parts], losses)


def fit_gate_in_turn(
    inputs: Sequence[FloatArray],
    graphs: Sequence[Edges],
    *,
    latent_size: int = 64,
    hidden: int = 512,
    descent: Descent | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> GateFit:
    """Published training: one network on section 1, then further on section 2, and so on.

    The latent of a section is taken right after its own steps, so latents of different sections
    come from different weights. The decoder shares the encoder's storage and every step updates it
    twice (docs/design/method.md, "GATE"). Adam starts anew for each section.

    Args and errors: as `fit_gate`; `descent` counts the steps of each section.
    """
    descent = descent or Descent()
    gate, parts = _prepare(inputs, graphs, latent_size, hidden, SharedStorageDecoder, seed, device)
    latents, losses = [], []
    for part in parts:
        losses += descend(gate, [part], descent)
        latents.append(_latent(gate, part))
    return GateFit(_weights(gate), latents, losses)


def descend(gate: Gate, parts: Sequence[Part], descent: Descent) -> list[float]:
    """Train `gate` in place on sections (x (n_i, F), graph); the loss before each step.

    Parameters that share storage are updated one after the other, encoder first: the order and the
    arithmetic of the published training.
    """
    optimiser = torch.optim.Adam(
        gate.parameters(), lr=descent.lr, weight_decay=descent.weight_decay, fused=True
    )
    entries = sum(x.numel() for x, _ in parts)
    losses: list[float] = []
    for _ in range(descent.steps):
        optimiser.zero_grad()
        total = 0.0
        for x, graph in parts:
            loss = (gate(x, graph)[1] - x).square().sum() / entries
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(gate.parameters(), descent.clip)
        optimiser.step()
        losses.append(total)
    return losses


def _prepare(
    inputs: Sequence[FloatArray],
    graphs: Sequence[Edges],
    latent_size: int,
    hidden: int,
    decoder: Callable[[GateEncoder], nn.Module],
    seed: int,
    device: str,
) -> tuple[Gate, list[Part]]:
    """The network at its start, and the sections as tensors."""
    widths = {x.shape[1:] for x in inputs}
    if not inputs or len(inputs) != len(graphs) or len(widths) != 1:
        raise ConfigError(
            "GATE needs one graph a section and equal features in all, found "
            f"{len(graphs)} graphs for inputs of shapes {[x.shape for x in inputs]}: pass both lists"
        )
    if latent_size < 1 or hidden < 1:
        raise ConfigError(f"GATE sizes must be 1 or more, found {latent_size=}, {hidden=}")
    dtype = torch.float64 if inputs[0].dtype == np.float64 else torch.float32
    parts = [
        (
            torch.as_tensor(np.ascontiguousarray(x), dtype=dtype, device=device),
            Adjacency.from_edges(torch.as_tensor(graph), len(x)).to(device),
        )
        for x, graph in zip(inputs, graphs, strict=True)
    ]
    encoder = GateEncoder(inputs[0].shape[1], hidden, latent_size).to(dtype)
    start = Gate(encoder, decoder(encoder))
    reset_gate(start, torch.Generator().manual_seed(seed))
    encoder.to(device)  # weights are drawn on the CPU, so that every device starts alike
    return _place(start, device), parts


def _place(gate: Gate, device: str) -> Gate:
    """Move to the device, keeping what shares storage together."""
    if isinstance(gate.decoder, SharedStorageDecoder):
        gate.decoder.share(gate.encoder)
        return gate
    return gate.to(device)


def _latent(gate: Gate, part: Part) -> FloatArray:
    with torch.no_grad():
        latent: FloatArray = gate.encode(*part).cpu().numpy()
    return latent


def _weights(gate: Gate) -> dict[str, FloatArray]:
    """Copies, by name; a decoder that shares storage is left out, as it repeats the encoder."""
    shared = isinstance(gate.decoder, SharedStorageDecoder)
    return {
        name: value.detach().cpu().numpy().copy()
        for name, value in gate.state_dict().items()
        if not (shared and name.startswith("decoder."))
    }
