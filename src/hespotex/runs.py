"""Owns what lies on disk: run folders, atomic writes, content keys and provenance.

A file appears under its final name only when it is whole: it is written to a temporary name in the
same folder, flushed to the disk and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from hespotex.config_values import differing_keys
from hespotex.disk_errors import disk_words
from hespotex.errors import RunError
from hespotex.hdf5 import check_locks

# Files above this size are keyed by samples: a slide of 10 GB would otherwise be read twice.
FULL_HASH_BYTES = 256 * 2**20
_SAMPLE_BYTES = 2**20
_N_SAMPLES = 64


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
    words = disk_words(error, writing=True, otherwise="free space or choose another folder")
    return RunError(f"expected to write {path}, found: {words}")


def check_writable(folder: Path, instead: str = "") -> None:
    """Make a folder where there is none, and try to write in it: before hours of work, not after them.

    Args:
        folder: to be written in.
        instead: what else may be done than what helps against the disk's own cause.

    Raises:
        RunError: it cannot be made, or nothing can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"expected a folder that can be written at {folder}, found: "
            f"{disk_words(error, writing=True, otherwise='choose another folder')}{instead and f', or {instead}'}"
        ) from error


def sweep_leftovers(folder: Path, stem: str) -> None:
    """Delete what killed processes left of `stem`'s files in a folder; nobody may be writing them.

    Other slides of the folder may be being written meanwhile: S1_2 is none of S1's.
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
        text = json.dumps(_jsonable(value), indent=2, sort_keys=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.name
    return value


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


class StageClock:
    """Seconds per named stage and the process's peak memory, for run.json."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the enclosed block to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def summary(self) -> dict[str, Any]:
        """Seconds per stage (rounded to ms) and peak resident memory in MiB; NaN where no system call tells it."""
        return {
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "peak_memory_mib": round(_peak_memory_mib(), 1),
        }


def _peak_memory_mib() -> float:
    """Peak resident memory of this process in MiB."""
    try:
        # getrusage counts the parent's peak too where a process was forked from a larger one.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    except (OSError, IndexError, ValueError):
        return _peak_by_the_system()


def _peak_by_the_system() -> float:
    try:
        import resource
    except ImportError:  # Windows has none
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the libraries that numbers depend on."""
    found = {"python": platform.python_version(), "platform": platform.system()}
    for name in ("hespotex", "torch", "torch-geometric", "timm", "openvino", "wsidata", "numpy",
                 "scipy", "scikit-learn", "anndata", "scanpy"):  # fmt: skip
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


class RunDir:
    """The output folder of one run.

    `run.json` says which configuration and inputs it belongs to and whether it is finished.

    Args:
        path: the folder; made when first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._claimed_here = False

    @property
    def run_json(self) -> Path:
        """Configuration, inputs, versions, times; `status` is `running` or `finished`."""
        return self.path / "run.json"

    @property
    def predictions(self) -> Path:
        """Folder of one h5ad per section."""
        return self.path / "predictions"

    @property
    def figures(self) -> Path:
        """Folder of pictures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The page that sums up a scored run."""
        return self.path / "report.html"

    @property
    def work(self) -> Path:
        """Folder of intermediate results that let an interrupted run go on."""
        return self.path / "work"

    def begin(self, identity: Mapping[str, Any]) -> bool:
        """Claim the folder for a run; True if the very same run is finished here already.

        Args:
            identity: nested values that the result depends on (verb, configuration, input keys).

        Raises:
            RunError: the folder holds another run (the message names what differs), or HDF5 can lock no file there.
        """
        identity = _jsonable(identity)
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"expected a folder for the output, found a file: {self.path}")
        known = self._read()
        if known is None or known.get("status") != "finished":
            check_locks(self.path if self.path.exists() else self._nearest())
        if known is None:
            write_json(self.run_json, {"status": "running", "identity": identity})
            self._claimed_here = True
            return False
        rows = differing_keys(known.get("identity", {}), identity)
        if rows:
            shown = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, old, new in rows[:6])
            more = f" (+{len(rows) - 6} more)" if len(rows) > 6 else ""
            raise RunError(
                f"{self.path} holds a run with another configuration: {shown}{more}; "
                "choose another --out, or delete that folder"
            )
        return bool(known.get("status") == "finished")

    @contextmanager
    def withdrawn_on_error(self) -> Iterator[None]:
        """Take back a claim that `begin` made here if the block fails before any result is kept.

        A setting that cannot work, such as an encoder without weights, must not bar its correction.
        """
        try:
            yield
        except BaseException:
            with suppress(OSError):
                if self._claimed_here and list(self.path.iterdir()) == [self.run_json]:
                    self.run_json.unlink()
                    self.path.rmdir()
            raise

    def finish(self, identity: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Mark the run as finished; everything else must be written before."""
        self.record(identity, details, finished=True)

    def record(
        self, identity: Mapping[str, Any], details: Mapping[str, Any], *, finished: bool
    ) -> None:
        """Write what is known of the run so far."""
        status = "finished" if finished else "running"
        write_json(
            self.run_json,
            {"status": status, "identity": identity, **details, "versions": versions()},
        )

    def _nearest(self) -> Path:
        """The nearest folder above this one that exists: a refusal leaves nothing behind."""
        return next((folder for folder in self.path.absolute().parents if folder.is_dir()), Path())

    def _read(self) -> dict[str, Any] | None:
        try:
            value = json.loads(self.run_json.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(
                f"expected the record of a run in {self.run_json}, found: "
                f"{disk_words(error, otherwise='delete that folder or choose another --out')}"
            ) from error
        if not isinstance(value, dict):
            raise RunError(f"expected an object in {self.run_json}, found {type(value).__name__}")
        return value
