"""How a frozen network runs: OpenVINO on a CPU, torch everywhere else.

A network converted to OpenVINO is kept in the cache folder under a key of its weights.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hespotex.config.machine import usable_cores
from hespotex.encoders.base import Engine, FeatureRows, Tile
from hespotex.encoders.cache import cache_folder, check_cache
from hespotex.errors import EncoderError, RunError
from hespotex.storage.atomic import atomic_path
from hespotex.storage.content_keys import content_key

# From patches, or from maps.
Forward = Callable[[npt.NDArray[Any]], FeatureRows]
# A network, or what loads it: where a converted one is kept, it is never loaded.
Network = torch.nn.Module | Callable[[], torch.nn.Module]
# What float32 arithmetic in another order may change; more means that the conversion is wrong.
_TOLERANCE = 1e-4
# OpenVINO is fastest per patch on small batches: they stay in the cache of a core.
_OPENVINO_BATCH = 4
_TORCH_BATCH = 32
_LARGE_PX = 512
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Input:
    """A network's input: an image of uint8, or a map of float32 where mean and std are empty."""

    size_px: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def example(self, n: int) -> npt.NDArray[Any]:
        """(n, size, size, channels) random values."""
        rng, shape = np.random.default_rng(0), (n, self.size_px, self.size_px, self.channels)
        if self.mean:
            return rng.integers(0, 256, shape, dtype=np.uint8)
        return rng.normal(size=shape).astype(np.float32)


def weights_key(model: torch.nn.Module) -> str:
    """Key of every tensor of a network, by name."""
    tensors = model.state_dict()
    return content_key(
        *(part for name in sorted(tensors) for part in (name, _bytes_of(tensors[name])))
    )


