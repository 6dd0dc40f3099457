"""The names of encoders, and how a name becomes one."""

from __future__ import annotations

import difflib
from typing import Final, get_args

from hespotex.encoders.base import Encoder, EncoderInfo, EncoderSource, Engine
from hespotex.errors import EncoderError
from hespotex.registry import Registry

ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)

# By what stands before the first colon of a name; their modules import no torch.
ENCODERS: Final = Registry(
    "encoder",
    EncoderSource,
    {
        "efficientnet-lite0": "hespotex.encoders.offline:ENCODER",
        "efficientnet-lite0-pooled": "hespotex.encoders.offline:ENCODER_POOLED",
        "features-file": "hespotex.encoders.given:ENCODER",
        "timm": "hespotex.encoders.timm_listing:ENCODERS",
        "lazyslide": "hespotex.encoders.lazyslide_listing:ENCODERS",
    },
    group="hespotex.encoders",
)


def get_encoder(
    name: str, *, device: str = "cpu", threads: int | None = None, engine: Engine = "auto"
) -> Encoder:
    """Load a frozen encoder.

    Args:
        name: `efficientnet-lite0`, `timm:<name>`, `lazyslide:<name>`, or one that another package adds.
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
        raise EncoderError(expected=f"one of the engines {', '.join(ENGINES)}", found=f"{engine!r}")
    source = ENCODERS.find(name.partition(":")[0])
    if source is None:
        raise EncoderError(
            expected=f"{_spellings()} as encoder",
            found=f"{name!r}",
            remedy=f"{_similar(name)}`hespotex encoders` lists them",
        )
    with ENCODERS.blaming(name.partition(":")[0], EncoderError):
        return source.build(name, device=device, threads=threads, engine=engine)


def _spellings() -> str:
    found = [n if s.spelling is None else s.spelling for n, s in ENCODERS.all().items()]
    *others, last = [text for text in found if text]
    return f"{', '.join(others)} or {last}"


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
    rows: list[EncoderInfo] = []
    for name, source in ENCODERS.all().items():
        with ENCODERS.leaving_out(name):
            rows += source.rows(lazyslide)
    return rows
