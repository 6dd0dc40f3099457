"""Keys of the content of arrays and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

# Files above this size are keyed by samples: a slide of 10 GB would otherwise be read twice.
FULL_HASH_BYTES = 256 * 2**20


_SAMPLE_BYTES = 2**20


_N_SAMPLES = 64


def content_key(*parts: Any) -> str:
    """Hex key of the content of arrays, bytes, strings and JSON-like values; order matters."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"array {part.dtype.str} {part.shape}\0".encode())
            digest.update(np.ascontiguousarray(part).data if part.size else b"")
        elif isinstance(part, bytes):
            digest.update(b"bytes\0" + part)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\0")
    return digest.hexdigest()


def file_key(path: Path) -> str:
    """Hex key of a file's content.

    Up to 256 MiB every byte counts; beyond that the size, and 64 samples of 1 MiB spread over the
    file, first and last included.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=16)
    digest.update(str(size).encode())
    with path.open("rb") as handle:
        if size <= FULL_HASH_BYTES:
            while chunk := handle.read(2**22):
                digest.update(chunk)
        else:
            for offset in np.linspace(0, size - _SAMPLE_BYTES, _N_SAMPLES).astype(np.int64):
                handle.seek(int(offset))
                digest.update(handle.read(_SAMPLE_BYTES))
    return digest.hexdigest()
