"""Refusals of the disk or file system by error number: their meaning, and what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import Final, TypedDict, TypeVar

from hespotex.errors import HESpotExError

E = TypeVar("E", bound=HESpotExError)

UNLOCKED: Final = "set HDF5_USE_FILE_LOCKING=FALSE and run again (this file system gives no locks)"
# Of bytes that are there but mean nothing: the original tells whether the copy is at fault.
DAMAGED: Final = "compare it with the original (size, checksum), or make it again"
# Libraries that wrap the error put its number into their text: HDF5, safetensors.
_NUMBER: Final = re.compile(r"\berrno = (\d+)|\(os error (\d+)\)|^\[Errno (\d+)\]")
_ANOTHER: Final = "choose another folder"

# What to do for a file that is read, and for one that is written.
_REMEDIES: Final[Mapping[int, tuple[str, str]]] = {
    errno.ENOSPC: ("free space on that disk", f"free space or {_ANOTHER}"),
    errno.EDQUOT: (
        "delete files of yours on that disk (quota -s shows how much you may use)",
        f"delete files of yours there (quota -s shows how much you may use), or {_ANOTHER}",
    ),
    errno.EACCES: (
        "ask its owner for the permission to read it (ls -l shows who may)",
        "choose a folder that you may write in (ls -ld shows who may)",
    ),
    errno.EPERM: ("ask its owner for the permission to read it", f"{_ANOTHER}: this one forbids it"),
    errno.EROFS: ("copy it to a disk that can be written", f"{_ANOTHER}: this disk can only be read"),
    errno.ENOENT: ("check the path", "check the path: its folder was moved or deleted"),
    errno.ENOTDIR: ("check the path: a part of it is a file", "check the path: a part of it is a file"),
    errno.EISDIR: ("give a file in it", "give the name of a file, not of a folder"),
    errno.EEXIST: ("check the path", "choose another name: a file has this one"),
    errno.ELOOP: ("give the file itself: its links lead in a circle", "choose another name: links lead in a circle"),
    errno.ENAMETOOLONG: ("give it a shorter name", "choose a shorter name"),
    errno.EMFILE: ("allow more open files and run again: ulimit -n 4096",) * 2,
    errno.ENFILE: ("close other programs, or run on another machine: this one has too many open files",) * 2,
    errno.EFBIG: ("copy it to another disk", f"{_ANOTHER}: this disk takes no file of that size (ulimit -f, FAT32)"),
    errno.EIO: (
        "copy the file to another disk and read it there: this one, or the network to it, fails",
        f"{_ANOTHER}: this disk, or the network to it, fails",
    ),
    errno.ESTALE: ("run again: the network disk was changed meanwhile",) * 2,
    errno.ENOLCK: (UNLOCKED,) * 2,
    errno.EAGAIN: (
        f"close the program that writes it; if there is none, {UNLOCKED}",
        f"close the program that has it open; if there is none, {UNLOCKED}",
    ),
    errno.EBUSY: ("close the program that has it open",) * 2,
    errno.ETIMEDOUT: ("run again when the network disk answers",) * 2,
    errno.EHOSTDOWN: ("run again when the network disk answers",) * 2,
    errno.ENOTCONN: ("mount the network disk again and run again",) * 2,
    errno.ENODEV: ("mount the disk again and run again",) * 2,
    errno.ENXIO: ("mount the disk again and run again",) * 2,
    errno.ENOMEM: ("close other programs, or run where there is more memory",) * 2,
}  # fmt: skip
# What disks say of files that are open already; other numbers may be a fault of ours.
OF_DISKS: Final = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.EIO, errno.ESTALE,
    errno.ENOLCK, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ENOMEM,
})  # fmt: skip
_LOCKS: Final = frozenset(
    {errno.ENOLCK, errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.ENOSYS, errno.ENOTSUP}
)


def number_of(error: BaseException) -> int | None:
    """The number of what the disk said, also where a library wrapped it; None where it said nothing."""
    own = getattr(error, "errno", None)
    if isinstance(own, int) and own > 0:
        return own
    found = _NUMBER.search(" ".join(str(error).split()))
    return int(next(filter(None, found.groups()))) if found else None


def remedy_of(error: BaseException, *, writing: bool = False) -> str | None:
    """What to do against it; None where the disk is not to blame."""
    number = number_of(error)
    if number is None:
        return None
    general = (f"look at the disk, and run again ({os.strerror(number)})",) * 2
    return _REMEDIES.get(number, general)[writing]


def cause_of(error: BaseException) -> str:
    """What went wrong in a few words, on one line: what the disk said, else the text of the error."""
    number = number_of(error)
    if number is not None:
        return os.strerror(number)
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def disk_words(error: BaseException, *, writing: bool = False, otherwise: str = "") -> str:
    """`cause; remedy` for the end of a message; `disk_fields` where an error is raised of it."""
    fields = disk_fields(error, writing=writing, otherwise=otherwise)
    return "; ".join(filter(None, (fields["cause"], fields["remedy"])))


class DiskFields(TypedDict):
    """What a disk said, as fields of an error of ours."""

    cause: str
    remedy: str


def disk_fields(error: BaseException, *, writing: bool = False, otherwise: str = "") -> DiskFields:
    """Cause and remedy, for the fields of an error.

    Args:
        error: an OSError, or what a library made of one.
        writing: whether a file was being written.
        otherwise: the remedy where the disk is not to blame.
    """
    remedy = remedy_of(error, writing=writing) or otherwise
    return {"cause": cause_of(error), "remedy": remedy}


def damaged(
    kind: type[E], expected: str, error: BaseException, where: str, otherwise: str = DAMAGED
) -> E:
    """The error of a file that cannot be read: what the disk says and its remedy, else the cause and `otherwise`."""
    cause, remedy = f"{cause_of(error)} {where}", remedy_of(error) or otherwise
    return kind(expected=expected, cause=cause, remedy=remedy)


def is_lock(error: BaseException) -> bool:
    """Whether HDF5 could not lock a file: another program has it, or the file system gives no locks."""
    return "lock file" in str(error) and number_of(error) in _LOCKS
