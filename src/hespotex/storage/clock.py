"""Seconds per stage, peak memory and versions, for the record of a run."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any


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
    for name in ("hespotex", "torch", "timm", "openvino", "wsidata", "numpy",
                 "scipy", "scikit-learn", "anndata", "scanpy"):  # fmt: skip
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
