"""The interface through which long work tells of its progress, and bars for Python sessions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

Advance = Callable[[int], None]
# What Python functions take: whether to draw bars, or who hears of progress; None decides by who looks.
Progress: TypeAlias = "bool | Reporter | None"


class Reporter(Protocol):
    """What the command line, a notebook or a test hands in to hear of progress."""

    def task(self, description: str, total: int) -> AbstractContextManager[Advance]:
        """Open a task of `total` steps; the returned function advances it by so many."""

    def say(self, message: str) -> None:
        """Tell one thing that the user should know."""

    def warn(self, message: str) -> None:
        """Tell one thing that the user must not overlook."""


class Silent:
    """A reporter that says nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Ignore progress."""
        yield lambda _steps: None

    def say(self, message: str) -> None:
        """Ignore the message."""

    def warn(self, message: str) -> None:
        """Ignore the message."""


class Bars:
    """Bars and lines on standard error, in a terminal or a notebook."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show a bar while the block runs."""
        from tqdm import tqdm

        with tqdm(total=total, desc=description, leave=False, file=sys.stderr) as bar:
            yield lambda steps: (bar.update(steps), None)[1]

    def say(self, message: str) -> None:
        """Print a line."""
        from tqdm import tqdm

        tqdm.write(message, file=sys.stderr)  # above a bar that is drawn

    def warn(self, message: str) -> None:
        """Print a line that says so."""
        self.say(f"warning: {message}")


def heard(progress: Progress) -> Reporter:
    """Who hears of a Python function's progress.

    Args:
        progress: True draws bars and False says nothing; a reporter is kept as it is; None draws bars in a terminal or
            a notebook and says nothing elsewhere.
    """
    if progress is None:
        looked_at = sys.stderr is not None and (_in_notebook() or sys.stderr.isatty())
        return Bars() if looked_at else Silent()
    if isinstance(progress, bool):
        return Bars() if progress and sys.stderr is not None else Silent()
    return progress


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this process; nothing is imported to find out."""
    return "ipykernel" in sys.modules and "IPython" in sys.modules
