"""A safetensors file written whole, equal content as equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from hespotex.errors import ModelFileError
from hespotex.storage.atomic import atomic_path


def save_tensors(
    path: Path, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write one file, whole or not at all.

    Raises:
        RunError: the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        ordered = {name: np.asarray(value, order="C") for name, value in tensors.items()}
        save_file(ordered, temporary, metadata=dict(metadata))
        _order_metadata(temporary)


def _order_metadata(path: Path) -> None:
    """safetensors writes metadata in an order that chance draws: equal models shall be equal files."""
    with path.open("rb+") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > length:  # never seen: the same text in another order has the same length
            raise ModelFileError(expected=f"a header of {length:,} bytes", found=f"{len(text):,}")
        handle.seek(8)
        handle.write(text.ljust(length))
