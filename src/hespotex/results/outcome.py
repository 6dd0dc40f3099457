"""The outcome of a run and of each of its slides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hespotex.errors import RunError, counted, shorten
from hespotex.storage.run_record import SlideRow, SlideStatus

if TYPE_CHECKING:
    from anndata import AnnData


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


@dataclass(frozen=True, repr=False)
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

    def adata(self, section_id: str) -> AnnData:
        """The prediction of one section or slide, as `predictions/<section_id>.h5ad` holds it.

        Raises:
            RunError: the run has no such section; names those that it has.
        """
        import anndata

        folder = self.paths.get("predictions")  # none where every slide failed
        files = {} if folder is None else {p.stem: p for p in Path(folder).glob("*.h5ad")}
        if section_id not in files:
            raise RunError(
                expected="a section of the run" + (f" in {folder}" if folder else ""),
                found=section_id,
                remedy=f"it has {shorten(sorted(files))}" if files else "it has none",
            )
        return anndata.read_h5ad(files[section_id])

    def __repr__(self) -> str:
        said = [str(self.metrics["headline"])] if self.metrics.get("headline") else []
        done = len(self.slides) - self.n_failed
        said += (
            [f"{counted(done, 'slide')} predicted, {self.n_failed} failed"] if self.slides else []
        )
        return "\n".join([*said, *(f"{label}: {path}" for label, path in self.paths.items())])

    @property
    def n_failed(self) -> int:
        """Slides that could not be predicted."""
        return sum(slide.status == "failed" for slide in self.slides)
