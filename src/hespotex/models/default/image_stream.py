"""The image stream of the default profile: features of spots and their graph -> composition, depth.

    context   c = [x ; m(x) ; m(m(x)) ...], m the mean over neighbours
    latent    z = head(c) + S c, head = Linear -> GELU -> LayerNorm -> Linear, S linear, starting at 0
    decoder   y = z + project(LSTM over the graph layers' outputs), when there are graph layers
    genes     f = V y, V of shape (G, latent size): low rank, linear in G

Formulas and why the parts are as they are: docs/design/method.md, docs/design/model.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hespotex.models.layers.adjacency import Adjacency
from hespotex.models.layers.graph_decoder import (
    ChainedLayers,
    GraphBranch,
    GraphLayer,
    JumpingKnowledge,
    MeanMessage,
    ParallelLayers,
)


@dataclass(frozen=True)
class ImageStreamSizes:
    """Sizes of an image stream.

    Attributes:
        inputs: numbers a spot brings along.
        genes: size of the panel.
        latent_size: rank of the composition.
        hidden: width of the latent head.
        hops: how often the mean over neighbours is taken for the context; 0 is the spot alone.
        graph_layers: layers of the graph decoder; 0 leaves it out.
        chained: each graph layer reads the one before it, rather than the latent.
        input_dropout: on the context.
        hidden_dropout: on the hidden units, and on the graph branch's result.
    """

    inputs: int
    genes: int
    latent_size: int
    hidden: int
    hops: int
    graph_layers: int
    chained: bool
    input_dropout: float
    hidden_dropout: float


class Decoded(NamedTuple):
    """Output of the image stream for n spots.

    Attributes:
        log_ratio: (n, G) log of the gene's share over its baseline.
        depth: (n,) log of the total over the section's mean log total.
        latent: (n, latent_size) latent_hat, before the graph layers.
    """

    log_ratio: Tensor
    depth: Tensor
    latent: Tensor


class ImageStream(nn.Module):
    """Context of spots -> log ratios of genes and depth."""

    def __init__(self, sizes: ImageStreamSizes) -> None:
        super().__init__()
        self.sizes = sizes
        context = sizes.inputs * (1 + sizes.hops)
        self.body = nn.Sequential(
            nn.Dropout(sizes.input_dropout),
            nn.Linear(context, sizes.hidden),
            nn.GELU(),
            nn.LayerNorm(sizes.hidden),
            nn.Dropout(sizes.hidden_dropout),
        )
        self.latent_head = nn.Linear(sizes.hidden, sizes.latent_size)
        self.latent_skip = _zero_linear(context, sizes.latent_size)
        self.depth_head = nn.Linear(sizes.hidden, 1)
        self.depth_skip = _zero_linear(context, 1)
        self.graph_branch = _graph_branch(sizes) if sizes.graph_layers else None
        self.genes = nn.Linear(sizes.latent_size, sizes.genes)

    def forward(
        self, context: Tensor, graph: Adjacency | None = None, rows: Tensor | None = None
    ) -> Decoded:
        """Decode spots.

        Args:
            context: (n, inputs x (1 + hops)), see `spot_context`.
            graph: neighbours among these n spots; needed with graph layers.
            rows: decode only these of the n spots (the graph layers still see all).
        """
        if self.graph_branch is None and rows is not None:
            context, rows = context[rows], None
        hidden = self.body(context)
        latent = self.latent_head(hidden) + self.latent_skip(context)
        depth = (self.depth_head(hidden) + self.depth_skip(context))[:, 0]
        decoded = self._through_graph(latent, graph)
        if rows is not None:
            decoded, depth, latent = decoded[rows], depth[rows], latent[rows]
        return Decoded(self.genes(decoded), depth, latent)

    def encode(self, context: Tensor, graph: Adjacency | None = None) -> tuple[Tensor, Tensor]:
        """What `genes` reads, (n, latent_size), and depth (n,): all but the read-out to genes."""
        hidden = self.body(context)
        latent = self.latent_head(hidden) + self.latent_skip(context)
        depth = (self.depth_head(hidden) + self.depth_skip(context))[:, 0]
        return self._through_graph(latent, graph), depth

    def _through_graph(self, latent: Tensor, graph: Adjacency | None) -> Tensor:
        if self.graph_branch is None:
            return latent
        if graph is None:
            raise ValueError("an image stream with graph layers needs a graph, found None")
        decoded: Tensor = latent + self.graph_branch(latent, graph)
        return decoded


def spot_context(x: Tensor, graph: Adjacency, hops: int) -> Tensor:
    """[x ; m(x) ; m(m(x)) ...] with m the mean over neighbours, (n, C) -> (n, C x (1 + hops))."""
    message = MeanMessage()
    parts = [x]
    for _ in range(hops):
        parts.append(message(parts[-1], graph))
    return torch.cat(parts, dim=1)


def _graph_branch(sizes: ImageStreamSizes) -> nn.Module:
    wiring = ChainedLayers if sizes.chained else ParallelLayers
    layers = wiring(GraphLayer(sizes.latent_size, MeanMessage()) for _ in range(sizes.graph_layers))
    readout = JumpingKnowledge(
        sizes.latent_size,
        sizes.latent_size,
        nn.Sequential(
            nn.Dropout(sizes.hidden_dropout), nn.Linear(sizes.latent_size, sizes.latent_size)
        ),
        lstm_layers=1,
    )
    return GraphBranch(layers, readout)


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer
