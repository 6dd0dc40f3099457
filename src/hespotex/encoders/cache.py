"""Owns where converted engines and encoded features are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = "HESPOTEX_CACHE"


def cache_folder() -> Path:
    """The folder in HESPOTEX_CACHE, else `hespotex` in the platform's folder for caches."""
    stated = os.environ.get(ENVIRONMENT)
    if stated:
        return Path(stated).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("hespotex")
