"""Reading of a convolutional network at every stage: what each map holds on average, and how it varies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class StageStatistics(nn.Module):
    """Mean and standard deviation over positions of the output of each stage of a timm EfficientNet.

    Args:
        network: with `conv_stem`, `bn1`, `blocks`, as timm builds it; head and classifier are not run.

    Shapes:
        (b, 3, H, W) -> (b, 2 x channels of all stages): mean then deviation, stage by stage.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks = network.blocks

    def forward(self, images: Tensor) -> Tensor:
        """Statistics of every stage, (b, D)."""
        maps = self.stem(images)
        parts = []
        for stage in self.blocks:
            maps = stage(maps)
            flat = maps.flatten(2)
            mean = flat.mean(dim=2)
            centred = flat - mean.unsqueeze(2)
            variance = centred.square().sum(dim=2) / (flat.shape[2] - 1)
            parts += [mean, variance.sqrt()]
        return torch.cat(parts, dim=1)
