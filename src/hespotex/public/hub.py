"""The Hugging Face hub: its client asks and sends, files come by `download`, what goes wrong is one line.

The client keeps nothing of a file that broke; `download` goes on, and compares with the checksum that the hub states.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hespotex.encoders.hub import causes, is_offline
from hespotex.errors import HESpotExError, RunError
from hespotex.progress import Reporter
from hespotex.public.download import NETWORK, Remote, download, why_refused
from hespotex.storage.disk_errors import OF_DISKS, cause_of, disk_fields

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_LOGIN: Final = "`hf auth login`"
# Names, since the client changed its own client of HTTP before.
_NETWORK: Final = frozenset({"TransportError", "ConnectionError", "Timeout", "TimeoutException"})
_AT_ONCE: Final = 500  # paths in one question


@contextmanager
def at_the_hub(
    expected: str, kind: type[HESpotExError], *, page: str, remedy: str = ""
) -> Iterator[None]:
    """Ask or send inside; whatever goes wrong is one line.

    Args:
        expected: what was to be done.
        kind: of the error.
        page: where a gated repository's terms are accepted.
        remedy: where something is forbidden, or went wrong in another way.

    Raises:
        HESpotExError: of `kind`; RunError where the disk is to blame.
    """
    if is_offline():
        raise kind(expected=expected, found="HF_HUB_OFFLINE, which forbids it", remedy="unset it")
    log = logging.getLogger("huggingface_hub")
    before = log.level
    log.setLevel(logging.ERROR)  # it speaks of every try, and the last one is said here
    try:
        yield
    except HESpotExError:
        raise
    except Exception as error:
        raise _explained(error, expected, kind, page, remedy) from error
    finally:
        log.setLevel(before)


def _explained(
    error: Exception, expected: str, kind: type[HESpotExError], page: str, remedy: str
) -> HESpotExError:
    from huggingface_hub.errors import HfHubHTTPError

    every = causes(error)
    for one in every:  # a cause of an answer is how its client was told
        if isinstance(one, HfHubHTTPError):
            return _refused(one, expected, kind, page, remedy)
    disk = next((e for e in every if isinstance(e, OSError) and e.errno in OF_DISKS), None)
    if disk is not None:
        return RunError(expected=expected, **disk_fields(disk, writing=True))
    said = cause_of(every[-1])
    if any(_NETWORK & {cls.__name__ for cls in type(e).__mro__} for e in every):
        cause = f"the hub cannot be reached ({said})"
        return kind(expected=expected, cause=cause, remedy=NETWORK)
    return kind(expected=expected, cause=said, remedy=remedy)


def _refused(
    error: HfHubHTTPError, expected: str, kind: type[HESpotExError], page: str, remedy: str
) -> HESpotExError:
    """What an answer of the hub means."""
    from huggingface_hub.errors import (  # fmt: skip
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        cause, then = "it is gated", f"accept its terms on {page}, then {_LOGIN}"
    elif isinstance(error, RepositoryNotFoundError):
        cause, then = "no such repository, or a private one", f"check the name, or run {_LOGIN}"
    elif isinstance(error, RevisionNotFoundError):
        cause, then = "no such branch, tag or commit", "check what stands behind the @"
    else:
        status = error.response.status_code
        cause, then = why_refused(status)
        told = " ".join((error.server_message or "").split())[:200]
        cause = f"{cause}{told and f', {told}'} ({status})"
        if status in (401, 403):
            then = remedy or f"{_LOGIN} with a token that may do this"
    return kind(expected=expected, cause=cause, remedy=then)


def check_access(repository: str, kind: str) -> None:
    """Raise the client's own error where a repository is gated for this user; a mirror may not know the question.

    Args:
        kind: `model` or `dataset`.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        HfApi(endpoint=constants.ENDPOINT).auth_check(repository, repo_type=kind)
    except GatedRepoError:
        raise
    except HfHubHTTPError:  # the files themselves tell
        return


def paths_info(repository: str, files: Sequence[str], kind: str, commit: str) -> list[Any]:
    """What the hub states of files: path, size, checksum; some hundred in one question."""
    from huggingface_hub import HfApi, constants

    api, found = HfApi(endpoint=constants.ENDPOINT), []
    for at in range(0, len(files), _AT_ONCE):
        some = list(files[at : at + _AT_ONCE])
        found += api.get_paths_info(repository, some, repo_type=kind, revision=commit)
    return found


def hub_download(
    repository: str,
    infos: Iterable[Any],
    folder: Path,
    reporter: Reporter,
    *,
    kind: str,
    commit: str,
) -> list[Path]:
    """Fetch files of a repository that are not here yet, with the user's login.

    Args:
        infos: of the hub: `rfilename`, `size`, `blob_id` and `lfs`.
        kind: `model` or `dataset`.
        commit: of the files.

    Raises:
        DownloadError: as of `download`.
        RunError: as of `download`.
    """
    from huggingface_hub import constants, get_token, hf_hub_url

    remotes = [
        Remote(
            hf_hub_url(repository, info.rfilename, repo_type=kind, revision=commit, endpoint=constants.ENDPOINT),
            info.rfilename,
            size=info.size,
            checksum=stated_checksum(info),
        )
        for info in infos
    ]  # fmt: skip
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    login = {"Authorization": f"Bearer {token}"} if token else {}
    return download(remotes, folder, reporter, headers=login)


def stated_checksum(info: Any) -> str | None:
    """SHA-256 of a large file, else the hash that git gives a small one."""
    if info.lfs is not None:
        return f"sha256:{info.lfs.sha256}"
    return f"blob:{info.blob_id}" if info.blob_id else None
