"""Reading of a convolutional network by area: run over tiles of a slide, its maps averaged over small cells.

A patch is then an average of cells, whatever lattice asks for it: cost grows with tissue, not with spots. It needs a
network in which no layer looks at the whole image, and without borders of a patch it sees a little more than a patch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hespotex.encoders.base import CELL_PX, Tile

# Tiles of a network that is no chain of layers, and of one that is parted where a narrow halo ends to do (docs/design/area.md).
ONE: Final = (Tile(cells=32, halo=10),)
TWO: Final = (Tile(cells=16, halo=2), Tile(cells=48, halo=10))

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
# What a border may move of an early layer's map, in deviations of the map.
_SEEN = 1e-3
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


def chain_of(network: Any) -> list[nn.Module]:
    """The modules that make the last map one after another; empty where the network is no such chain (it is tried).

    Args:
        network: as timm builds it, with nothing for `not_by_area` to say.
    """
    modules: list[nn.Module] = []
    for name, child in network.named_children():
        if name not in _HEAD:
            modules += list(child.children()) if isinstance(child, nn.Sequential) else [child]
    picture = _noise(network, 4)
    with torch.inference_mode():
        try:
            found = nn.Sequential(*modules)(picture)
        except (RuntimeError, TypeError, ValueError):
            return []
        expected = network.forward_features(picture)
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
        return []
    return modules


def n_early(modules: list[nn.Module], halo: int) -> int:
    """How many of a chain's modules a narrow halo serves, and whose map still has 2 x 2 places in a cell; 0: none."""
    count, own = 0, 2 * halo
    picture = _noise(modules[0], own + 4 * halo)
    part = picture[..., halo * CELL_PX : -halo * CELL_PX, halo * CELL_PX : -halo * CELL_PX]
    with torch.inference_mode():
        for number, module in enumerate(modules, 1):
            picture, part = module(picture), module(part)
            if picture.ndim != 4 or picture.shape[-1] % (own + 4 * halo):
                break
            cell = picture.shape[-1] // (own + 4 * halo)
            if cell < 2:
                break
            whole = picture[
                ..., 2 * halo * cell : -2 * halo * cell, 2 * halo * cell : -2 * halo * cell
            ]
            moved = part[..., halo * cell : -halo * cell, halo * cell : -halo * cell] - whole
            if not moved.square().mean().sqrt() < _SEEN * whole.std():
                break
            count = number
    return count


def _noise(module: Any, n_cells: int) -> Tensor:
    device, side = next(module.parameters()).device, n_cells * CELL_PX
    noise = torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    return noise.to(device)


class Layer(NamedTuple):
    """A layer, or several, of a network that is read by area.

    Attributes:
        crop: cells on each side that are cut off behind it, since what lies beyond the tile is missed there.
        told: whether its moments are told.
        cuts: whether it cuts them off itself.
    """

    module: nn.Module
    crop: float = 0
    told: bool = True
    cuts: bool = False


class Moments(nn.Module):
    """Mean and mean square over each cell of the output of each stage: what `StageStatistics` is made of.

    Args:
        stem: what comes before the first layer.
        layers: may be none.
        halo: cells on each side that are thrown away, those that layers cut off included.
        unit: pixels of a cell in the input.
        keep: also give the last map, its places in a cell beside each other.

    Shapes:
        (b, C, H, W) -> (b, cells x cells x K): mean then mean square, stage by stage, then the map.
    """

    def __init__(
        self,
        stem: nn.Module,
        layers: Sequence[Layer],
        halo: float,
        *,
        unit: int = CELL_PX,
        keep: bool = False,
    ) -> None:
        super().__init__()
        self.stem, self.layers = stem, nn.ModuleList(layer.module for layer in layers)
        self.cuts = [layer[1:] for layer in layers]
        self.halo, self.unit, self.keep = halo, unit, keep

    def forward(self, images: Tensor) -> Tensor:
        """Moments of every stage, cell by cell."""
        rest: float = self.halo
        own = int(images.shape[-1]) // self.unit - 2 * self.halo
        maps: Tensor = self.stem(images)
        parts = []
        for layer, (crop, told, cuts) in zip(self.layers, self.cuts, strict=True):
            maps = layer(maps)
            cell = _places(maps, own + 2 * (rest - crop * cuts))
            maps, rest = _inner(maps, 0 if cuts else crop * cell), rest - crop
            if told:
                # A square in half precision would lose the variance.
                values = _inner(maps, rest * cell).float()
                parts += [F.avg_pool2d(values, cell), F.avg_pool2d(values.square(), cell)]
        if self.keep:
            cell = _places(maps, own + 2 * rest)
            parts.append(F.pixel_unshuffle(_inner(maps, rest * cell).float(), cell))
        return torch.cat(parts, dim=1).permute(0, 2, 3, 1).flatten(1)


class LastMap(nn.Module):
    """The last map of a convolutional network, averaged over each cell.

    Args:
        body: from the input to the map.
        halo: cells on each side that are thrown away.
        unit: pixels of a cell in the input.

    Shapes:
        (b, C, H, W) -> (b, cells x cells x channels).
    """

    def __init__(self, body: nn.Module, halo: float, *, unit: int = CELL_PX) -> None:
        super().__init__()
        self.body, self.halo, self.unit = body, halo, unit

    def forward(self, images: Tensor) -> Tensor:
        """The map, cell by cell."""
        n_cells, maps = images.shape[-1] // self.unit, self.body(images)
        cells = _inner(F.avg_pool2d(maps, maps.shape[-1] // n_cells), self.halo)
        return cells.permute(0, 2, 3, 1).flatten(1)


class Body(nn.Module):
    """A timm network without its head."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """The last map."""
        maps: Tensor = self.network.forward_features(images)
        return maps


def _places(maps: Tensor, n_cells: float) -> int:
    """Places of a map along a side of a cell."""
    return round(int(maps.shape[-1]) / n_cells)


def _inner(maps: Tensor, border: float) -> Tensor:
    """A map without a border of so many places."""
    cut = round(border)
    return maps[:, :, cut:-cut, cut:-cut] if cut else maps
