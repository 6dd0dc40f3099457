"""Files from the web: resumed after a break, checked against their publisher's checksum, whole or not there.

A file grows as `.NAME.part` beside its final name and gets that name when its checksum agrees. Proxies are those of
the environment (HTTPS_PROXY, NO_PROXY), as `requests` reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hespotex.errors import DownloadError, RunError
from hespotex.progress import Reporter
from hespotex.storage.disk_errors import disk_fields
from hespotex.storage.disk_room import check_room, in_words

if TYPE_CHECKING:
    import requests

NETWORK: Final = "check the network (HTTPS_PROXY for a proxy) and run again: what is here is kept"
# What helps beside freeing space, where a disk has no room.
FEWER: Final = "choose another folder, or ask for fewer ids"
_WORTH_SAYING: Final = 1 << 20
_TRIES: Final = 5
_LONGEST_WAIT_S: Final = 60.0
_TIMEOUT_S: Final = (10.0, 60.0)  # to connect, and between two pieces
_PIECE: Final = 1 << 20
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_REASONS: Final = {
    401: ("it wants a login", "get access on its page, and log in"),
    403: ("access is refused", "get access on its page, and log in"),
    404: ("there is no such file", "check the address and the ids"),
    410: ("the file was withdrawn", "ask its publisher"),
    429: ("the server has too many requests", "run again later: what is here is kept"),
}


@dataclass(frozen=True)
class Remote:
    """One file of the web.

    Attributes:
        url: where it is.
        name: its path below the folder of a download, with `/`.
        size: bytes; None where the publisher does not tell.
        checksum: `md5:...`, `sha256:...` or `blob:...` (of git) in hexadecimal; None where the publisher gives none.
    """

    url: str
    name: str
    size: int | None = None
    checksum: str | None = None


def download(
    remotes: Sequence[Remote],
    folder: Path,
    reporter: Reporter,
    *,
    headers: Mapping[str, str] | None = None,
) -> list[Path]:
    """Fetch files that are not here yet.

    Args:
        remotes: with names that differ.
        folder: of the files.
        headers: of every question; a login stays with the server that was asked first.

    Returns:
        Their paths, in the order given.

    Raises:
        DownloadError: the server does not give a file, or gives another one than its publisher's checksum says.
        RunError: the disk has no room, or cannot be written.
    """
    import requests

    paths = [_inside(folder, remote.name) for remote in remotes]
    missing = [(r, p) for r, p in zip(remotes, paths, strict=True) if not p.is_file()]
    with requests.Session() as session:
        session.headers.update(headers or {})
        sized = [(_with_size(r, session), p) for r, p in missing]
        wanted = sum(r.size or 0 for r, _ in sized) - sum(_begun(p) for _, p in sized)
        check_room(folder, wanted, remedy=FEWER)
        if wanted >= _WORTH_SAYING:
            reporter.say(f"{in_words(wanted)} to fetch")
        for remote, path in sized:
            _fetch(remote, path, session, reporter)
    return paths


def file_checksum(path: Path, kind: str) -> str:
    """`kind:hexadecimal` of a file; kind is `md5`, `sha256` or `blob`, as git names it."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        return f"{kind}:{hashlib.file_digest(handle, lambda: _hash(kind, size)).hexdigest()}"


def stated_size(remote: Remote) -> int | None:
    """Bytes of a file, as its server begins to give it; None where it does not tell.

    Raises:
        DownloadError: it does not give the file.
    """
    import requests

    url = remote.url
    with _explained(url), requests.Session() as session, _answer(session, remote) as response:
        _refuse_status(url, response.status_code)
        size = response.headers.get("Content-Length", "")
    return int(size) if size.isdigit() else None


def ask_json(url: str) -> Any:
    """The JSON that a server answers.

    Raises:
        DownloadError: it answers something else, or nothing.
    """
    import requests

    remote = Remote(url, "")
    with _explained(url), requests.Session() as session, _answer(session, remote) as response:
        _refuse_status(url, response.status_code)
        try:
            return response.json()
        except ValueError as error:
            raise DownloadError(expected=f"JSON from {url}", cause=error) from error


def ask_text(url: str) -> str | None:
    """A small text file of the web; None where there is none.

    Raises:
        DownloadError: the server cannot be reached, or refuses.
    """
    import requests

    remote = Remote(url, "")
    with _explained(url), requests.Session() as session, _answer(session, remote) as response:
        if response.status_code == 404:
            return None
        _refuse_status(url, response.status_code)
        return response.text


def _hash(kind: str, size: int) -> Any:
    if kind != "blob":
        return hashlib.new(kind, usedforsecurity=False)
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


