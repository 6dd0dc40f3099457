"""The names of encoders, and how a name becomes one."""

from __future__ import annotations

import difflib

from hespotex.encoders import lazyslide_listing, offline
from hespotex.encoders.base import Encoder, EncoderInfo
from hespotex.encoders.given import FEATURES_FILE, GivenFeatures
from hespotex.encoders.hub import cached_repositories
from hespotex.errors import EncoderError

ENGINES = ("auto", "openvino", "torch")


def get_encoder(
    name: str, *, device: str = "cpu", threads: int | None = None, engine: str = "auto"
) -> Encoder:
    """Load a frozen encoder.

    Args:
        name: `efficientnet-lite0`, `timm:<name>` or `lazyslide:<name>`.
        device: where torch runs: `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: cores to use; None: all that the process may use.
        engine: `auto` (OpenVINO on a CPU where it agrees with torch, else torch), `openvino`, `torch`.

    Raises:
        EncoderError: the name is unknown, or the weights are not here and cannot be had; the
            message has the true reason and the remedy.

    Example:
        >>> encoder = get_encoder("efficientnet-lite0", threads=1)  # doctest: +SKIP
        >>> encoder.encode(patches).shape  # doctest: +SKIP
        (32, 1568)
    """
    if engine not in ENGINES:
        raise EncoderError(f"expected one of the engines {', '.join(ENGINES)}, found {engine!r}")
    if name in offline.DIMS:
        from hespotex.encoders.offline_encoder import OfflineEncoder

        return OfflineEncoder(name, device=device, threads=threads, engine=engine)  # type: ignore[arg-type]
    if name == FEATURES_FILE:
        return GivenFeatures()
    if name.startswith("timm:"):
        from hespotex.encoders.timm_encoders import build_timm

        return build_timm(name, device=device, threads=threads, engine=engine)  # type: ignore[arg-type]
    if name.startswith("lazyslide:"):
        from hespotex.encoders.lazyslide_encoders import build_lazyslide

        return build_lazyslide(name, device=device, threads=threads)
    raise EncoderError(
        f"expected {offline.NAME}, timm:<name> or lazyslide:<name> as encoder, found {name!r}; "
        f"{_similar(name)}`hespotex encoders` lists them"
    )


def _similar(name: str) -> str:
    """The encoders that a name without its family may mean."""
    short = {info.name.rpartition(":")[2]: info.name for info in list_encoders()}
    near = difflib.get_close_matches(name.rpartition(":")[2], list(short), n=3)
    return f"similar: {', '.join(short[n] for n in near)}; " if near else ""


def list_encoders(*, lazyslide: bool = True) -> list[EncoderInfo]:
    """Every encoder that can be named, with whether its weights are on this machine.

    Nothing is downloaded. timm has more than a thousand networks: one line stands for all, and
    those in the local cache of the hub have a line of their own.

    Args:
        lazyslide: a line for every encoder of lazyslide-models, whose import takes seconds; else
            one line for all, read from files alone, without torch.
    """
    cached = cached_repositories()
    rows = [offline.info(name) for name in offline.DIMS]
    rows.append(
        EncoderInfo(
            "timm:<name>",
            None,
            None,
            None,
            "see its page",
            False,
            "Hugging Face hub, or local-dir:<folder>",
            "any network of timm.list_models(pretrained=True)",
        )
    )
    for repository in cached:
        owner, _, short = repository.partition("/")
        if owner == "timm":
            rows.append(
                EncoderInfo(
                    f"timm:{short}",
                    None,
                    None,
                    None,
                    "see its page",
                    True,
                    f"https://huggingface.co/{repository}",
                )
            )
    every = (
        lazyslide_listing.list_lazyslide(cached) if lazyslide else [lazyslide_listing.one_line()]
    )
    return rows + every
