"""Encoders that are timm networks: any `timm:<name>`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hespotex.encoders.area import ONE, TWO, Body, LastMap, Moments, chain_of, n_early, not_by_area
from hespotex.encoders.base import (
    CELL_PX,
    CellReader,
    Engine,
    FeatureRows,
    Phase,
    RunEncoder,
    Tile,
)
from hespotex.encoders.engine import build_forward, cell_moments, weights_key
from hespotex.encoders.hub import asking_the_hub, require
from hespotex.errors import EncoderError
from hespotex.storage.content_keys import content_key


class TimmEncoder(RunEncoder):
    """A timm network without its classifier, prepared as its own configuration says.

    Patches come in the size of the network's input, so that neither resizing nor cropping is left
    to do; mean and std are those of the pretrained configuration.

    Args:
        model: the network in eval mode, with its configuration.
        device, threads, engine: see `get_encoder`.
    """

    def __init__(
        self, name: str, model: Any, *, device: str, threads: int | None, engine: Engine
    ) -> None:
        from timm.data import resolve_model_data_config

        config = resolve_model_data_config(model)
        height, width = config["input_size"][1:]
        if config["input_size"][0] != 3 or height != width:
            raise EncoderError(
                f"encoder {name}: expected a square RGB input, found {config['input_size']}",
                remedy="choose another encoder",
            )
        self.name = name
        self.size_px = int(height)
        self.mean = tuple(float(v) for v in config["mean"])
        self.std = tuple(float(v) for v in config["std"])
        self.dim = int(model.num_features)
        self.licence = str((model.pretrained_cfg or {}).get("license") or "not stated")
        self._key = content_key(weights_key(model), self.size_px, self.mean, self.std)
        self._model = model
        self._build = partial(
            build_forward,
            mean=self.mean,
            std=self.std,
            device=device,
            threads=threads,
            engine=engine,
        )
        self._forward, self.engine = self._build(self._model, key=self._key, size_px=self.size_px)

    def not_by_area(self) -> str:
        """Why the network reads patches alone; empty where its head does no more than average the last map."""
        if self.size_px % CELL_PX:
            return f"its input of {self.size_px} px is no whole number of cells of {CELL_PX} px"
        return self._why_not_by_area

    @cached_property
    def _why_not_by_area(self) -> str:
        return not_by_area(self._model)

    def area_tiles(self) -> tuple[Tile, ...]:
        """Two phases where it is a chain of layers of which some see little, else one."""
        if self.not_by_area():
            return super().area_tiles()
        return self._tiles

    @cached_property
    def _tiles(self) -> tuple[Tile, ...]:
        return TWO if self._parted(round(TWO[0].halo)) else ONE

    def by_area(self, tiles: Sequence[Tile] | None = None) -> CellReader:
        """The last map, cell by cell; the head is applied to its average. In two phases, or in one."""
        tiles = self.area_tiles() if tiles is None else tuple(tiles)
        if self.not_by_area():
            return super().by_area(tiles)
        if len(tiles) == 1:
            network = LastMap(Body(self._model), tiles[0].halo).eval()
            cells = cell_moments(self._build, network, self._key, tiles[0])
            return CellReader((Phase(tiles[0], cells),), self._head)
        modules, (first, then) = self._parted(round(tiles[0].halo)), tiles
        if not modules:
            raise ValueError(f"{self.name} is not parted")
        return CellReader(self._in_two(*modules, first, then), self._head)

    def _parted(self, halo: int) -> tuple[list[nn.Module], list[nn.Module]] | tuple[()]:
        """Early and late layers; empty where there is no place to part them."""
        modules = chain_of(self._model)
        n = n_early(modules, halo) if modules else 0
        return (modules[:n], modules[n:]) if n else ()

    def _in_two(
        self, early: list[nn.Module], late: list[nn.Module], first: Tile, then: Tile
    ) -> tuple[Phase, Phase]:
        """The map of the early layers; then the last map, cell by cell."""
        stem = nn.Sequential(*early)
        with torch.inference_mode():
            device = next(self._model.parameters()).device
            shape = stem(torch.zeros((1, 3, 4 * CELL_PX, 4 * CELL_PX), device=device)).shape
        cell = int(shape[2]) // 4
        n_map = int(shape[1]) * cell**2
        body = nn.Sequential(nn.PixelShuffle(cell), *late)
        keys = [content_key(self._key, name, len(early)) for name in ("early", "late")]
        before = Moments(stem, (), first.halo, keep=True).eval()
        after = LastMap(body, then.halo, unit=1).eval()
        return (
            Phase(first, cell_moments(self._build, before, keys[0], first), n_map),
            Phase(then, cell_moments(self._build, after, keys[1], then, n_map=n_map)),
        )

    def _head(self, pooled: npt.NDArray[np.float64]) -> FeatureRows:
        """What the network makes of its averaged last map."""
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            maps = torch.as_tensor(pooled, dtype=torch.float32, device=device)[:, :, None, None]
            found: FeatureRows = self._model.forward_head(maps).float().cpu().numpy()
        return found


def build_timm(name: str, *, device: str, threads: int | None, engine: Engine) -> TimmEncoder:
    """`timm:<name>`: a name of timm, `hf-hub:<owner>/<repository>` or `local-dir:<folder>`.

    Raises:
        EncoderError: timm does not know the name, or the weights are not here and cannot be had.
    """
    import timm

    short = name.removeprefix("timm:")
    if ":" not in short and not timm.is_model(short):
        near = ", ".join(f"timm:{n}" for n in _similar(short))
        raise EncoderError(
            f"encoder {name}: timm {timm.__version__} knows no model of that name"
            + (f"; similar: {near}" if near else "; timm.list_models() has them all")
        )
    if ":" not in short and not timm.models.is_model_pretrained(short):
        raise EncoderError(
            f"encoder {name}: timm has no trained weights for it",
            remedy="choose one of timm.list_models(pretrained=True)",
        )
    config = timm.get_pretrained_cfg(short) if ":" not in short else None
    if config is not None and config.hf_hub_id and not (config.file or config.state_dict):
        require(name, config.hf_hub_id)
    with asking_the_hub(name, needed=not short.startswith("local-dir:")):
        model = timm.create_model(short, pretrained=True, num_classes=0)
    return TimmEncoder(name, model.eval(), device=device, threads=threads, engine=engine)


def _similar(name: str) -> list[str]:
    import difflib

    import timm

    return difflib.get_close_matches(name, timm.list_models(), n=3)
