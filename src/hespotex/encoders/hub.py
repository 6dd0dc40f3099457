"""Weights from a hub: whether they are here, and if not, why and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hespotex.errors import EncoderError, HESpotExError

_HUB_ERRORS = {
    "OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectionError", "ConnectError", "TimeoutError",
    "ConnectTimeout", "ReadTimeout", "URLError",
}  # fmt: skip
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
    """The user forbade asking the hub (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def require(name: str, repository: str) -> None:
    """Find out whether a repository's weights can be had, before a network is built for them.

    Raises:
        EncoderError: they are not here, and the hub is out of reach, gated or does not know them.
    """
    if repository.lower() in {r.lower() for r in cached_repositories()}:
        return
    if is_offline():
        raise _refuse(name, _forbidden())
    from huggingface_hub import HfApi

    try:
        HfApi().auth_check(repository)
    except Exception as error:
        raise explain(name, error) from error


Refuse = Callable[[str, str], HESpotExError]


def _refuse(name: str, reason: str) -> HESpotExError:
    return EncoderError(
        f"encoder {name}: {reason}", remedy="`efficientnet-lite0` needs no download"
    )


@contextmanager
def asking_the_hub(name: str, *, needed: bool = True, refuse: Refuse = _refuse) -> Iterator[None]:
    """Load weights inside; whatever goes wrong is explained in one line.

    A hub that is out of reach is asked once, not again and again for half a minute: what is in the
    local cache is then loaded without it.

    Args:
        needed: False where the weights are a local file.
        refuse: makes the error of a name and a reason; an EncoderError if nothing else is given.

    Raises:
        EncoderError: the weights cannot be had or cannot be loaded.
    """
    from huggingface_hub import constants

    unreachable = _why_unreachable() if needed and not is_offline() else None
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or unreachable is not None
    try:
        yield
    except HESpotExError:
        raise
    except Exception as error:
        if unreachable is not None and _is_about_the_hub(_kinds(error)):
            raise refuse(name, _out_of_reach(unreachable)) from error
        raise explain(name, error, refuse) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _why_unreachable() -> str | None:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception as error:  # noqa: BLE001 - any failure means that the hub did not answer
        return str(first_cause(error))
    return None


def explain(name: str, error: BaseException, refuse: Refuse = _refuse) -> HESpotExError:
    """The true reason why weights could not be had, and the remedy, in one line."""
    kinds = _kinds(error)
    last = first_cause(error)
    cause = next(iter(str(last).strip().splitlines()), type(last).__name__).rstrip(".")
    if "GatedRepoError" in kinds:
        reason = "its weights are gated: ask for access on its Hugging Face page, then run `hf auth login`"
    elif "RepositoryNotFoundError" in kinds:
        reason = (
            "its repository is not on the hub or is private: check the name, or run `hf auth login`"
        )
    elif "ImportError" in kinds:
        reason = f"a package is missing: {cause}"
    elif _is_about_the_hub(kinds):
        reason = _forbidden() if is_offline() else _out_of_reach(cause)
    else:
        reason = f"its weights cannot be loaded: {cause}"
    return refuse(name, reason)


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first, below whatever was raised of it."""
    return causes(error)[-1]


def _forbidden() -> str:
    return (
        "its weights are not on this machine and HF_HUB_OFFLINE forbids fetching them: unset it, or "
        f"copy the repository into {hub_cache()}"
    )


def _out_of_reach(cause: str) -> str:
    return (
        f"its weights are not on this machine and the hub cannot be reached ({cause}): connect once, "
        f"or copy the repository into {hub_cache()}"
    )


def _is_about_the_hub(kinds: set[str]) -> bool:
    return bool(kinds & _HUB_ERRORS)


def _kinds(error: BaseException) -> set[str]:
    return {cls.__name__ for e in causes(error) for cls in type(e).__mro__}


def causes(error: BaseException) -> list[BaseException]:
    """An error and what it was raised of, in turn."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        hidden = following.__suppress_context__
        following = following.__cause__ or (None if hidden else following.__context__)
    return chain
