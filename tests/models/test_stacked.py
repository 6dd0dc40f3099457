"""Networks run side by side say what each of them says alone."""

from __future__ import annotations

import pytest
import torch

from hespotex.models.default.image_stream import ImageStream, ImageStreamSizes
from hespotex.models.default.stacked import StackedStreams
from hespotex.models.layers.adjacency import Adjacency

RING = Adjacency.from_edges(torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]]), 5)


def _streams(graph_layers: int) -> list[ImageStream]:
    sizes = ImageStreamSizes(
        inputs=3, genes=6, latent_size=4, hidden=8, hops=1, graph_layers=graph_layers,
        chained=True, input_dropout=0.2, hidden_dropout=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    streams = [ImageStream(sizes).eval() for _ in range(3)]
    for stream in streams:
        for parameter in stream.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return streams


@pytest.mark.parametrize("graph_layers", [0, 2])
def test_every_network_of_a_stack_says_what_it_says_alone(graph_layers: int):
    streams, context = _streams(graph_layers), torch.randn(5, 6)
    stack = StackedStreams(streams).eval()
    rows = torch.tensor([[0, 3], [4, 1], [2, 2]])
    decoded, depth, latent = stack(context, RING, rows)
    weight, bias = stack.read_out
    for number, stream in enumerate(streams):
        alone = stream(context, RING)
        at = rows[number]
        log_ratio = decoded[number] @ weight[number].T + bias[number]
        torch.testing.assert_close(log_ratio, alone.log_ratio[at])
        torch.testing.assert_close(depth[number], alone.depth[at])
        torch.testing.assert_close(latent[number], alone.latent[at])


def test_weights_go_back_into_the_networks_that_they_came_from():
    streams = _streams(0)
    stack = StackedStreams(streams)
    before = [stream.genes.weight.clone() for stream in streams]
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(1)
    stack.write_back()
    for stream, old in zip(streams, before, strict=True):
        torch.testing.assert_close(stream.genes.weight, old + 1)
        assert stream.depth_skip.weight.mean() > 0.5
