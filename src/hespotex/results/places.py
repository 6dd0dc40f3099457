"""Where on this machine the image of a slide was last seen, by the key of its content.

A run names no folder of this machine, since runs are passed on. So the place stands in the user's cache, and whoever
shows a run here finds its slides again.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from hespotex.encoders.cache import cache_folder
from hespotex.errors import HESpotExError
from hespotex.storage.atomic import atomic_path

_FOLDER: Final = "places"


def note_place(key: str, path: Path) -> None:
    """Remember where a slide lies; without a cache that can be written nothing is remembered.

    Args:
        key: of the slide's content, as `slide_key`.
    """
    with suppress(OSError, RuntimeError, HESpotExError):
        file = _file(key)
        text = str(path.resolve())
        if not (file.exists() and file.read_text(encoding="utf-8") == text):
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as temporary:
                temporary.write_text(text, encoding="utf-8")


def known_place(key: str) -> Path | None:
    """Where the slide was last seen, if something lies there; whether it is the same is for the caller to see."""
    try:
        path = Path(_file(key).read_text(encoding="utf-8"))
    except (OSError, ValueError, HESpotExError):
        return None
    return path if path.exists() else None


def _file(key: str) -> Path:
    return cache_folder() / _FOLDER / f"{key}.txt"
