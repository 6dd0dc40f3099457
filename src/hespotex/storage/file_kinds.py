"""The kind of a file by its first bytes, and what to do where another kind was expected."""

from __future__ import annotations

import re
import shlex
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

# Enough for every signature; that of tar, the farthest, stands at byte 257.
HEAD_BYTES: Final = 512
_HDF5_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"


class FoundFields(TypedDict):
    """What a file is, as fields of an error of ours."""

    found: str
    remedy: str


@dataclass(frozen=True)
class FileKind:
    """What a file is.

    Attributes:
        name: short, for comparisons: gzip, zip, hdf5, html, ...
        found: how a message calls such a file.
        remedy: what to do with it where it is not expected; `{file}` stands for its path.
        ending: that a command in `remedy` asks of the file's name; empty where it asks none.
        piped: the same command for a file without that ending.
    """

    name: str
    found: str
    remedy: str
    ending: str = ""
    piped: str = ""

    def remedy_for(self, path: object) -> str:
        """What to do with this file."""
        command = self.remedy if str(path).lower().endswith(self.ending) else self.piped
        return command.format(file=shlex.quote(str(path)))

    def fields(self, path: object) -> FoundFields:
        """What was found and what to do, for the fields of an error about the file."""
        return {"found": self.found, "remedy": self.remedy_for(path)}


def _packed(name: str, tool: str, ending: str) -> FileKind:
    return FileKind(
        name,
        f"a file packed by {name}",
        f"unpack it: {tool} {{file}}",
        ending,
        f"unpack it: {tool} -c {{file}} > UNPACKED",
    )


def _archive(name: str, command: str) -> FileKind:
    return FileKind(name, f"an archive ({name})", f"unpack it: {command} {{file}}")


def _data(name: str, found: str) -> FileKind:
    return FileKind(
        name, found, "give the file that is meant, or state the format that reads this one"
    )


_GZIP: Final = _packed("gzip", "gunzip", ".gz")
_TAR: Final = _archive("tar", "tar -xf")
_WEB_PAGE: Final = FileKind(
    "html",
    "a web page (HTML)",
    "open it in a browser to see what the server answered, and download the file itself",
)
_REFUSAL: Final = FileKind(
    "html",
    "a server's error message (XML)",
    "read it to see what the server answered, and download the file itself",
)
_EXCEL: Final = FileKind("excel", "an Excel workbook", "save it as CSV UTF-8 and give that file")
_OF_R: Final = FileKind(
    "r",
    "an object of R (.rds, .RData)",
    'write its counts from R: Matrix::writeMM(counts, "matrix.mtx"), with features.tsv and barcodes.tsv beside it',
)
EMPTY: Final = FileKind("empty", "an empty file", "copy or make it again")

