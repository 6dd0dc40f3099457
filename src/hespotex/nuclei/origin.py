"""Where nuclei come from, as a user says it: a segmenter, a mask, a folder of masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, get_args

from hespotex.config import NucleiSource
from hespotex.errors import ConfigError

SOURCES: Final[tuple[NucleiSource, ...]] = get_args(NucleiSource)
MASK_SUFFIXES: Final = (".npy", ".tif", ".tiff", ".png", ".geojson", ".json")


@dataclass(frozen=True)
class NucleiOrigin:
    """Where nuclei come from.

    Attributes:
        source: a segmenter, or `mask`.
        path: of `mask`: a file, or a folder with one file a section; None takes the manifest's column.
        text: as the user wrote it.
    """

    source: NucleiSource
    path: Path | None = None
    text: str = field(default="", compare=False)

    @classmethod
    def asked(cls, text: str | None) -> Self | None:
        """What `--nuclei` says, parsed; None where nothing was said.

        Raises:
            ConfigError: another word, or a path where nothing is.
        """
        return None if text is None else cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """`classical`, `instanseg`, `cellpose`, `mask` (the manifest's column), `mask:PATH`.

        Raises:
            ConfigError: another word, or a path where nothing is.
        """
        name, colon, rest = text.partition(":")
        if name not in SOURCES or (colon and (name != "mask" or not rest)):
            raise ConfigError(
                expected=f"--nuclei {' | '.join(SOURCES)} or mask:PATH", found=f"{text!r}"
            )
        path = Path(rest).expanduser() if colon else None
        if path is not None and not path.exists():
            raise ConfigError(expected="a mask or a folder of masks", found=f"nothing at {path}")
        return cls(name, path, text)

    def resolved(self) -> str:
        """What `parse` takes, with an absolute path: for a process in another working directory."""
        return self.source if self.path is None else f"{self.source}:{self.path.resolve()}"

    def mask_of(self, section_id: str, listed: Path | None) -> Path | None:
        """The mask of one section; None where another source is meant.

        Args:
            section_id: names the file in a folder of masks.
            listed: what the manifest says.

        Raises:
            ConfigError: there is no mask, or the folder holds none, or several, of this section.
        """
        if self.source != "mask":
            return None
        if self.path is None:
            if listed is None:
                raise ConfigError(
                    expected="a nuclei mask in the manifest's column `nuclei`",
                    found="none",
                    remedy="add it, or give --nuclei mask:PATH or a segmenter",
                    section=section_id,
                )
            return listed
        if self.path.is_file():
            return self.path
        found = [p for s in MASK_SUFFIXES if (p := self.path / f"{section_id}{s}").is_file()]
        if len(found) != 1:
            names = ", ".join(p.name for p in found) or "none"
            raise ConfigError(
                expected=f"one mask {section_id}.* ({', '.join(MASK_SUFFIXES)}) in {self.path}",
                found=names,
                section=section_id,
            )
        return found[0]
