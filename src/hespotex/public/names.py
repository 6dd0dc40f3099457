"""How a model is named: a path, `NAME`, `hf://org/repo[@rev][/file]` or `https://...`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hespotex.errors import ModelFileError

ENDING: Final = ".hespotex"
SPELLINGS: Final = (
    "a path, the NAME of a kept model, hf://org/repo[@revision][/file] or https://..."
)
_HUB: Final = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[^@]+))?"
)
_NAME: Final = re.compile(r"[\w][\w.-]*")
_SHA256: Final = re.compile(r"sha256=([0-9a-fA-F]{64})")


@dataclass(frozen=True)
class HubName:
    """A model file in a repository of the hub.

    Attributes:
        revision: branch, tag or commit.
        file: of the repository; None where it holds one model.
    """

    repository: str
    revision: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class WebName:
    """A model file behind an address.

    Attributes:
        url: without what stands behind `#`.
        sha256: in hexadecimal, from `#sha256=`; None where it is not stated.
    """

    url: str
    sha256: str | None = None

    @property
    def file(self) -> str:
        """The last part of the address."""
        return urlsplit(self.url).path.rpartition("/")[2]


def remote_name(source: str) -> HubName | WebName | None:
    """What an address means; None for whatever is no address.

    Raises:
        ModelFileError: it begins like an address and is none.
    """
    if source.startswith("hf://"):
        found = _HUB.fullmatch(source)
        if found is None:
            raise ModelFileError(expected="hf://org/repo[@revision][/file]", found=f"{source!r}")
        return HubName(found["repository"], found["revision"], found["file"])
    if not source.startswith(("https://", "http://")):
        return None
    url, _, fragment = source.partition("#")
    stated = _SHA256.fullmatch(fragment)
    if fragment and stated is None:
        raise ModelFileError(
            expected="#sha256= and 64 hexadecimal digits behind an address", found=f"#{fragment}"
        )
    web = WebName(url, stated[1].lower() if stated else None)
    if source.startswith("http://") and web.sha256 is None and not _is_this_machine(url):
        raise ModelFileError(
            expected="an address whose answer nobody can change on its way",
            found=source,
            remedy="use https://, or add #sha256=... as its publisher states it",
        )
    return web


def is_name(text: str) -> bool:
    """Whether a text can be the name of a kept model: no path, no ending of a model file."""
    return _NAME.fullmatch(text) is not None and not text.endswith(ENDING)


def default_name(source: HubName | WebName) -> str:
    """The name that a fetched model gets: of the file, else of the repository."""
    of_file = source.file.rpartition("/")[2].removesuffix(ENDING) if source.file else ""
    if isinstance(source, HubName):
        return of_file or source.repository.partition("/")[2]
    return of_file or "model"


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_path(text: str | Path) -> bool:
    """Whether it is a path rather than a name: a file is there, or it has a folder or the ending of a model file.

    A folder of that name, such as `predict lab SLIDE --out lab` makes, leaves it a name.
    """
    path = Path(text)
    return path.is_file() or path.name != str(text) or path.suffix == ENDING
