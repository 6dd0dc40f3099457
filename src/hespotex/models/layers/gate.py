"""GATE, the graph attention auto-encoder of the expression stream.

Formulas: docs/design/method.md, "GATE". A network is an encoder and a decoder; which decoder (free,
tied, or with weights that share the encoder's storage) is chosen when it is built.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hespotex.models.layers.adjacency import Adjacency


class EdgeAttention(nn.Module):
    """alpha_ji = softmax over j of sigmoid(<h_j, a_source> + <h_i, a_target>).

    Shapes: h (n, hidden) -> alpha (E,), in the edge order of the graph.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.a_source = nn.Parameter(torch.empty(hidden))
        self.a_target = nn.Parameter(torch.empty(hidden))

    def forward(self, h: Tensor, graph: Adjacency) -> Tensor:
        """Attention of each edge."""
        to, from_ = h @ self.a_target, h @ self.a_source
        return graph.softmax(torch.sigmoid(from_[graph.source] + to[graph.target]))


class Encoded(NamedTuple):
    """What the encoder makes: latent (n, latent_size) and the attention (E,) the decoder reuses."""

    latent: Tensor
    alpha: Tensor


class GateEncoder(nn.Module):
    """x -> latent: ELU(sum_j alpha (x W1)_j) W2.

    Shapes: x (n, in_features), w1 (in_features, hidden), w2 (hidden, latent_size).
    """

    def __init__(self, in_features: int, hidden: int, latent_size: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(in_features, hidden))
        self.attention = EdgeAttention(hidden)
        self.w2 = nn.Parameter(torch.empty(hidden, latent_size))

    def forward(self, x: Tensor, graph: Adjacency) -> Encoded:
        """Latent and attention."""
        h = x @ self.w1
        alpha = self.attention(h, graph)
        return Encoded(F.elu(graph.propagate(alpha, h)) @ self.w2, alpha)


class FreeDecoder(nn.Module):
    """latent -> y: ELU(sum_j alpha (z V2)_j) V1, with weights of its own.

    Shapes: v2 (latent_size, hidden), v1 (hidden, in_features).
    """

    def __init__(self, encoder: GateEncoder) -> None:
        super().__init__()
        self.v2 = nn.Parameter(torch.empty_like(encoder.w2.t()))
        self.v1 = nn.Parameter(torch.empty_like(encoder.w1.t()))

    def forward(self, encoded: Encoded, graph: Adjacency) -> Tensor:
        """Reconstruction (n, in_features)."""
        return F.elu(graph.propagate(encoded.alpha, encoded.latent @ self.v2)) @ self.v1


class SharedStorageDecoder(FreeDecoder):
    """Published decoder: V2 = W2^T and V1 = W1^T are parameters of their own in the SAME memory.

    An optimiser that gets both sets updates the memory twice a step, once from the encoder's and
    once from the decoder's gradient, each with its own moments (docs/design/method.md,
    "GATE"). Moving the module to another device or dtype breaks the sharing: move
    first, then call `share`.
    """

    def __init__(self, encoder: GateEncoder) -> None:
        super().__init__(encoder)
        self.share(encoder)

    def share(self, encoder: GateEncoder) -> None:
        """Point the decoder's weights at the encoder's memory, transposed."""
        self.v2 = nn.Parameter(encoder.w2.detach().t())
        self.v1 = nn.Parameter(encoder.w1.detach().t())


class TiedDecoder(nn.Module):
    """V2 = W2^T, V1 = W1^T as plain weight tying: one parameter, one gradient, one update."""

    def __init__(self, encoder: GateEncoder) -> None:
        super().__init__()
        self._encoder = (encoder,)  # a tuple, so that its parameters are not counted twice

    def forward(self, encoded: Encoded, graph: Adjacency) -> Tensor:
        """Reconstruction (n, in_features)."""
        (encoder,) = self._encoder
        return (
            F.elu(graph.propagate(encoded.alpha, encoded.latent @ encoder.w2.t())) @ encoder.w1.t()
        )


class Gate(nn.Module):
    """GATE: `forward` gives the latent and the reconstruction, `encode` the latent alone.

    Args:
        encoder: GateEncoder.
        decoder: one of the decoders above, built on that encoder.
    """

    def __init__(self, encoder: GateEncoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor, graph: Adjacency) -> tuple[Tensor, Tensor]:
        """x (n, in_features) -> latent (n, latent_size), reconstruction (n, in_features)."""
        encoded = self.encoder(x, graph)
        return encoded.latent, self.decoder(encoded, graph)

    def encode(self, x: Tensor, graph: Adjacency) -> Tensor:
        """x (n, in_features) -> latent (n, latent_size)."""
        latent: Tensor = self.encoder(x, graph).latent
        return latent


def reset_gate(gate: Gate, generator: torch.Generator) -> None:
    """Xavier-normal start of every weight, gain 1.414, drawn from `generator` alone.

    Shared and tied decoders have no memory of their own and follow the encoder.
    """
    encoder = gate.encoder
    own: list[Tensor] = [encoder.w1, encoder.w2]
    if isinstance(gate.decoder, FreeDecoder) and not isinstance(gate.decoder, SharedStorageDecoder):
        own += [gate.decoder.v2, gate.decoder.v1]
    with torch.no_grad():
        for weight in own:
            weight.normal_(0, 1.414 * math.sqrt(2 / sum(weight.shape)), generator=generator)
        for vector in (encoder.attention.a_source, encoder.attention.a_target):
            vector.normal_(0, 1.414 * math.sqrt(1 / len(vector)), generator=generator)
