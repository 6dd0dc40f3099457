"""A public data set: what it is, and what brings it here as a manifest."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hespotex.errors import ConfigError, shorten
from hespotex.progress import Reporter
from hespotex.public.download import Remote
from hespotex.sections.manifest import read_manifest
from hespotex.storage.atomic import atomic_path
from hespotex.storage.text_files import read_text

MANIFEST: Final = "sections.csv"
Row = Mapping[str, object]


@dataclass(frozen=True)
class DataSet:
    """One public data set.

    Attributes:
        name: as `fetch` takes it.
        title: what it is.
        tissue, patients, size: in words.
        licence: of its publisher.
        address: where it is published.
        ids: what `--ids` means.
        bring: fetches the chosen ids (None: all) into a folder, and returns the rows of the manifest.
        needs_ids: whether it is too large to be fetched whole.
        names: every id, where they are few; else `ids` says it in words.
        remotes: asks the publisher for its record, and returns files of it that anybody may have; None: cannot be asked.
    """

    name: str
    title: str
    tissue: str
    patients: str
    size: str
    licence: str
    address: str
    ids: str
    bring: Callable[[Sequence[str] | None, Path, Reporter], list[Row]]
    needs_ids: bool = False
    names: tuple[str, ...] = ()
    remotes: Callable[[], list[Remote]] | None = None


def chosen(known: Sequence[str], asked: Sequence[str] | None, what: str) -> list[str]:
    """The known ids that were asked for, in their order; all where none was named.

    Raises:
        ConfigError: one is not known.
    """
    if asked is None:
        return list(known)
    unknown = [one for one in asked if one not in known]
    if unknown:
        raise ConfigError(
            expected=f"ids of {what}: {shorten(known, 40)}",
            found=shorten([repr(u) for u in unknown]),
        )
    return [one for one in known if one in set(asked)]


def write_manifest(folder: Path, rows: Sequence[Row]) -> Path:
    """sections.csv of a folder; rows that an earlier call wrote stay.

    Raises:
        ManifestError: a row does not fit, or what it names is not there.
        RunError: the folder cannot be written.
    """
    path, kept = folder / MANIFEST, known_rows(folder)
    kept |= {str(row["section_id"]): row for row in rows}
    columns = list(dict.fromkeys(column for row in kept.values() for column in row))
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as handle,
    ):
        writer = csv.DictWriter(handle, columns, restval="")
        writer.writeheader()
        writer.writerows(kept.values())
        handle.flush()
        read_manifest(temporary)  # a manifest that does not fit gets no name
    return path


def known_rows(folder: Path) -> dict[str, Row]:
    """The rows that an earlier call wrote into a folder, by section.

    Raises:
        ConfigError: a file of that name lies there that is no manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    reader = csv.DictReader(io.StringIO(read_text(path, "a manifest of fetch", ConfigError)))
    if "section_id" not in (reader.fieldnames or ()):
        raise ConfigError(
            expected=f"a manifest of fetch, with a column section_id, in {path}",
            found=shorten(list(reader.fieldnames or ("nothing",))),
            remedy="choose another --out",
        )
    return {row["section_id"]: row for row in reader}
