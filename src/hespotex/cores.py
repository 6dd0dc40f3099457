"""Owns how many cores this process may use, and what the kernel says of limits; reads, changes nothing."""

from __future__ import annotations

import os
from pathlib import Path


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
