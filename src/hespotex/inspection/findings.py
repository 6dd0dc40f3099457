"""Finding, one line of a preflight: what was found, how bad it is, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from hespotex.config import InputChoices

Level = Literal["ok", "info", "warning", "error"]
Colour = Literal["green", "yellow", "red"]

COLOURS: Final[dict[Level, Colour]] = {
    "ok": "green",
    "info": "green",
    "warning": "yellow",
    "error": "red",
}
_EXIT_CODES: Final[dict[Colour, int]] = {"green": 0, "yellow": 1, "red": 2}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: id of the section, stem of the slide, or the input's name.
        topic: slide, scale, position, counts, genes, depth, left out, content, features, reading.
        level: `ok` and `info` need nothing; `warning` should be looked at; `error` stops a run.
        remedy: what to do; empty where there is nothing to do.
    """

    subject: str
    topic: str
    level: Level
    found: str
    remedy: str = ""

    @property
    def colour(self) -> Colour:
        """As in a traffic light."""
        return COLOURS[self.level]

    def __str__(self) -> str:
        tail = f"; {self.remedy}" if self.remedy else ""
        return f"section {self.subject}: {self.found}{tail}"

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {**asdict(self), "colour": self.colour}


def accept_findings(
    findings: Sequence[Finding], choices: InputChoices
) -> tuple[list[Finding], dict[str, list[str]]]:
    """Red findings that the user accepts become yellow.

    Returns:
        all findings, and what was accepted, by section: one sentence each, for the record.
    """
    weighed: list[Finding] = []
    accepted: dict[str, list[str]] = {}
    for finding in findings:
        if finding.level == "error" and choices.accepts(finding.topic, finding.subject):
            accepted.setdefault(finding.subject, []).append(f"{finding.topic}: {finding.found}")
            weighed.append(
                replace(finding, level="warning", found=f"accepted by the user: {finding.found}")
            )
        else:
            weighed.append(finding)
    return weighed, accepted


def verdict(findings: Iterable[Finding]) -> Colour:
    """The worst colour; green where nothing was found."""
    order: tuple[Colour, ...] = ("green", "yellow", "red")
    return max((f.colour for f in findings), key=order.index, default="green")


def exit_code(findings: Iterable[Finding]) -> int:
    """0 for green, 1 for yellow, 2 for red."""
    return _EXIT_CODES[verdict(findings)]
