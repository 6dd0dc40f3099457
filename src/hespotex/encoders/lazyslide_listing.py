"""The vision encoders that lazyslide-models registers, as lines of a listing.

Importing lazyslide-models loads torch and timm, which takes seconds: `one_line` stands for all its
encoders where a listing has to be quick.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import util
from typing import Any

from hespotex.encoders.base import Encoder, EncoderInfo, EncoderSource, Engine
from hespotex.encoders.hub import cached_repositories

PREFIX = "lazyslide:"
_PACKAGE = "lazyslide_models"
_TASKS = {"vision", "multimodal"}


def registered_models() -> Mapping[str, Any]:
    """Every model of lazyslide-models by its name, whatever it is for; imports the package.

    Raises:
        ImportError: the package is not installed, or its import fails.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lazyslide_models import MODEL_REGISTRY
    models: Mapping[str, Any] = MODEL_REGISTRY
    return models


def tasks_of(model: Any) -> list[str]:
    """What a registered model is for, in words of lazyslide-models."""
    tasks = model.task if isinstance(model.task, list) else [model.task]
    return [task.value for task in tasks]


def encodes_patches(model: Any) -> bool:
    """Whether a registered model is an encoder of single patches."""
    return bool(_TASKS & set(tasks_of(model))) and hasattr(model, "encode_image")


def list_lazyslide(cached: Sequence[str]) -> list[EncoderInfo]:
    """One line for every encoder of single patches, in the order of the names.

    Args:
        cached: `owner/name` of the repositories in the local cache of the hub.
    """
    if not _installed():
        return [one_line()]
    here = {repository.lower() for repository in cached}
    try:
        models = registered_models()
    except ImportError as error:  # a broken installation is no reason to hide the other encoders
        return [replace(one_line(), note=f"lazyslide-models cannot be loaded: {error}")]
    return [
        _row(name, models[name], here) for name in sorted(models) if encodes_patches(models[name])
    ]


def one_line() -> EncoderInfo:
    """One line for all of them, or how to get them; imports nothing."""
    return EncoderInfo(
        name=f"{PREFIX}<name>",
        source="PyPI lazyslide-models",
        note=(
            "UNI, CONCH, Virchow and more: `hespotex encoders --all` lists them"
            if _installed()
            else "pip install 'hespotex[lazyslide]' first"
        ),
    )


def _installed() -> bool:
    return util.find_spec(_PACKAGE) is not None


def _row(name: str, model: Any, here: set[str]) -> EncoderInfo:
    source = model.hf_url or model.github_url or ""
    licence = model.license or "see its page"
    notes = ["gated: needs a login"] if model.is_gated else []
    if model.commercial is False:
        notes.append("no commercial use")
    return EncoderInfo(
        name=PREFIX + name,
        dim=model.encode_dim,
        licence=licence if isinstance(licence, str) else ", ".join(licence),
        weights_here=source.removeprefix("https://huggingface.co/").strip("/").lower() in here,
        source=source,
        note="; ".join(notes),
    )


def _build(name: str, *, device: str, threads: int | None, engine: Engine) -> Encoder:
    from hespotex.encoders.lazyslide_encoders import build_lazyslide

    del engine  # torch alone
    return build_lazyslide(name, device=device, threads=threads)


ENCODERS = EncoderSource(
    _build,
    lambda every: list_lazyslide(cached_repositories()) if every else [one_line()],
    spelling=f"{PREFIX}<name>",
)
