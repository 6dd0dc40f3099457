"""Text files: plain or packed, any line end, BOM."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from hespotex.errors import HESpotExError, SpotTableError
from hespotex.storage.disk_errors import disk_fields
from hespotex.storage.file_kinds import EMPTY, HEAD_BYTES, kind_of

# Packed by these, text is unpacked as it is read.
_UNPACKERS: Final[Mapping[str, Callable[[IO[bytes]], Any]]] = {
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
# As names of such files end.
TEXT_ENDINGS: Final = (".gz", "", ".bz2", ".xz")
# Tables of sections, or of positions.
TABLE_SUFFIXES: Final = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Packed:
    """A file inside an archive.

    Attributes:
        name: archive and member, for messages.
        content: its bytes.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


@contextmanager
def open_binary(
    path: Path | Packed, what: str = "a table", error: Callable[..., HESpotExError] = SpotTableError
) -> Iterator[IO[bytes]]:
    """Open a text file as bytes, unpacked where gzip, bzip2 or xz packed it (told by its first bytes, not by its name).

    Args:
        what: is expected there, for messages.
        error: raised where it is something else.

    Raises:
        HESpotExError: of the class `error`: missing, unreadable, a folder, empty, no text, cut short, or not UTF-8
            where text is decoded; also for faults that appear while the body of the `with` reads.
    """
    try:
        with io.BytesIO(path.content) if isinstance(path, Packed) else path.open("rb") as raw:
            yield _plain(raw, path, what, error)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as fault:
        raise error(
            expected=f"a whole packed file at {path}",
            found=f"one that is cut short or damaged ({fault})",
            remedy="copy it again",
        ) from fault
    except UnicodeDecodeError as fault:
        raise error(
            expected=f"UTF-8 text in {path}",
            found=f"byte {fault.object[fault.start]:#04x} that is not",
            remedy="save it as UTF-8 text",
        ) from fault
    except OSError as fault:
        damaged = "it is damaged: copy it again"  # bzip2 says no more than that
        raise error(
            expected=f"a readable file at {path}", **disk_fields(fault, otherwise=damaged)
        ) from fault


def _plain(
    raw: IO[bytes], path: Path | Packed, what: str, error: Callable[..., HESpotExError]
) -> IO[bytes]:
    """The stream, or the one inside of it; both begin as text does."""
    stream = raw
    for unpacked in (False, True):
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        kind = kind_of(head)
        if kind is None:
            break
        if unpacked or kind.name not in _UNPACKERS:
            expected = f"{what} in {path}"
            if not unpacked:
                raise error(expected=expected, **kind.fields(path))
            remedy = "" if kind is EMPTY else kind.remedy_for(path)
            raise error(
                expected=expected, found=f"{kind.found}, inside of a packed one", remedy=remedy
            )
        stream = cast("IO[bytes]", _UNPACKERS[kind.name](raw))
    return stream


@contextmanager
def open_text(
    path: Path | Packed, what: str = "a table", error: Callable[..., HESpotExError] = SpotTableError
) -> Iterator[IO[str]]:
    """Open a UTF-8 text file as `open_binary` does; a byte order mark is left out.

    Raises:
        HESpotExError: as `open_binary`.
    """
    with (
        open_binary(path, what, error) as binary,
        io.TextIOWrapper(binary, encoding="utf-8-sig", newline=None) as stream,
    ):
        yield stream


def read_text(path: Path, what: str, error: Callable[..., HESpotExError]) -> str:
    """The whole text of a file, with line ends of any system as newlines; "" for an empty file, which some may be.

    Raises:
        HESpotExError: as `open_binary`.
    """
    with suppress(OSError):  # said where it is opened
        if path.is_file() and path.stat().st_size == 0:
            return ""
    with open_text(path, what, error) as stream:
        return stream.read()
