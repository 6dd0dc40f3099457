"""Sizes of the image network from the configuration."""

from __future__ import annotations

from hespotex.config import ModelConfig
from hespotex.models.default.image_stream import ImageStreamSizes


def stream_sizes(config: ModelConfig, inputs: int, genes: int) -> ImageStreamSizes:
    """The network's sizes for so many inputs a spot and genes."""
    return ImageStreamSizes(
        inputs=inputs,
        genes=genes,
        latent_size=config.latent_size,
        hidden=config.hidden,
        hops=config.hops,
        graph_layers=config.graph_layers,
        chained=config.chained,
        input_dropout=config.input_dropout,
        hidden_dropout=config.hidden_dropout,
    )