def _bytes_of(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return np.asarray(flat.view(torch.uint8).numpy()) if flat.numel() else np.empty(0, np.uint8)


def build_forward(
    model: Network,
    *,
    key: str,
    size_px: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: str,
    threads: int | None,
    engine: Engine,
    batch: int = _OPENVINO_BATCH,
    channels: int = 3,
) -> tuple[Forward, str]:
    """Make the function that turns uint8 patches into features.

    Args:
        model: a network in eval mode, (b, 3, size, size) normalised float32 -> (b, dim), or what loads it.
        key: key of weights and preprocessing; names the converted network in the cache.
        mean, std: per channel, on a scale of 0 to 1; empty: the input is a float32 map, taken as it is.
        device: `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: cores to use; None: all that the process may use.
        engine: `auto` takes OpenVINO on a CPU where it is installed and agrees with torch.
        batch: inputs that a core of OpenVINO works on at once.
        channels: of the input.

    Returns:
        the function, and the name of the engine that runs it.

    Raises:
        EncoderError: OpenVINO was asked for and cannot run this network.
        RunError: the cache holds no converted network and cannot be written.
    """
    shape = _Input(size_px, channels, mean, std)
    if engine == "openvino" or (engine == "auto" and device == "cpu"):
        try:
            forward = _openvino_forward(model, key, shape, threads, batch)
            return forward, "openvino"
        except RunError:  # a cache that cannot be written says nothing of the encoder
            raise
        except Exception as error:
            if engine == "openvino":
                raise EncoderError(
                    expected="OpenVINO to run this encoder", cause=error, remedy="use engine torch"
                ) from error
            _log.warning("OpenVINO cannot run this encoder (%s): torch is used, slower", error)
    forward = torch_forward(_loaded(model), normalise(mean, std, device), device, threads)
    return forward, "torch" if not device.startswith("cuda") else "torch-autocast"


def cell_moments(
    build: Callable[..., tuple[Forward, str]],
    load: Network,
    key: str,
    tile: Tile,
    *,
    n_map: int | None = None,
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]:
    """A network's function from tiles to cells, see `Phase.cells`.

    Args:
        build: `build_forward` with everything but the network, its key, size and batch.
        load: the network, or what loads it: (b, channels, side, side) -> (b, cells x cells x K).
        key: of the encoder and of the part that is run; the converted network has one of its own.
        tile: what it is run over.
        n_map: numbers of a cell of the map that it is run over; None: it is run over pixels.
    """
    size = tile.side_px if n_map is None else tile.side
    of_map = {} if n_map is None else {"channels": n_map, "mean": (), "std": ()}
    key = content_key(key, "cells", tile.cells, tile.halo)
    forward, _ = build(load, key=key, size_px=size, batch=1, **of_map)

    def moments(tiles: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return forward(tiles).reshape(len(tiles), tile.cells, tile.cells, -1)

    return moments


def _loaded(model: Network) -> torch.nn.Module:
    return model if isinstance(model, torch.nn.Module) else model()


def normalise(
    mean: tuple[float, ...], std: tuple[float, ...], device: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Function from (b, size, size, 3) uint8 to normalised (b, 3, size, size) float32; without a mean it changes no value."""
    if not mean:
        return lambda maps: maps.permute(0, 3, 1, 2)
    scale = torch.tensor(std, device=device).view(1, 3, 1, 1) * 255
    shift = torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255

    def apply(patches: torch.Tensor) -> torch.Tensor:
        return (patches.permute(0, 3, 1, 2).float() - shift) / scale

    return apply


def torch_forward(
    model: Callable[[torch.Tensor], torch.Tensor],
    transform: Callable[[torch.Tensor], torch.Tensor],
    device: str,
    threads: int | None,
) -> Forward:
    """Run a network in torch: channels last, half precision by autocast on a CUDA device."""
    on_gpu = device.startswith("cuda")
    if isinstance(model, torch.nn.Module):
        model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(patches: npt.NDArray[Any]) -> FeatureRows:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        rows = []
        try:
            with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=on_gpu):
                step = _TORCH_BATCH if patches.shape[1] <= _LARGE_PX else 1
                for i in range(0, len(patches), step):
                    part = torch.from_numpy(np.ascontiguousarray(patches[i : i + step]))
                    values = transform(part.to(device, non_blocking=True))
                    values = values.contiguous(memory_format=torch.channels_last)
                    rows.append(model(values).float().cpu().numpy())
        finally:
            torch.set_num_threads(before)
        return np.concatenate(rows)

    return forward


def _openvino_forward(
    model: Network, key: str, given: _Input, threads: int | None, batch: int
) -> Forward:
    folder = cache_folder() / "engines"  # first: openvino cannot be loaded without a home either
    import openvino

    path = folder / f"openvino-{content_key(key, openvino.__version__)}.zip"
    core = openvino.Core()
    network = _read_converted(core, path)
    if network is None:
        check_cache(path.parent)
        loaded = _loaded(model)
        network = _convert(loaded, given)
        _check_against_torch(core, network, loaded, given)
        _write_converted(network, path)
        # Read back, it differs in the last bits: every process runs what is kept.
        network = _read_converted(core, path) or network
    n_streams = threads or usable_cores()
    compiled = _compile(core, network, n_streams)
    requests = openvino.AsyncInferQueue(compiled, n_streams)
    dim = compiled.outputs[0].get_partial_shape()[1]
    width = dim.get_length() if dim.is_static else _probe_width(compiled, given)

    def forward(patches: npt.NDArray[Any]) -> FeatureRows:
        rows = np.empty((len(patches), width), np.float32)
        patches = np.ascontiguousarray(patches)  # requests read it until they are done

        def keep(request: Any, first: int) -> None:
            values = request.get_output_tensor(0).data
            rows[first : first + len(values)] = values

        requests.set_callback(keep)
        for i in range(0, len(patches), batch):
            requests.start_async({0: patches[i : i + batch]}, i, share_inputs=True)
        requests.wait_all()
        return rows

    return forward


def _compile(core: Any, network: Any, n_streams: int) -> Any:
    """One core per stream: several small batches side by side lose less than one on many cores."""
    options = {
        "INFERENCE_NUM_THREADS": n_streams,
        "NUM_STREAMS": n_streams,
        "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 would be the default where a core has it
    }
    return core.compile_model(network, "CPU", options)


def _probe_width(compiled: Any, given: _Input) -> int:
    return int(compiled(given.example(1))[0].shape[1])


def _convert(model: torch.nn.Module, given: _Input) -> Any:
    """Network from (b, size, size, channels) to features.

    The PyTorch frontend is used as such: `openvino.convert_model` around it reports its use over
    the network.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.preprocess import PrePostProcessor

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every Python branch
        example = torch.zeros(2, given.channels, given.size_px, given.size_px)
        decoder = TorchScriptPythonDecoder(model, example_input=example)
        frontend = FrontEndManager().load_by_framework("pytorch")
        network = frontend.convert(frontend.load(decoder))
    network.reshape([-1, given.channels, given.size_px, given.size_px])
    steps = PrePostProcessor(network)
    kind = openvino.Type.u8 if given.mean else openvino.Type.f32
    steps.input().tensor().set_element_type(kind).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    if given.mean:
        chain = steps.input().preprocess().convert_element_type(openvino.Type.f32)
        chain.mean([255 * m for m in given.mean]).scale([255 * s for s in given.std])
    return steps.build()


def _check_against_torch(core: Any, network: Any, model: torch.nn.Module, given: _Input) -> None:
    # A tile is large enough by itself, and takes memory.
    example = given.example(3 if given.size_px <= _LARGE_PX else 1)
    found = _compile(core, network, 1)(example)[0]
    with torch.inference_mode():
        prepare = normalise(given.mean, given.std, "cpu")
        expected = model(prepare(torch.from_numpy(example))).numpy()
    if found.shape != expected.shape:
        raise EncoderError(expected=f"features of shape {expected.shape}", found=found.shape)
    difference = float(np.abs(found - expected).max())
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise EncoderError(f"the converted network differs from torch by {difference:.2g}")


def _write_converted(network: Any, path: Path) -> None:
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "network.xml"
        openvino.save_model(network, xml, compress_to_fp16=False)
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for part in (xml, xml.with_suffix(".bin")):
                archive.write(part, part.name)


def _read_converted(core: Any, path: Path) -> Any | None:
    """The converted network; None where there is none or it is damaged (zip keeps checksums)."""
    import openvino

    try:
        with zipfile.ZipFile(path) as archive:
            xml = archive.read("network.xml")
            weights = np.frombuffer(archive.read("network.bin"), np.uint8)
        return core.read_model(xml, openvino.Tensor(weights))
    except (OSError, zipfile.BadZipFile, KeyError, RuntimeError, EOFError):
        return None
