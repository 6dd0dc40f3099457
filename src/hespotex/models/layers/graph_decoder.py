"""The graph decoder of the image stream, latent -> expression.

Formulas: docs/design/method.md, "Graph decoder". The published decoder and the default one are
compositions of the same parts: a message, graph layers in a wiring, a read-out over the layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hespotex.models.layers.adjacency import Adjacency


class MeanMessage(nn.Module):
    """m_i = mean of x over the neighbours of i; zeros for a spot without neighbours."""

    def forward(self, x: Tensor, graph: Adjacency) -> Tensor:
        """x (n, C) -> m (n, C)."""
        weight = 1 / graph.degree.clamp(min=1).to(x.dtype)
        return graph.propagate(weight[graph.target], x)


class PublishedMessage(nn.Module):
    """m_i = (sum of x over the neighbours of i - x_i) / (number of neighbours - 1).

    The published operator: adjacency of the 4 nearest without self, minus the identity, over its
    row sum 3, as a sparse sum. A spot with a single neighbour would divide by zero; there, and
    without neighbours, the divisor is 1.
    """

    def forward(self, x: Tensor, graph: Adjacency) -> Tensor:
        """x (n, C) -> m (n, C)."""
        divisor = (graph.degree - 1).clamp(min=1).to(x.dtype)
        return (graph.sum(x) - x) / divisor[:, None]


class GraphLayer(nn.Module):
    """out = rows of ReLU(W [x ; m]) scaled to L2 norm 1, m the message; W (size, 2 size), no bias.

    Args:
        size: channels in and out.
        message: MeanMessage, PublishedMessage or any module (x, graph) -> m of x's shape.
    """

    def __init__(self, size: int, message: nn.Module) -> None:
        super().__init__()
        self.message = message
        self.weight = nn.Parameter(torch.empty(size, 2 * size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, graph: Adjacency) -> Tensor:
        """x (n, size) -> (n, size)."""
        joined = torch.cat([x, self.message(x, graph)], dim=1)
        return F.normalize(F.relu(joined @ self.weight.t()), dim=1)


class ParallelLayers(nn.ModuleList):
    """Published wiring: every layer reads the input itself."""

    def forward(self, x: Tensor, graph: Adjacency) -> Tensor:
        """x (n, size) -> (layers, n, size)."""
        return torch.stack([layer(x, graph) for layer in self])


class ChainedLayers(nn.ModuleList):
    """The wiring of the paper's figure: each layer reads the one before it."""

    def forward(self, x: Tensor, graph: Adjacency) -> Tensor:
        """x (n, size) -> (layers, n, size)."""
        outputs = []
        for layer in self:
            x = layer(x, graph)
            outputs.append(x)
        return torch.stack(outputs)


class JumpingKnowledge(nn.Module):
    """Layers' outputs as time steps of an LSTM; the mean of its outputs, through `project`.

    Args:
        size: channels of a layer.
        hidden: size of the LSTM's state. Published: the number of genes, with `project` the
            identity (about 12 hidden^2 weights). Default: fixed, with `project` a Linear to genes.
        project: (n, hidden) -> (n, out).
        lstm_layers: depth of the LSTM.
    """

    def __init__(self, size: int, hidden: int, project: nn.Module, lstm_layers: int = 2) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, hidden, num_layers=lstm_layers)
        self.project = project

    def forward(self, layers: Tensor) -> Tensor:
        """layers (steps, n, size) -> (n, out)."""
        out, _ = self.lstm(layers)
        projected: Tensor = self.project(out.mean(dim=0))
        return projected


class GraphBranch(nn.Module):
    """Graph layers in a wiring, then the read-out over them."""

    def __init__(self, layers: nn.Module, readout: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.readout = readout

    def forward(self, latent: Tensor, graph: Adjacency) -> Tensor:
        """latent (n, size) -> (n, out)."""
        out: Tensor = self.readout(self.layers(latent, graph))
        return out


class GraphDecoder(nn.Module):
    """expression = gene_head(latent) + graph_branch(latent, graph), (n, L) -> (n, G)."""

    def __init__(self, gene_head: nn.Module, graph_branch: GraphBranch) -> None:
        super().__init__()
        self.gene_head = gene_head
        self.graph_branch: GraphBranch = graph_branch

    def forward(self, latent: Tensor, graph: Adjacency) -> Tensor:
        """Expression before the nuclei factor."""
        out: Tensor = self.gene_head(latent) + self.graph_branch(latent, graph)
        return out


class PublishedNet(nn.Module):
    """Published image stream: features -> latent_hat and expression / nuclei factor."""

    def __init__(self, latent_head: nn.Module, decoder: GraphDecoder) -> None:
        super().__init__()
        self.latent_head = latent_head
        self.decoder: GraphDecoder = decoder

    def forward(self, features: Tensor, graph: Adjacency) -> tuple[Tensor, Tensor]:
        """features (n, D) -> latent_hat (n, L), expression (n, G) before the nuclei factor."""
        latent = self.latent_head(features)
        return latent, self.decoder(latent, graph)


def two_layer_head(inputs: int, outputs: int, hidden: int = 1024) -> nn.Sequential:
    """Linear -> ReLU -> LayerNorm -> Linear: the latent head and the gene head."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Linear(hidden, outputs)
    )


def build_published_net(
    features: int, genes: int, latent_size: int = 64, layers: int = 4
) -> PublishedNet:
    """The published network for D features and G genes.

    Weights start as torch's layers do (Linear, LSTM) and Xavier-uniform (graph layers).
    """
    latent_head = two_layer_head(features, latent_size)
    stack = ParallelLayers(GraphLayer(latent_size, PublishedMessage()) for _ in range(layers))
    readout = JumpingKnowledge(latent_size, genes, nn.Identity())
    decoder = GraphDecoder(two_layer_head(latent_size, genes), GraphBranch(stack, readout))
    return PublishedNet(latent_head, decoder)
