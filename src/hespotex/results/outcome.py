"""The outcome of a run and of each of its slides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hespotex.storage.run_record import SlideRow, SlideStatus


@dataclass(frozen=True)
class SlideOutcome:
    """The outcome of one slide.

    Attributes:
        section_id, status, n_spots, n_bad, verdict, why: as of `SlideRow`.
        paths: what was written, by label.
        seconds: by stage.
    """

    section_id: str
    status: SlideStatus
    n_spots: int = 0
    n_bad: int = 0
    verdict: str = ""
    why: str = ""
    paths: Mapping[str, Path] = field(default_factory=dict, compare=False)
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def skipped(self) -> bool:
        """Whether the very same prediction was there already."""
        return self.status == "skipped"

    @property
    def note(self) -> str:
        """What to know of a slide that did not fail."""
        return "" if self.status == "failed" else self.why

    def row(self) -> SlideRow:
        """What files say of it."""
        return SlideRow(**{name: getattr(self, name) for name in SlideRow.model_fields})


@dataclass(frozen=True)
class RunResult:
    """What a verb made.

    Attributes:
        paths: where results were written, by label.
        metrics: the content of metrics.json (`storage.metrics.Metrics` says what stands there); empty where nothing was scored.
        slides: one entry a slide without spots; empty for a manifest of sections.
        doubt: what was passed over in a folder, though it may hold slides; None where there is nothing.
    """

    paths: Mapping[str, Path]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    slides: tuple[SlideOutcome, ...] = ()
    doubt: str | None = None

    @property
    def n_failed(self) -> int:
        """Slides that could not be predicted."""
        return sum(slide.status == "failed" for slide in self.slides)
