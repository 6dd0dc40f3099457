"""Encoders that lazyslide-models registers, as `lazyslide:<name>`; run in torch."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np

from hespotex.encoders.base import RunEncoder
from hespotex.encoders.engine import torch_forward, weights_key
from hespotex.encoders.hub import asking_the_hub
from hespotex.encoders.lazyslide_listing import PREFIX, encodes_patches, registered_models, tasks_of
from hespotex.errors import EncoderError
from hespotex.storage.content_keys import content_key


class LazySlideEncoder(RunEncoder):
    """A model of lazyslide-models with the transform that it brings along.

    Patches come in the size that the transform resizes to, so that its resizing changes nothing;
    its cropping and normalisation are applied as they are.

    Args:
        model: an instance of a registered class.
        device, threads: see `get_encoder`.
    """

    def __init__(self, name: str, model: Any, *, device: str, threads: int | None) -> None:
        self.name = name
        self.licence = _text(getattr(model, "license", None))
        self._transform = model.get_transform()
        steps = list(getattr(self._transform, "transforms", []))
        self.size_px = _input_side(name, self._transform, steps)
        self.mean, self.std = _normalisation(steps)
        self._forward = torch_forward(model.to(device).encode_image, self._prepare, device, threads)
        self._key = content_key(weights_key(model.model), repr(self._transform), self.size_px)
        self.engine = "torch-autocast" if device.startswith("cuda") else "torch"
        example = np.zeros((1, self.size_px, self.size_px, 3), np.uint8)
        self.dim = int(self._forward(example).shape[1])

    def _prepare(self, patches: Any) -> Any:
        """(b, size, size, 3) uint8 -> the encoder's input, by its own transform."""
        return self._transform(patches.permute(0, 3, 1, 2))


def build_lazyslide(name: str, *, device: str, threads: int | None) -> LazySlideEncoder:
    """`lazyslide:<name>` by the registry of lazyslide-models.

    Raises:
        EncoderError: the extra is not installed, the name is unknown or no encoder of patches, or
            the weights are not here and cannot be had.
    """
    try:
        models = registered_models()
    except ImportError as error:
        raise EncoderError(
            f"encoder {name}: lazyslide-models is not installed",
            remedy="pip install 'hespotex[lazyslide]'",
        ) from error
    key = name.removeprefix(PREFIX)
    if key not in models:
        import difflib

        near = difflib.get_close_matches(key, list(models), n=3)
        hint = f"; similar: {', '.join(PREFIX + n for n in near)}" if near else ""
        raise EncoderError(
            f"encoder {name}: lazyslide-models registers no model of that name{hint}",
            remedy="`hespotex encoders --all` lists them",
        )
    kind = models[key]
    if not encodes_patches(kind):
        raise EncoderError(
            f"encoder {name}: a model for {', '.join(tasks_of(kind))}, not an encoder of patches",
            remedy="`hespotex encoders --all` lists those",
        )
    with asking_the_hub(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind()
    if not inspect.ismethod(getattr(model, "encode_image", None)):
        raise EncoderError(
            f"encoder {name}: it has no encode_image", remedy="choose another encoder"
        )
    return LazySlideEncoder(name, model, device=device, threads=threads)


def _input_side(name: str, transform: Any, steps: list[Any]) -> int:
    """The side that the transform resizes to; without a resize, what comes out of it."""
    import torch

    for step in steps:
        if type(step).__name__ == "Resize":
            size = step.size if isinstance(step.size, (list, tuple)) else [step.size]
            if len({int(s) for s in size}) == 1:
                return int(size[0])
    try:
        out = transform(torch.zeros(1, 3, 512, 512, dtype=torch.uint8))
    except Exception as error:
        raise EncoderError(f"encoder {name}: its transform refuses an image: {error}") from error
    if out.shape[-1] != out.shape[-2]:
        raise EncoderError(f"encoder {name}: expected a square input, found {tuple(out.shape)}")
    return int(out.shape[-1])


def _normalisation(steps: list[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for step in steps:
        if type(step).__name__ == "Normalize":
            return tuple(float(v) for v in step.mean), tuple(float(v) for v in step.std)
    return (), ()


def _text(licence: Any) -> str:
    if isinstance(licence, (list, tuple)):
        return ", ".join(map(str, licence))
    return str(licence or "not stated")
