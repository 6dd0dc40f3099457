"""Reading of a convolutional network by area: run over tiles of a slide, its maps averaged over small cells.

A patch is then an average of cells, whatever lattice asks for it: cost grows with tissue, not with spots. It needs a
network in which no layer looks at the whole image, and without borders of a patch it sees a little more than a patch does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hespotex.encoders.base import CELL_PX

# Layers, of torch and of timm, whose output at a place depends on the input near it alone.
_LOCAL = frozenset(
    {"Conv2d", "Conv2dSame", "Linear", "BatchNorm2d", "BatchNormAct2d", "FrozenBatchNormAct2d", "LayerNorm",
     "LayerNorm2d", "MaxPool2d", "MaxPool2dSame", "AvgPool2d", "AvgPool2dSame", "BlurPool2d", "Identity", "Dropout",
     "DropPath", "ReLU", "ReLU6", "LeakyReLU", "SiLU", "Swish", "GELU", "GELUTanh", "Mish", "Hardswish", "HardSwish",
     "Hardtanh"}
)  # fmt: skip
# Parts of the names of layers that gather from the whole image.
_WHOLE = (
    "squeezeexcite", "semodule", "attention", "attn", "globalcontext", "globalresponse", "nonlocal",
    "ecamodule", "cbam", "gather", "adaptive", "selectkernel", "splitat", "groupnorm", "instancenorm",
)  # fmt: skip
_HEAD = (
    "head",
    "fc",
    "classifier",
    "global_pool",
    "head_drop",
    "norm_head",
    "last_linear",
    "pre_logits",
)


def not_by_area(network: Any) -> str:
    """Why a network cannot be read by area, as half a sentence; empty where it can.

    Args:
        network: as timm builds it; its head is not looked at.
    """
    if not hasattr(network, "forward_features"):
        return "it has no map of features"
    for name, module in network.named_modules():
        if name.split(".")[0] in _HEAD or module is network:
            continue
        kind = type(module).__name__
        if any(part in kind.lower() for part in _WHOLE):
            return f"its layer {name} ({kind}) looks at the whole image"
        if next(module.children(), None) is None and kind not in _LOCAL:
            return f"its layer {name} ({kind}) may look at the whole image"
    return _map_problem(network)


def _map_problem(network: Any) -> str:
    """Why the last map does not lie on cells, or is not just averaged by the head; empty where it does and is."""
    side, device = 4 * CELL_PX, next(network.parameters()).device
    with torch.inference_mode():
        try:
            found = network.forward_features(
                torch.linspace(-1, 1, 3 * side**2, device=device).view(1, 3, side, side)
            )
        except (RuntimeError, AssertionError, ValueError):
            return "it takes images of one size alone"
        if found.ndim != 4 or found.shape[2] != found.shape[3]:
            return "its features are not a map"
        if found.shape[2] == 0 or found.shape[2] % 4:
            return f"its map of {found.shape[2]} x {found.shape[2]} does not lie on cells of {CELL_PX} px"
        averaged = network.forward_head(found.mean(dim=(2, 3), keepdim=True))
        if not torch.allclose(averaged, network.forward_head(found), rtol=1e-3, atol=1e-4):
            return "its head does more than average the map"
    return ""


class StageMoments(nn.Module):
    """Mean and mean square over each cell of the output of each stage: what `StageStatistics` is made of.

    Args:
        network: with `conv_stem`, `bn1`, `blocks`, as timm builds an EfficientNet.
        halo: cells on each side that are thrown away.

    Shapes:
        (b, 3, H, W) -> (b, cells x cells x 2 x channels of all stages): mean then mean square, stage by stage.
    """

    def __init__(self, network: Any, halo: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks = network.blocks
        self.halo = halo

    def forward(self, images: Tensor) -> Tensor:
        """Moments of every stage, cell by cell."""
        side, maps, parts = images.shape[-1], self.stem(images), []
        for stage in self.blocks:
            maps = stage(maps)
            cell = CELL_PX * maps.shape[-1] // side
            values = maps.float()  # a square in half precision would lose the variance
            parts += [F.avg_pool2d(values, cell), F.avg_pool2d(values.square(), cell)]
        return _without_halo(torch.cat(parts, dim=1), self.halo)


class LastMap(nn.Module):
    """The last map of a convolutional network, averaged over each cell.

    Args:
        network: with `forward_features`, as timm builds it.
        halo: cells on each side that are thrown away.

    Shapes:
        (b, 3, H, W) -> (b, cells x cells x channels).
    """

    def __init__(self, network: Any, halo: int) -> None:
        super().__init__()
        self.network = network
        self.halo = halo

    def forward(self, images: Tensor) -> Tensor:
        """The map, cell by cell."""
        side, maps = images.shape[-1], self.network.forward_features(images)
        return _without_halo(F.avg_pool2d(maps, CELL_PX * maps.shape[-1] // side), self.halo)


def _without_halo(cells: Tensor, halo: int) -> Tensor:
    """(b, K, h, w) -> (b, (h - 2 halo) (w - 2 halo) K), the numbers of a cell beside each other."""
    if halo:
        cells = cells[:, :, halo:-halo, halo:-halo]
    return cells.permute(0, 2, 3, 1).flatten(1)
