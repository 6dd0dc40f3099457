"""Where converted engines and encoded features are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from hespotex.config import Machine
from hespotex.errors import RunError
from hespotex.storage.atomic import check_writable
from hespotex.storage.spill import Spill

ENVIRONMENT = "HESPOTEX_CACHE"


def cache_folder() -> Path:
    """The folder in HESPOTEX_CACHE, else `hespotex` in the platform's folder for caches.

    Raises:
        RunError: the user has no home folder (a bare number in a container) and HESPOTEX_CACHE is not set.
    """
    stated = os.environ.get(ENVIRONMENT)
    from platformdirs import user_cache_path

    try:
        return Path(stated).expanduser() if stated else user_cache_path("hespotex")
    except RuntimeError as error:
        raise RunError(
            expected="a home folder for the cache",
            found="none for this user",
            remedy=f"set {ENVIRONMENT} to a folder that can be written",
        ) from error


def check_cache(folder: Path) -> None:
    """Try the cache before the work whose result it is to keep.

    Raises:
        RunError: nothing can be written there.
    """
    check_writable(folder, f"set {ENVIRONMENT} (in Python: Machine.cache) to another one")


def spill_of(machine: Machine | None) -> Spill:
    """Where large arrays of a fit go that do not fit into its memory: the machine's cache folder."""
    stated = None if machine is None else machine.cache
    return Spill(lambda: stated or cache_folder())
