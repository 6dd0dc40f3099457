"""The networks of timm, as lines of a listing, without importing timm."""

from __future__ import annotations

from hespotex.encoders.base import Encoder, EncoderInfo, EncoderSource, Engine
from hespotex.encoders.hub import cached_repositories

PREFIX = "timm:"


def list_timm() -> list[EncoderInfo]:
    """One line for more than a thousand networks, and one for each in the local cache of the hub."""
    every = _row("<name>", "Hugging Face hub, or local-dir:<folder>",
                 note="any network of timm.list_models(pretrained=True)")  # fmt: skip
    owned = [name.partition("/") for name in cached_repositories()]
    here = [
        _row(short, f"https://huggingface.co/timm/{short}", weights_here=True)
        for owner, _, short in owned
        if owner == "timm"
    ]
    return [every, *here]


def _row(short: str, source: str, *, weights_here: bool = False, note: str = "") -> EncoderInfo:
    return EncoderInfo(f"{PREFIX}{short}", weights_here=weights_here, source=source, note=note)


def _build(name: str, *, device: str, threads: int | None, engine: Engine) -> Encoder:
    from hespotex.encoders.timm_encoders import build_timm

    return build_timm(name, device=device, threads=threads, engine=engine)


ENCODERS = EncoderSource(_build, lambda _: list_timm(), spelling=f"{PREFIX}<name>")
