"""Owns which entries of a folder are slides."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from hespotex.errors import SlideError
from hespotex.slide.zarr_image import holds_image


def slides_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Slides of a folder in the order of their names: files of these suffixes, Zarr stores with an image.

    Hidden entries are passed over, and stores without an image, such as LazySlide leaves beside a slide.
    A link that leads nowhere stands among them: opening it says so.

    Raises:
        SlideError: the folder cannot be read.
    """
    check_folder(folder)
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".")
        and ((_is_file(path) and path.suffix.lower() in suffixes) or holds_image(path))
    )


def check_folder(folder: Path) -> None:
    """Refuse a folder that may not be looked into.

    Raises:
        SlideError: it is such a folder.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise SlideError(
            f"expected a readable folder, found: Permission denied ({folder}); check its permissions"
        )


def _is_file(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())
