"""Findings about inputs that a user accepts, where the preflight would stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hespotex.errors import ConfigError

Grid = Literal["hexagonal", "square"]

ACCEPTABLE: Mapping[str, str] = {
    "mpp": "the manifest's mpp counts against every other source of the pixel size",
    "position": "spots are used where they lie, although the tissue speaks for another place",
    "outside": "spots outside the image are left out",
    "genes": "names or species of genes differ between sections",
}
"""What the preflight refuses and a user may accept, and what that means."""


@dataclass(frozen=True)
class InputChoices:
    """Decisions of a user about inputs where the preflight would stop; each use of one is recorded.

    Attributes:
        accept: `CODE` of `ACCEPTABLE` for all sections, or `CODE:SECTION` for one.
        allow_hires: take Space Ranger's down-scaled image where the full one is missing.
        grid: lattice into which cells and bins are pooled; None: hexagonal for cells, square for bins.
        gene_names: table of Ensembl ids and symbols, by which genes that are named differently are joined.
    """

    accept: tuple[str, ...] = ()
    allow_hires: bool = False
    grid: Grid | None = None
    gene_names: Path | None = None

    def __post_init__(self) -> None:
        for item in self.accept:
            code, separator, section = item.partition(":")
            if code not in ACCEPTABLE or (separator and not section):
                known = "; ".join(f"{name} ({means})" for name, means in ACCEPTABLE.items())
                raise ConfigError(
                    expected="CODE or CODE:SECTION with --accept",
                    found=f"{item!r}",
                    remedy=f"codes are {known}",
                )

    def accepts(self, code: str, section_id: str) -> bool:
        """Whether a refusal of this kind is accepted for a section."""
        return code in self.accept or f"{code}:{section_id}" in self.accept

    @property
    def named_sections(self) -> tuple[str, ...]:
        """Sections that are named in `accept`."""
        return tuple(item.partition(":")[2] for item in self.accept if ":" in item)
