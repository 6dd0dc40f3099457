"""A listener that keeps what is said, and warned of."""

from __future__ import annotations

from hespotex.progress import Silent


class Heard(Silent):
    """Sentences in the order in which they came."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)
