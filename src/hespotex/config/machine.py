"""Where work runs: device, threads, cache folder, and the cores that this process may use."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

from hespotex.errors import ConfigError

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]+)?")


@dataclass(frozen=True)
class Machine:
    """Where work runs; nothing of it changes what a result means.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes a GPU where there is one.
        threads: CPU threads; None takes every core this process may use.
        cache: folder of encoded features; None takes the user's cache folder, where converted encoders lie, too.
    """

    device: str = "auto"
    threads: int | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.device, str) and _DEVICE.fullmatch(self.device)):
            raise ConfigError(
                expected="a device of auto, cpu, cuda, cuda:N, mps", found=f"{self.device!r}"
            )
        threads: object = self.threads  # whatever was given
        right = isinstance(threads, Integral) and int(threads) >= 1
        if threads is not None and not right:
            raise ConfigError(
                expected="a whole number of threads, at least 1", found=f"{threads!r}"
            )
        if self.cache is not None:
            object.__setattr__(self, "cache", Path(self.cache))


def usable_cores() -> int:
    """Cores that this process may use: affinity, and the quota of its control group (a container's limit)."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quota = read_numbers(Path("/sys/fs/cgroup/cpu.max"))
    if len(quota) == 2 and quota[1] > 0:
        allowed = min(allowed, max(1, round(quota[0] / quota[1])))
    return allowed


def read_numbers(path: Path) -> list[float]:
    """Numbers of a one-line file of the kernel; empty where there is none, or no limit."""
    try:
        return [float(word) for word in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
