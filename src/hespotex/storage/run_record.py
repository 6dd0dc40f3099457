"""run.json: what a run depends on, and whether it is finished; and what is said of a slide, there and in slides.csv."""

# ruff: noqa: RUF012 - pydantic gives every instance its own copy of a default

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from hespotex import keys
from hespotex.storage.atomic import atomic_path
from hespotex.storage.schema import JsonFile, Schema

SlideStatus = Literal["done", "skipped", "failed", "unfinished"]


class SlideRow(Schema):
    """What came of a slide, a row of slides.csv: what does not change from one machine to another."""

    section_id: str
    """Names its files."""
    status: SlideStatus
    """`skipped` where the very same prediction was there already; `unfinished` while a process is at it, or killed."""
    n_spots: int = 0
    """Predicted spots."""
    n_bad: int = 0
    """Spots whose pixels could not be read; they carry NaN."""
    verdict: str = ""
    """Of the out-of-distribution check; empty where the model has none."""
    why: str = ""
    """The error, or what to know."""

    @property
    def ended(self) -> bool:
        """Whether there is a prediction."""
        return self.status in ("done", "skipped")


class SlideRecord(JsonFile):
    """slides/KEY.json: what one process knows of its slide."""

    holds: ClassVar[str] = "the record of a slide"
    remedy: ClassVar[str] = "delete that file"

    outcome: SlideRow
    """What came of it."""
    slide: str
    """Key of its path."""
    source: str
    """Key of the input that named it."""
    content: str | None = None
    """Key of its content, where there is a prediction and the slide was still there."""


class Identity(Schema):
    """What the result of a run depends on; every verb adds keys of its own."""

    verb: str = ""
    """The command."""
    hespotex: str = ""
    """Version of this program."""
    config: dict[str, Any] = {}
    """Of the run."""
    inputs: dict[str, dict[str, Any]] = {}
    """By section: keys of what a fit sees of it, and what the user `accepted`."""


class RunRecord(JsonFile):
    """run.json."""

    holds: ClassVar[str] = "the record of a run"
    remedy: ClassVar[str] = "delete that folder or choose another --out"

    status: Literal["running", "finished"] = "running"
    """Finished when everything else is written."""
    identity: Identity = Identity()
    """What the result depends on: a folder is of one identity."""
    slides: list[SlideRow] = []
    """Every slide without spots; absent for sections."""
    config: dict[str, Any] = {}
    """The whole configuration; absent for slides."""
    level: str = ""
    """Whether slides are told apart, in words; absent for a profile without a level."""
    reading: str = ""
    """How slides were read and why, in words; absent for slides without spots, whose tables say it."""
    notes: list[str] = []
    """Sentences that numbers must carry, of a scored run."""
    seconds: dict[str, float] = {}
    """By stage, of the process that wrote the file last."""
    peak_memory_mib: float | None = None
    """Of that process; None where the system does not tell."""
    versions: dict[str, str] = {}
    """Of libraries that numbers depend on."""


def write_slides(path: Path, rows: Sequence[SlideRow], level: str = "") -> None:
    """Write slides.csv; characters of names that are no text are written as escapes.

    Args:
        level: whether the model tells slides apart, in words: a column, beside that of what the numbers are for.
    """
    import pandas as pd

    table = pd.DataFrame([row.model_dump() for row in rows], columns=list(SlideRow.model_fields))
    table = table.assign(level=level, use=keys.RESEARCH_USE)
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, errors="backslashreplace")
