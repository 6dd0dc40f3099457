"""The errors that a user can cause.

Every message says what was expected, what was found, in which file, and what to do, on one line.
The command line prints the message and exits with code 2; nothing else catches these.
"""

from __future__ import annotations

from collections.abc import Sequence


class HESpotExError(Exception):
    """Base of all errors that the user can cure.

    Args:
        message: what was expected, what was found, in which file, what to do.
        section: id of the section, or stem of the slide, that the error is about.
    """

    def __init__(self, message: str, *, section: str | None = None) -> None:
        whole = message if section is None else f"section {section}: {message}"
        # What was found may hold any character that breaks a line; a message is one line.
        super().__init__(" ".join(whole.splitlines()))
        self.section = section


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


class ConfigError(HESpotExError):
    """A configuration key or value is wrong."""


class RunError(HESpotExError):
    """An output folder belongs to another run, or cannot be written."""


class ManifestError(HESpotExError):
    """All problems of one manifest at once.

    Args:
        path: the manifest, as the user gave it.
        problems: one sentence each, naming row and column.
    """

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__(f"manifest {path} has {count}: " + " | ".join(self.problems))


def shorten(names: Sequence[str], limit: int = 10) -> str:
    """The first few names of a list, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
