"""The errors that a user can cause.

Every error says what was expected, what was found, in which file, and what to do. The command line prints it as
one line and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self


class HESpotExError(Exception):
    """Base of all errors that the user can cure.

    The fields become text once, in `str`: "section S: expected A, found B; do C".

    Attributes:
        what: what is wrong, where it is no matter of expected and found.
        expected: what was expected, its file named.
        found: what was there instead.
        cause: why nothing could be found; "found: cause" in the text.
        remedy: what to do.
        section: id of the section, or stem of the slide, that the error is about.
    """

    def __init__(
        self,
        what: str = "",
        *,
        expected: str = "",
        found: object = "",
        cause: object = "",
        remedy: str = "",
        section: str | None = None,
    ) -> None:
        self.what, self.expected, self.found, self.cause = what, expected, str(found), str(cause)
        self.remedy, self.section = remedy, section
        super().__init__(self.message)

    @property
    def finding(self) -> str:
        """What is wrong, on one line, without section and remedy."""
        if self.what:
            return _one_line(self.what)
        tail = f": {self.cause}" if self.cause else f" {self.found}"
        return _one_line(f"expected {self.expected}, found{tail}")

    @property
    def message(self) -> str:
        """What is wrong and what to do, without the section."""
        return f"{self.finding}; {_one_line(self.remedy)}" if self.remedy else self.finding

    def of_section(self, section: str) -> None:
        """Say which section the error is about, where nobody did before it was passed on."""
        if self.section is None:
            self.section = section

    def __str__(self) -> str:
        about = "" if self.section is None else f"section {_one_line(self.section)}: "
        return about + self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel from worker processes with their fields."""
        return (type(self).__new__, (type(self), *self.args), self.__dict__)


def _one_line(text: str) -> str:
    """What was found may hold any character that breaks a line."""
    return " ".join(text.splitlines())


class SlideError(HESpotExError):
    """A slide cannot be opened, or a region of it cannot be read."""


class SpotTableError(HESpotExError):
    """Spot positions or counts are missing, malformed or contradict the slide."""


class GeometryError(HESpotExError):
    """Pixel size, pitch or positions are unknown or contradict each other."""


class GenePanelError(HESpotExError):
    """Genes that were asked for are not in the data, or no gene passes the panel's rules."""


class EncoderError(HESpotExError):
    """An encoder is unknown, or its weights are not on this machine."""


class NucleiError(HESpotExError):
    """Nuclei cannot be found: no segmenter, no weights, a coarse slide, or a mask that does not fit."""


class ModelFileError(HESpotExError):
    """A model file is truncated, foreign, newer than this version, or does not fit its use."""


class DownloadError(HESpotExError):
    """A file of the web cannot be had, or is not the one that its publisher's checksum names."""


class ConfigError(HESpotExError):
    """A configuration key or value is wrong."""


class RunError(HESpotExError):
    """An output folder belongs to another run, or cannot be written."""


class ManifestError(HESpotExError):
    """All problems of one manifest at once.

    Args:
        problems: one sentence each, naming row and column.
    """

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = counted(len(self.problems), "problem")
        super().__init__(f"manifest {path} has {count}: " + " | ".join(self.problems))

    @classmethod
    def about(cls, path: Path) -> Callable[..., Self]:
        """What makes the fields of any error the only problem of this manifest."""
        return lambda **fields: cls(str(path), [HESpotExError(**fields).message])


def shorten(names: Sequence[str], limit: int = 10) -> str:
    """The first few names of a list, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


def counted(n: int, noun: str) -> str:
    """`1 section`, `1,024 sections`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
