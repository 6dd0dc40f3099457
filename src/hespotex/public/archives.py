"""What lies in downloaded archives, unpacked whole or not at all; no name in one leads out of its folder."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hespotex.errors import DownloadError
from hespotex.public.download import FEWER
from hespotex.storage.atomic import atomic_folder, atomic_path
from hespotex.storage.disk_errors import cause_of
from hespotex.storage.disk_room import check_room


def unzip(
    archive: Path, wanted: Callable[[str], Path | None], password: bytes | None = None
) -> list[Path]:
    """Unpack some members of a zip file.

    Args:
        archive: plain, or encrypted by AES.
        wanted: the path that a member gets, by its name in the archive; None leaves it out.
        password: of encrypted members.

    Raises:
        DownloadError: it is damaged, or the password is another one.
        RunError: the disk has no room.
    """
    import pyzipper

    try:
        with pyzipper.AESZipFile(archive) as opened:
            opened.setpassword(password)
            members = [(m, wanted(m.filename)) for m in opened.infolist() if not m.is_dir()]
            chosen = [(m, path) for m, path in members if path is not None and not path.is_file()]
            check_room(archive.parent, sum(m.file_size for m, _ in chosen), remedy=FEWER)
            for member, path in chosen:
                with (
                    atomic_path(path) as temporary,
                    opened.open(member) as source,
                    temporary.open("wb") as target,
                ):
                    shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, pyzipper.BadZipFile, RuntimeError, EOFError) as error:
        raise DownloadError(
            expected=f"a whole zip file in {archive}",
            cause=cause_of(error),
            remedy="delete it and run again",
        ) from error
    return [path for _, path in members if path is not None]


def untar(archive: Path, folder: Path) -> Path:
    """Unpack a tar file into a folder of its own, which is there when it is whole.

    Raises:
        DownloadError: it is damaged, or a name in it leads out of the folder.
    """
    if folder.is_dir():
        return folder
    try:
        with atomic_folder(folder) as temporary, tarfile.open(archive) as opened:
            temporary.mkdir(parents=True)
            opened.extractall(temporary, filter="data")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DownloadError(
            expected=f"a whole tar file in {archive}",
            cause=cause_of(error),
            remedy="delete it and run again",
        ) from error
    return folder


def by_file_name(targets: Mapping[str, Path]) -> Callable[[str], Path | None]:
    """For `unzip`: members by the last part of their name, wherever in the archive they lie."""
    return lambda name: targets.get(name.rpartition("/")[2])
