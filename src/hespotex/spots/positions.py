"""The format of positions alone: what `predict --spots` takes, as a row of a manifest."""

from __future__ import annotations

from pathlib import Path

from hespotex.errors import SpotTableError
from hespotex.spots.base import Reader, Recognised, SpotSource, SpotTable
from hespotex.spots.given import is_positions, read_positions
from hespotex.storage.text_files import TABLE_SUFFIXES


def read(source: SpotSource) -> SpotTable:
    """Read `spots`: a table with x and y in level-0 pixels, or the positions of a format that has them.

    Raises:
        SpotTableError: no file in `spots`, or counts are given, too.
    """
    if source.spots is None:
        raise SpotTableError(
            expected="a table with x and y in the manifest's column spots", found="none"
        )
    if source.expression is not None:
        raise SpotTableError(
            expected="positions alone",
            found=f"counts at {source.expression} too",
            remedy="set the format that wrote them",
        )
    return read_positions(source.spots, spot_pitch_um=source.spot_pitch_um, library=source.library)


def recognise(path: Path) -> Recognised | None:
    """A table with x and y in its header."""
    known = path.is_file() and path.suffix.lower() in TABLE_SUFFIXES and is_positions(path)
    return (
        Recognised(notes=("positions alone (format positions in a manifest)",)) if known else None
    )


READER = Reader(
    read,
    columns=("spots", "library"),
    needs_spots="a table with x and y (positions have no counts)",
    recognise=recognise,
)