def _inside(folder: Path, name: str) -> Path:
    """The path of a file; a name that a server gave never leads out of the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path.resolve() == folder.resolve():
        raise DownloadError(expected="names of files inside the folder", found=f"{name!r}")
    return path


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _begun(path: Path) -> int:
    return _part(path).stat().st_size if _part(path).is_file() else 0


def _with_size(remote: Remote, session: requests.Session) -> Remote:
    if remote.size is not None:
        return remote
    with _explained(remote.url):
        answer = session.head(remote.url, timeout=_TIMEOUT_S, allow_redirects=True)
    size = answer.headers.get("Content-Length", "") if answer.ok else ""
    return replace(remote, size=int(size) if size.isdigit() else None)


def _fetch(remote: Remote, path: Path, session: requests.Session, reporter: Reporter) -> None:
    part, tag = _part(path), _part(path).with_suffix(".tag")
    total = -(-(remote.size or _PIECE) // _PIECE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with reporter.task(f"fetching {remote.name}, MB", total) as advance:
            advance(_begun(path) // _PIECE)
            with _explained(remote.url):
                _receive(remote, part, tag, session, advance)
        _check(remote, part)
        with part.open("rb+") as handle:
            os.fsync(handle.fileno())
        part.replace(path)
        tag.unlink(missing_ok=True)
    except OSError as error:
        said = disk_fields(error, writing=True, otherwise="free space or choose another folder")
        raise RunError(expected=f"to write {path}", **said) from error


def _receive(
    remote: Remote, part: Path, tag: Path, session: requests.Session, advance: Any
) -> None:
    """Append to the part until it is as long as the server says; a break in between is tried again."""
    import requests

    for attempt in range(_TRIES):
        begun = part.stat().st_size if part.is_file() else 0
        if remote.size is not None and begun == remote.size:
            return
        try:
            with _answer(session, remote, begun, tag) as response:
                if response.status_code == 416:  # the part is no beginning of the file
                    part.unlink(missing_ok=True)
                    continue
                _refuse_status(remote.url, response.status_code)
                _keep_tag(tag, response)
                _append(part, response, advance)
                return
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ):
            if attempt == _TRIES - 1:
                raise
            time.sleep(min(2.0**attempt, _LONGEST_WAIT_S))
    raise DownloadError(
        expected=f"the rest of {remote.url}", found="another file", remedy="run again"
    )


def _append(part: Path, response: requests.Response, advance: Any) -> None:
    goes_on, done = response.status_code == 206, 0
    with part.open("ab" if goes_on else "wb") as handle:
        for piece in response.iter_content(_PIECE):
            handle.write(piece)
            done += len(piece)
            advance(done // _PIECE)
            done %= _PIECE


@contextmanager
def _answer(
    session: requests.Session, remote: Remote, begun: int = 0, tag: Path | None = None
) -> Iterator[requests.Response]:
    """Ask, and wait where the server asks us to."""
    headers = {"Accept-Encoding": "identity"}
    known = tag.read_text(encoding="utf-8") if tag is not None and tag.is_file() else ""
    if begun:
        headers["Range"] = f"bytes={begun}-"
        if known:
            headers["If-Range"] = known
    for attempt in range(_TRIES):
        response = session.get(remote.url, headers=headers, stream=True, timeout=_TIMEOUT_S)
        if response.status_code not in _BUSY or attempt == _TRIES - 1:
            break
        response.close()
        time.sleep(_wait_s(response, attempt))
    with response:
        yield response


def _wait_s(response: requests.Response, attempt: int) -> float:
    stated = response.headers.get("Retry-After", "")
    return min(float(stated) if stated.isdigit() else 2.0**attempt, _LONGEST_WAIT_S)


def _keep_tag(tag: Path, response: requests.Response) -> None:
    """Whether it is still the same file when a download goes on: a strong tag tells, a weak one does not."""
    found = response.headers.get("ETag", "")
    tag.write_text("" if found.startswith("W/") else found, encoding="utf-8")


def _check(remote: Remote, part: Path) -> None:
    """Raises DownloadError where the file is another one, and throws it away."""
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        if size > remote.size:
            part.unlink()
        raise DownloadError(
            expected=f"{remote.size:,} bytes of {remote.url}", found=f"{size:,}", remedy="run again"
        )
    if remote.checksum is None:
        return
    found = file_checksum(part, remote.checksum.partition(":")[0])
    if found != remote.checksum.lower():
        part.unlink()
        raise DownloadError(
            expected=f"{remote.checksum} of {remote.url}, as its publisher states",
            found=found,
            remedy="run again; if it stays so, the file was changed: tell its publisher",
        )


def why_refused(status: int) -> tuple[str, str]:
    """What a status of HTTP means, and what helps."""
    return _REASONS.get(
        status, (f"the server answers {status}", "run again later: what is here is kept")
    )


def _refuse_status(url: str, status: int) -> None:
    if status < 400:
        return
    reason, remedy = why_refused(status)
    raise DownloadError(expected=f"to fetch {url}", cause=f"{reason} ({status})", remedy=remedy)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """A network that fails becomes one line."""
    import requests

    try:
        yield
    except (requests.RequestException, json.JSONDecodeError) as error:
        raise DownloadError(
            expected=f"to fetch {url}",
            cause=_innermost(error),
            remedy=NETWORK,
        ) from error


def _innermost(error: BaseException) -> str:
    """The last words of a chain of wrapped errors, without addresses of objects."""
    reason: Any = error
    while True:
        inner = getattr(reason, "reason", None) or next(
            (a for a in getattr(reason, "args", ()) if isinstance(a, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        reason = inner
    text = str(reason).rpartition("object at 0x")[2].partition(">: ")[2] or str(reason)
    return " ".join(text.split()) or type(reason).__name__
