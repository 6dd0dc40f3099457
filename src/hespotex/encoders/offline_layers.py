"""EfficientNet-Lite0 by area: which of its layers make a phase, and what each of them cuts off.

A layer looks so far beyond a place, and that much of the tile is cut off behind it: what is left is what a tile without
borders would say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hespotex.encoders import offline
from hespotex.encoders.area import Body, LastMap, Layer, Moments
from hespotex.encoders.base import CELL_PX, Tile

_Rows = list[tuple[Any, float, bool]]


def whole(tile: Tile, *, stages: bool) -> nn.Module:
    """The network in one phase.

    Args:
        stages: tell the moments of all stages; else the last map.
    """
    network = offline.build_model()
    if not stages:
        return LastMap(Body(network), tile.halo).eval()
    layers = [Layer(stage) for stage in network.blocks]
    return Moments(_stem(network), layers, tile.halo).eval()


def phase(number: int, tile: Tile, *, stages: bool) -> nn.Module:
    """One of the six phases: each goes on where the one before ends.

    Args:
        stages: tell the moments of all stages; else the last map alone.
    """
    network = offline.build_model()
    before, rows = _PHASES[number](network)
    layers = [_layer(module, crop, told and stages) for module, crop, told in rows]
    last = number == len(_PHASES) - 1
    if last and not stages:
        layers.append(Layer(nn.Sequential(network.conv_head, network.bn2), told=False))
    keep, unit = not (last and stages), CELL_PX if number == 0 else 1
    return Moments(before, layers, tile.halo, unit=unit, keep=keep).eval()


class Inner(nn.Module):
    """A block of a stride of one that computes only places whose surroundings lie in the tile: nothing is padded.

    Args:
        block: `timm.models._efficientnet_blocks.InvertedResidual`.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block, self.cut = block, block.conv_dw.padding[0]
        block.conv_dw.padding = (0, 0)

    def forward(self, maps: Tensor) -> Tensor:
        """The inner part of the block's map."""
        block, cut = self.block, self.cut
        inner: Tensor = block.bn2(block.conv_dw(block.bn1(block.conv_pw(maps))))
        inner = block.bn3(block.conv_pwl(inner))
        return inner + maps[:, :, cut:-cut, cut:-cut] if block.has_skip else inner


def _layer(module: Any, crop: float, told: bool) -> Layer:
    block = module[0] if isinstance(module, nn.Sequential) and len(module) == 1 else module
    depthwise = getattr(block, "conv_dw", None)
    if crop and depthwise is not None and depthwise.stride == (1, 1):
        return Layer(Inner(block), crop, told, cuts=True)
    return Layer(module, crop, told)


def _stem(network: Any) -> nn.Module:
    return nn.Sequential(network.conv_stem, network.bn1)


def _first(network: Any) -> tuple[nn.Module, _Rows]:
    one, two, three = network.blocks[:3]
    # One pixel more is seen to the right and below than the tile holds: the last one stands for it, not 0.
    conv = nn.Conv2d(3, network.conv_stem.out_channels, 3, stride=2, bias=False)
    conv.weight = network.conv_stem.weight
    stem = nn.Sequential(nn.ReplicationPad2d((0, 1, 0, 1)), conv, network.bn1)
    return stem, [(one, 0, True), (two, 1 / 4, True), (three[0], 1 / 4, False)]


def _second(network: Any) -> tuple[nn.Module, _Rows]:
    rows = [(network.blocks[2][1], 1 / 2, True)]
    rows += [(block, 1 / 2, last) for block, last in _told_last(network.blocks[3])]
    return nn.PixelShuffle(4), rows


def _third(network: Any) -> tuple[nn.Module, _Rows]:
    rows: _Rows = [(block, 1, False) for block in network.blocks[4][:2]]
    return nn.PixelShuffle(2), rows


def _fourth(network: Any) -> tuple[nn.Module, _Rows]:
    rows: _Rows = [(network.blocks[4][2], 1, True), (network.blocks[5][0], 1, False)]
    return nn.PixelShuffle(2), rows


def _fifth(network: Any) -> tuple[nn.Module, _Rows]:
    rows: _Rows = [(block, 2, False) for block in network.blocks[5][1:3]]
    return nn.Identity(), rows


def _sixth(network: Any) -> tuple[nn.Module, _Rows]:
    return nn.Identity(), [(network.blocks[5][3], 2, True), (network.blocks[6], 1, True)]


_PHASES: tuple[Callable[[Any], tuple[nn.Module, _Rows]], ...] = (
    _first,
    _second,
    _third,
    _fourth,
    _fifth,
    _sixth,
)


def _told_last(blocks: Any) -> list[tuple[Any, bool]]:
    return [(block, number == len(blocks)) for number, block in enumerate(blocks, 1)]
