"""Atomic writes: a file appears under its final name only when it is whole.

It is written to a temporary name in the same folder, flushed to the disk and renamed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from hespotex.errors import RunError
from hespotex.storage.disk_errors import disk_fields


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`.

    On any exception the temporary file is removed and nothing is left under the final name.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    # Not the process id: two machines that share a folder may have the same.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o666 & ~_umask())  # some libraries write for the owner alone
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors wraps what the disk says
        raise _not_written(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` where a folder is to be made; on success it takes the place of `path`.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    temporary, replaced = (path.with_name(f".{path.name}.{m}{path.suffix}") for m in ("tmp", "old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in (temporary, replaced):
            shutil.rmtree(left_over, ignore_errors=True)
        yield temporary
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        for left_over in (temporary, replaced):
            shutil.rmtree(left_over, ignore_errors=True)


def _not_written(path: Path, error: Exception) -> RunError:
    said = disk_fields(error, writing=True, otherwise="free space or choose another folder")
    return RunError(expected=f"to write {path}", **said)


def check_writable(folder: Path, instead: str = "") -> None:
    """Make a folder where there is none, and try to write in it: before hours of work, not after them.

    Args:
        instead: what else may be done than what helps against the disk's own cause.

    Raises:
        RunError: it cannot be made, or nothing can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        said = disk_fields(error, writing=True, otherwise="choose another folder")
        raise RunError(
            expected=f"a folder that can be written at {folder}",
            cause=said["cause"],
            remedy=f"{said['remedy']}{instead and f', or {instead}'}",
        ) from error


def refuse_to_overwrite(read: Iterable[Path], written: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        RunError: names the file.
    """
    inputs = {path.resolve() for path in read}
    for path in written:
        if path.resolve() in inputs:
            raise RunError(
                expected=f"another place than that of the input {path} with --out",
                found="the same",
                remedy="an input is never changed: choose another folder",
            )


def sweep_leftovers(folder: Path, stem: str) -> None:
    """Delete what killed processes left of `stem`'s files in a folder; nobody may be writing them.

    Other slides of the folder may be written meanwhile: S1_2 does not belong to S1.
    """
    name = re.compile(
        rf"\.{re.escape(stem)}(_overview)?\.(ome\.)?[a-z0-9]+\.([0-9a-f]+\.)?(tmp|old)\.[a-z0-9.]+"
    )
    for path in list(folder.glob(".*")) if folder.is_dir() else []:
        if name.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif name.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON atomically; NaN becomes null."""
    with atomic_path(path) as temporary:
        text = json.dumps(jsonable(value), indent=2, sort_keys=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def jsonable(value: Any) -> Any:
    """The value in types that JSON knows; NaN becomes None, a path its name."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.name
    return value
