"""How time and memory are measured: wall time, core time, peak memory, slopes of growth."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np


class Spent:
    """Wall and core seconds of the block, filled in when it ends."""

    wall: float = 0.0
    core: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Both, rounded to 0.1 ms."""
        return {"wall_s": round(self.wall, 4), "core_s": round(self.core, 4)}


@contextmanager
def timed() -> Iterator[Spent]:
    """Measure a block; core time is that of all threads of this process."""
    spent = Spent()
    wall, core = time.perf_counter(), time.process_time()
    try:
        yield spent
    finally:
        spent.wall, spent.core = time.perf_counter() - wall, time.process_time() - core


def time_of(work: Callable[[], Any], repeats: int = 1) -> tuple[Any, dict[str, float]]:
    """The last result, and the shortest of so many runs."""
    best, result = None, None
    for _ in range(repeats):
        with timed() as spent:
            result = work()
        if best is None or spent.core < best.core:
            best = spent
    return result, best.as_dict() if best else {}


def ratio(slow: dict[str, float], fast: dict[str, float]) -> dict[str, float]:
    """How many times faster, by wall and by core time; the smaller one counts."""
    by = {k: slow[f"{k}_s"] / max(fast[f"{k}_s"], 1e-9) for k in ("wall", "core")}
    return {"wall": by["wall"], "core": by["core"], "counts": min(by.values())}


def scaled(spent: dict[str, float], factor: float) -> dict[str, float]:
    """So many times as long."""
    return {k: v * factor for k, v in spent.items()}


def added(*spent: dict[str, float]) -> dict[str, float]:
    """The sum of several."""
    return {k: sum(s[k] for s in spent) for k in ("wall_s", "core_s")}


def peak_memory_gb() -> float:
    """Largest resident memory of this process so far, in 1e9 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent of growth: slope of the least squares line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])