_SIGNATURES: Final[tuple[tuple[bytes, FileKind], ...]] = (
    (rb"\x1f\x8b", _GZIP),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", _packed("bzip2", "bunzip2", ".bz2")),
    (rb"\xfd7zXZ\0", _packed("xz", "unxz", ".xz")),
    (rb"\x28\xb5\x2f\xfd", _packed("zstd", "unzstd", ".zst")),
    (rb"\x04\x22\x4d\x18", _packed("lz4", "unlz4", ".lz4")),
    (rb"\x1f[\x9d\xa0]", _packed("compress", "uncompress", ".z")),
    (rb"PK\x03\x04.{26}(\[Content_Types\]\.xml|xl/|_rels/)", _EXCEL),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _EXCEL),
    (
        rb"PK\x03\x04.{26}[^/\0]{1,200}/data\.pkl",
        FileKind(
            "torch",
            "a checkpoint of torch",
            "read weights of the reference implementation by hespotex import-checkpoint",
        ),
    ),
    (rb"PK\x03\x04|PK\x05\x06", _archive("zip", "unzip")),
    (rb"7z\xbc\xaf\x27\x1c", _archive("7-Zip", "7z x")),
    (rb"Rar!\x1a\x07", _archive("rar", "unrar x")),
    # Text may hold the word: the header of tar holds zero bytes before it.
    (rb"(?=.{0,256}\0).{257}ustar", _TAR),
    (rb"(RD[AX][23]\n)?[XA]\n\0\0\0[\2\3]", _OF_R),
    (re.escape(_HDF5_SIGNATURE), _data("hdf5", "an HDF5 file")),
    (rb"PAR1\x15", _data("parquet", "a parquet file")),
    (rb"\x93NUMPY", _data("numpy", "an array of numpy")),
    (rb"%PDF-", _data("pdf", "a PDF file")),
    (rb"\x89PNG\r\n\x1a\n", _data("png", "a PNG image")),
    (rb"\xff\xd8\xff", _data("jpeg", "a JPEG image")),
    (rb"II[*+]\0|MM\0[*+]", _data("tiff", "a TIFF file")),
    (
        rb"version https://git-lfs\.github\.com/spec/|version https://hawser\.github\.com/spec/",
        FileKind(
            "git-lfs",
            "a pointer of Git LFS, not the file itself",
            "fetch the file in its repository: git lfs pull",
        ),
    ),
    (
        rb"/annex/objects/|\.\./.{0,400}/annex/objects/|\.git/annex/objects/",
        FileKind(
            "git-annex",
            "a pointer of git-annex, not the file itself",
            "fetch the file in its repository: git annex get {file}",
        ),
    ),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.{0,300}?-->\s*)*<(!doctype\s+html|html|head)\b", _WEB_PAGE),
    (rb"(\xef\xbb\xbf)?\s*<\?xml[^>]*>\s*<Error>", _REFUSAL),
    *(
        (
            mark + rb"|(" + letter + rb"){4}",
            FileKind(
                "utf-16",
                "text in UTF-16, as Excel's \"Unicode Text\" and PowerShell write it",
                f"write it as UTF-8: iconv -f {coding} -t UTF-8 {{file}} > NEW",
            ),
        )
        for mark, letter, coding in (
            (rb"\xff\xfe(?!\0\0)", rb"[\t\n\r -~]\0", "UTF-16LE"),
            (rb"\xfe\xff", rb"\0[\t\n\r -~]", "UTF-16BE"),
        )
    ),
)  # fmt: skip
_COMPILED: Final = tuple(
    (re.compile(signature, re.DOTALL | re.IGNORECASE if kind.name == "html" else re.DOTALL), kind)
    for signature, kind in _SIGNATURES
)
# Nothing that stands in the place of a file that was meant; all others may be right somewhere.
NEVER_MEANT: Final = frozenset({
    "gzip", "bzip2", "xz", "zstd", "zip", "lz4", "compress", "7-Zip", "rar", "tar", "excel", "torch", "html", "git-lfs",
    "git-annex", "utf-16", "empty", "pdf", "parquet", "r",
})  # fmt: skip


def kind_of(head: bytes) -> FileKind | None:
    """The kind that the first `HEAD_BYTES` of a file tell; None for plain text and what has no known signature."""
    if not head:
        return EMPTY
    kind = _by_signature(head)
    inner = _by_signature(_unpacked(head)) if kind is _GZIP else None
    # A packed archive is unpacked by one command; R packs its objects itself.
    return inner if inner in {_TAR, _OF_R} else kind


def _by_signature(head: bytes) -> FileKind | None:
    return next((kind for pattern, kind in _COMPILED if pattern.match(head)), None)


def _unpacked(head: bytes) -> bytes:
    """What the start of a gzip file holds; as much as can be unpacked of it."""
    try:
        return zlib.decompressobj(31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def read_kind(path: Path) -> FileKind | None:
    """The kind of a file on the disk.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as handle:
        return kind_of(handle.read(HEAD_BYTES))


def mistaken_kind(path: Path, but: Collection[str] = ()) -> FileKind | None:
    """The kind of a file where it is one that is never meant, besides the kinds `but`; else None.

    Raises:
        OSError: it cannot be read.
    """
    kind = read_kind(path)
    return None if kind is None or kind.name not in NEVER_MEANT - frozenset(but) else kind


def missing_bytes(path: Path) -> str | None:
    """What shows that a file of HDF5, parquet or safetensors is cut short, for a message; None where nothing does.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
        handle.seek(max(0, size - 4))
        tail = handle.read(4)
    if head.startswith(b"PAR1"):
        return (
            None if tail == b"PAR1" and size >= 12 else f"its end is missing, it has {size:,} bytes"
        )
    end = _end_of_hdf5(head) if head.startswith(_HDF5_SIGNATURE) else _end_of_safetensors(head)
    return None if end is None or end <= size else f"it ends at byte {end:,}, it has {size:,} bytes"


def _end_of_hdf5(head: bytes) -> int | None:
    """The address of its end that the superblock of an HDF5 file states."""
    version, large = head[8], head[13] if head[8] < 2 else head[9]
    at = {0: 24, 1: 28, 2: 12, 3: 12}.get(version)
    if at is None or large not in {2, 4, 8} or len(head) < at + 3 * large:
        return None
    base, _, end = (
        int.from_bytes(head[at + i * large : at + (i + 1) * large], "little") for i in range(3)
    )
    return base + end


def _end_of_safetensors(head: bytes) -> int | None:
    """Where the header of a safetensors file ends; what lies behind it is the library's to check."""
    if len(head) < 9 or head[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", head[:8])
    return int(length) + 8 if length < 2**32 else None
