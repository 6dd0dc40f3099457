"""The interface through which long work tells of its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Reporter(Protocol):
    """What the command line, a notebook or a test hands in to hear of progress."""

    def task(self, description: str, total: int) -> AbstractContextManager[Advance]:
        """Open a task of `total` steps; the returned function advances it by so many."""

    def say(self, message: str) -> None:
        """Tell one thing that the user should know."""

    def warn(self, message: str) -> None:
        """Tell one thing that the user must not overlook."""


class Silent:
    """A reporter that says nothing: the default of every Python function."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Ignore progress."""
        yield lambda _steps: None

    def say(self, message: str) -> None:
        """Ignore the message."""

    def warn(self, message: str) -> None:
        """Ignore the message."""
