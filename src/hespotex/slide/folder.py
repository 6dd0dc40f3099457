"""Which entries of a folder are slides, what they are called, and what is passed over there."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hespotex.errors import SlideError, shorten
from hespotex.slide.zarr_image import holds_image, is_zarr
from hespotex.storage.disk_errors import damaged
from hespotex.storage.file_kinds import read_kind
from hespotex.storage.run_folder import RunDir

# What some reader opens; of `s.ome.btf` the last part counts.
SLIDE_SUFFIXES: Final = (
    ".svs", ".svslide", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".qptiff", ".ndpi", ".ndpis", ".mrxs", ".scn", ".vms",
    ".vmu", ".bif", ".dcm", ".dicom", ".czi", ".vsi", ".isyntax", ".jpg", ".jpeg", ".jpe", ".jp2", ".j2k", ".jpx",
    ".png", ".bmp", ".webp",
)  # fmt: skip
# Kinds of files in which a slide of another ending may be.
_PICTURES: Final = {"tiff", "png", "jpeg"}
_PACKED: Final = {"gzip", "bzip2", "xz", "zstd", "lz4", "compress"}
_ARCHIVES: Final = {"zip", "7-Zip", "rar", "tar"}
# Zip archives that are no packed slides.
_DOCUMENTS: Final = {".odt", ".ods", ".odp", ".npz", ".whl"}
_NAMED: Final = 5


@dataclass(frozen=True)
class SlideFolder:
    """What a folder holds.

    Attributes:
        slides: files with an ending of slides and Zarr stores with an image, in the order of their names.
        doubtful: what may hold slides and is not taken: pictures and packed files of another ending, folders with slides.
        others: files that are no slides.
    """

    slides: tuple[Path, ...]
    doubtful: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()

    @property
    def doubt(self) -> str | None:
        """Words on entries that were passed over and may hold slides; None where there are none."""
        if not self.doubtful:
            return None
        return f"passed over, though slides may be in there: {_listed(self.doubtful)}"

    @property
    def remark(self) -> str | None:
        """Words on all other entries that were passed over; None where there are none."""
        return f"passed over, no slides: {_listed(self.others)}" if self.others else None


DOUBT_REMEDY: Final = "unpack or rename them, or give such a folder by itself"


def slides_in(folder: Path) -> SlideFolder:
    """What a folder holds, in the order of the names.

    Hidden entries do not count, nor stores without an image, such as LazySlide leaves beside a slide, nor folders
    without slides. A link that leads nowhere stands among the slides: opening it says so.

    Raises:
        SlideError: the folder cannot be read.
    """
    check_folder(folder)
    slides, doubtful, others = [], [], []
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if (_is_file(path) and _has_suffix(path)) or holds_image(path):
            slides.append(path)
        elif _may_hold_slides(path):
            doubtful.append(path)
        elif path.is_file():
            others.append(path)
    return SlideFolder(tuple(slides), tuple(doubtful), tuple(others))


def slide_names(paths: Sequence[Path]) -> list[str]:
    """A name for each: without its ending, where no other has the same; file systems may not tell a from A."""
    stems = Counter(path.stem.casefold() for path in paths)
    return [p.stem if stems[p.stem.casefold()] == 1 else p.name for p in paths]


def check_folder(folder: Path) -> None:
    """Refuse a folder that may not be looked into.

    Raises:
        SlideError: it is such a folder.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise damaged(SlideError, "a readable folder", refused, f"({folder})")


def _is_file(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


def _has_suffix(path: Path) -> bool:
    return path.suffix.lower() in SLIDE_SUFFIXES


def _may_hold_slides(path: Path) -> bool:
    """Whether a file starts as pictures and archives do, or a folder holds slides and is no result of ours."""
    try:
        if path.is_dir():
            within = (
                [] if is_zarr(path) or RunDir(path).run_json.is_file() else list(path.iterdir())
            )
            return any(p.is_file() and _has_suffix(p) for p in within)
        kind = read_kind(path) if path.is_file() else None
    except OSError:
        return True  # what cannot be looked at may hold anything
    if kind is None or path.suffix.lower() in _DOCUMENTS:
        return False
    # What `counts.tsv.gz` holds stands in its name.
    inner = Path(path.stem).suffix.lower()
    return kind.name in _PICTURES | _ARCHIVES or (
        kind.name in _PACKED and inner in ("", *SLIDE_SUFFIXES)
    )


def _listed(paths: Sequence[Path]) -> str:
    return shorten([p.name + "/" * p.is_dir() for p in paths], _NAMED)
