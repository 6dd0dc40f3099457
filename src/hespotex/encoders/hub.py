"""Owns the truth about weights that come from a hub: are they here, and if not, why and what to do."""

from __future__ import annotations

import os
from pathlib import Path

from hespotex.errors import EncoderError

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".pt2", ".ckpt", ".h5")


def hub_cache() -> Path:
    """The folder in which Hugging Face keeps what was downloaded."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_repositories() -> tuple[str, ...]:
    """`owner/name` of every repository in the local cache that holds weights; no network."""
    found = []
    folder = hub_cache()
    for repository in sorted(folder.glob("models--*")) if folder.is_dir() else []:
        files = (f for f in repository.glob("snapshots/*/**/*") if f.suffix in _WEIGHT_SUFFIXES)
        if any(f.is_file() and f.stat().st_size > 0 for f in files):
            found.append(repository.name.removeprefix("models--").replace("--", "/", 1))
    return tuple(found)


def is_offline() -> bool:
    """The user forbade asking the hub."""
    on = {"1", "ON", "YES", "TRUE"}
    return any(
        os.environ.get(v, "").upper() in on for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def explain(name: str, error: BaseException) -> EncoderError:
    """The true reason why weights could not be had, and the remedy, in one line."""
    chain = _chain(error)
    kinds = {cls.__name__ for e in chain for cls in type(e).__mro__}
    last = str(chain[-1]).strip().splitlines()
    cause = last[0] if last else type(chain[-1]).__name__
    if "GatedRepoError" in kinds:
        reason = "its weights are gated: ask for access on its Hugging Face page, then run `hf auth login`"
    elif "RepositoryNotFoundError" in kinds:
        reason = (
            "its repository is not on the hub or is private: check the name, or run `hf auth login`"
        )
    elif "ImportError" in kinds:
        reason = f"a package is missing: {cause}"
    elif is_offline() or "OfflineModeIsEnabled" in kinds:
        reason = (
            "its weights are not on this machine and HF_HUB_OFFLINE forbids fetching them: unset it, or "
            f"copy the repository into {hub_cache()}"
        )
    elif kinds & {
        "LocalEntryNotFoundError",
        "ConnectionError",
        "ConnectError",
        "URLError",
        "TimeoutError",
    }:
        reason = (
            f"its weights are not on this machine and the hub cannot be reached ({cause}): connect once, "
            f"or copy the repository into {hub_cache()}"
        )
    else:
        reason = f"its weights cannot be loaded: {cause}"
    return EncoderError(f"encoder {name}: {reason}; `efficientnet-lite0` needs no download")


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain
