"""Parts of a fit, a calibration or a prediction side by side, each on one core, so that no sum depends on their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Run(Protocol):
    """`map`, or an executor's: results in the order of the parts."""

    def __call__(self, work: Callable[[A], B], parts: Iterable[A], /) -> Iterable[B]:
        """`work` of every part."""


def in_turn(work: Callable[[A], B], parts: Iterable[A], /) -> Iterable[B]:
    """Do one part after the other, where sharing is not worth it."""
    return map(work, parts)


@contextmanager
def one_thread() -> Iterator[int]:
    """One thread each for torch and the BLAS behind numpy inside the block; yields how many torch had before."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield threads
    finally:
        torch.set_num_threads(threads)


@contextmanager
def workers() -> Iterator[Run]:
    """As many workers as torch may use threads, with one thread each."""
    with one_thread() as threads:
        if threads == 1:
            yield in_turn
        else:
            with ThreadPoolExecutor(threads, "hespotex-fit") as pool:
                yield pool.map
