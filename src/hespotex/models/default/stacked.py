"""Several image streams of equal sizes run side by side, every layer one batched product.

Networks of an ensemble are small: one after the other, most of the time goes to starting operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hespotex.models.default.image_stream import ImageStream
from hespotex.models.layers.adjacency import Adjacency


class StackedStreams(nn.Module):
    """M image streams with their weights stacked, M first: what `ImageStream` computes up to the genes.

    Args:
        streams: networks of equal sizes; their weights are copied.
    """

    def __init__(self, streams: Sequence[ImageStream]) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.sizes = streams[0].sizes
        names = [n for n, _ in streams[0].named_parameters() if not n.startswith("graph_branch.")]
        by_name = [dict(stream.named_parameters()) for stream in streams]
        self.weights = nn.ParameterDict(
            {
                _flat(name): nn.Parameter(torch.stack([p[name].detach() for p in by_name]))
                for name in names
            }
        )
        self.names = tuple(names)
        self.graph_branches = nn.ModuleList(
            stream.graph_branch for stream in streams if stream.graph_branch is not None
        )

    @property
    def read_out(self) -> tuple[Tensor, Tensor]:
        """Weight (M, G, L) and bias (M, G) of the read-out to genes."""
        return self.weights[_flat("genes.weight")], self.weights[_flat("genes.bias")]

    def forward(
        self, context: Tensor, graph: Adjacency, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode spots, other ones for each network.

        Args:
            context: (n, inputs x (1 + hops)).
            graph: neighbours among the n spots; graph layers see all of them.
            rows: (M, b) which spots.

        Returns:
            (M, b, latent size) that the genes are read out of, (M, b) depth, and (M, b, latent size) latent_hat.
        """
        if not self.graph_branches:
            latent, depth = self._encode(context[rows])
            return latent, depth, latent
        latent, depth = self._encode(context.expand(len(rows), *context.shape))
        decoded = torch.stack(
            [z + branch(z, graph) for z, branch in zip(latent, self.graph_branches, strict=True)]
        )
        member = torch.arange(len(rows), device=rows.device)[:, None]
        return decoded[member, rows], depth[member, rows], latent[member, rows]

    def write_back(self) -> None:
        """Copy the weights into the networks that the stack was made of."""
        with torch.no_grad():
            for number, stream in enumerate(self.streams):
                own = dict(stream.named_parameters())
                for name in self.names:
                    own[name].copy_(self.weights[_flat(name)][number])

    def _encode(self, context: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.dropout(context, self.sizes.input_dropout, self.training)
        hidden = F.gelu(self._linear("body.1", hidden))
        hidden = F.layer_norm(hidden, hidden.shape[-1:])
        scale, shift = (self.weights[_flat(f"body.3.{p}")][:, None] for p in ("weight", "bias"))
        hidden = F.dropout(hidden * scale + shift, self.sizes.hidden_dropout, self.training)
        latent, depth = (
            self._linear(f"{what}_head", hidden) + self._linear(f"{what}_skip", context)
            for what in ("latent", "depth")
        )
        return latent, depth[..., 0]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight = self.weights[_flat(f"{name}.weight")].transpose(1, 2)
        bias = _flat(f"{name}.bias")
        if bias not in self.weights:
            return torch.bmm(x, weight)
        return torch.baddbmm(self.weights[bias][:, None], x, weight)


def _flat(name: str) -> str:
    """A parameter's name without dots, which a dictionary of parameters does not take."""
    return name.replace(".", "_")
