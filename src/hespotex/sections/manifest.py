"""The manifest: a table of sections and slides, checked as a whole before any work is done."""

from __future__ import annotations

import csv
import errno
import math
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from hespotex.config.values import listed_names
from hespotex.errors import ManifestError, SlideError
from hespotex.sections.section import ManifestRow
from hespotex.slide import image_path
from hespotex.slide.bit_depth import LEAST_BITS, MOST_BITS
from hespotex.spots.base import OF_FORMATS, Reader
from hespotex.spots.registry import READERS, formats_with
from hespotex.storage.disk_errors import disk_words, remedy_of
from hespotex.storage.text_files import read_text

__all__ = ["Manifest", "ManifestRow", "read_manifest"]

_REQUIRED: Final = ("section_id", "patient_id", "slide")
_PATHS: Final = ("slide", "expression", "spots", "labels", "features", "alignment", "nuclei")
_NUMBERS: Final = ("mpp", "spot_pitch_um", "spot_diameter_um", "bin_um", "tile_px")
COLUMNS: Final = (
    "section_id", "patient_id", "slide", "expression", "format", "spots", "mpp", "spot_pitch_um",
    "spot_diameter_um", "bits", "labels", "features", "tile_px", "alignment", "bin_um", "image_element",
    "table_element", "missing_genes", "nuclei", "library", "series", "order",
)  # fmt: skip
_CARRIED: Final = ("series", "order")  # slices of one block
# Names of files add an ending to the id, those of half-written ones more: file systems end at 255 bytes.
MAX_ID_BYTES: Final = 150
_NOT_IN_FILE_NAMES: Final = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_MISSING_GENES: Final = ("zero", "unmeasured")


@dataclass(frozen=True)
class Manifest:
    """A checked manifest.

    Attributes:
        rows: its sections and slides, in order.
    """

    path: Path
    rows: tuple[ManifestRow, ...]

    @property
    def section_ids(self) -> tuple[str, ...]:
        """Ids in order."""
        return tuple(row.section_id for row in self.rows)


def read_manifest(path: Path, sections: Sequence[str] | None = None) -> Manifest:
    """Read a CSV or TSV manifest; paths in it are relative to its folder.

    Args:
        path: the table, UTF-8, separated by commas or tabs.
        sections: ids to keep, in the manifest's order; None: all.

    Raises:
        ManifestError: everything that is wrong with it, at once.
    """
    checked = read_rows(path)
    problems = [problem for row in checked for problem in row.problems]
    if problems:
        raise ManifestError(str(path), problems)
    rows = [row.row for row in checked if row.row is not None]
    return Manifest(path, _select(path, rows, sections))


@dataclass(frozen=True)
class CheckedRow:
    """A row of a manifest, good or not.

    Attributes:
        name: its section id as given, or `row N`.
        row: None where there are problems.
        problems: what is wrong with it, one sentence each.
    """

    name: str
    row: ManifestRow | None
    problems: tuple[str, ...] = ()


def read_rows(path: Path) -> tuple[CheckedRow, ...]:
    """Every row of a manifest with its own problems, so that one bad row does not hide the good ones.

    Raises:
        ManifestError: the file cannot be read as a table, has a wrong header, or no row.
    """
    header, lines = _read_cells(path)
    problems = _header_problems(header)
    if not lines and not problems:
        problems.append("expected at least one row below the header, found none")
    if problems:
        raise ManifestError(str(path), problems)
    checked: list[CheckedRow] = []
    places: dict[str, int] = {}
    patients: dict[str, tuple[str, int]] = {}
    for number, cells in lines:
        row, found = _check_row(dict(zip(header, cells, strict=False)), number, path.parent)
        whole = len(cells) == len(header)
        if not whole:
            found = [f"row {number}: expected {len(header)} cells, found {len(cells)}"]
        identifier = cells[header.index("section_id")] if whole else ""
        if identifier:
            found = [*found, *_doubled(identifier, number, places)]
        if row is not None and row.expression is not None:
            found = [*found, *_respelled(row.patient_id, number, patients)]
        name = identifier or f"row {number}"
        checked.append(CheckedRow(name, None if found else row, tuple(found)))
    return tuple(checked)


def _select(
    path: Path, rows: Sequence[ManifestRow], sections: Sequence[str] | None
) -> tuple[ManifestRow, ...]:
    if sections is None:
        return tuple(rows)
    sections = listed_names("sections", sections)
    known = [row.section_id for row in rows]
    unknown = [name for name in sections if name not in known]
    if unknown or not sections:
        raise ManifestError(
            str(path),
            [
                f"expected sections of {', '.join(known)}, found {', '.join(unknown) or 'an empty list'} asked for"
            ],
        )
    return tuple(row for row in rows if row.section_id in set(sections))


def _read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and (row number in the file, cells); stripped, empty lines left out."""

    text = read_text(path, "a manifest", ManifestError.about(path))
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = "\t" if "\t" in first else ","
    if delimiter == "," and "," not in first and ";" in first:
        raise ManifestError(
            str(path),
            [
                "expected columns separated by commas or tabs, found semicolons; save it as CSV with commas"
            ],
        )
    if "\x00" in text:
        raise ManifestError(str(path), ["expected a text table, found a binary file"])
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                rows.append((reader.line_num, stripped))
    except csv.Error as error:
        raise ManifestError(
            str(path), [f"row {reader.line_num}: expected a CSV row, found: {error}"]
        ) from error
    if not rows:
        raise ManifestError(
            str(path), [f"expected a header with {', '.join(_REQUIRED)}, found an empty file"]
        )
    return rows[0][1], rows[1:]


def _header_problems(header: Sequence[str]) -> list[str]:
    problems = [
        f"column {name}: expected it in the header, found {', '.join(header)[:200]}"
        for name in _REQUIRED
        if name not in header
    ]
    for name in dict.fromkeys(header):
        if header.count(name) > 1:
            problems.append(
                f"column {name or '(empty)'}: expected once, found {header.count(name)} times"
            )
        elif name not in COLUMNS and not (name.startswith("x_") and len(name) > 2):
            problems.append(
                f"column {name or '(empty)'}: expected one of {', '.join(COLUMNS)}, or a name that starts with x_, "
                "found an unknown one"
            )
    return problems


def _check_row(
    cells: Mapping[str, str], number: int, folder: Path
) -> tuple[ManifestRow | None, list[str]]:
    """The row, or all its problems."""
    place = f"row {number}"
    if cells.get("section_id"):
        place += f" (section {cells['section_id']})"
    problems: list[str] = []
    values: dict[str, Any] = {}

    def take(column: str, parse: Callable[[str], Any]) -> None:
        text = cells.get(column, "")
        if text:
            try:
                values[column] = parse(text)
            except ValueError as error:
                problems.append(f"{place}, column {column}: {error}")

    take("section_id", _identifier)
    take("missing_genes", lambda text: _one_of(text, _MISSING_GENES))
    take("format", _format)
    for column in ("patient_id", "image_element", "table_element", "library"):
        take(column, str)
    for column in _NUMBERS:
        take(column, _positive_number)
    take("bits", _bits)
    reader = READERS.find(cells.get("format", ""))
    for column in _PATHS:
        folder_ok = column in {"expression", "spots"} and reader is not None and reader.folders
        take(column, partial(_existing, folder=folder, folder_ok=folder_ok))
    problems += [f"{place}, {problem}" for problem in _combination_problems(cells)]
    if "slide" in values and values["slide"].is_dir():
        try:
            values["slide"] = image_path(values["slide"], values.get("image_element"))
        except SlideError as error:
            problems.append(f"{place}, column slide: {error}")
    if problems:
        return None, problems
    extra = {name: cells[name] for name in cells if name.startswith("x_") or name in _CARRIED}
    values.setdefault("slide", None)
    return ManifestRow(**values, extra=extra), []


def _combination_problems(cells: Mapping[str, str]) -> list[str]:
    """What a row lacks, or has too much, given its format."""
    has = {name for name, text in cells.items() if text}
    kind = cells.get("format", "")
    reader = READERS.find(kind)
    problems = []
    if "section_id" not in has:
        problems.append("column section_id: expected a name, found an empty cell")
    if "patient_id" not in has:
        problems.append(
            "column patient_id: expected whose tissue it is, found an empty cell; give all sections of one donor "
            "the same name (folds leave out whole patients, so a wrong one makes scores too good)"
        )
    if "bits" in has and "slide" not in has:
        problems.append(
            f"column bits: expected a slide with it, found {cells['bits']!r} alone; empty the cell"
        )
    if "tile_px" in has and "features" not in has:
        problems.append(
            f"column tile_px: expected features with it, found {cells['tile_px']!r} alone; empty the cell"
        )
    if not has & {"slide", "features"}:
        problems.append("column slide: expected an image file, found an empty cell")
    if not kind:
        problems += [
            f"column {name}: expected a format with it, found none; set the column format to one of "
            f"{', '.join(READERS)}"
            for name in ("expression", "spots")
            if name in has
        ]
    elif (reader is None or "expression" in reader.columns) and not has & {"expression", "spots"}:
        problems.append(
            f"column expression: expected the counts for format {kind}, found an empty cell; empty the column "
            "format too for a slide without spots"
        )
    elif reader is not None and reader.needs_spots and "spots" not in has:
        problems.append(f"column spots: expected {reader.needs_spots}, found an empty cell")
    if reader is not None:
        problems += [
            f"column {name}: applies to {', '.join(formats_with(name))} only, found {cells[name]!r} for {kind}; empty the cell"
            for name in _unused(reader, cells)
        ]
    return problems


def _unused(reader: Reader, cells: Mapping[str, str]) -> list[str]:
    """Filled columns that the format does not use, and so would be passed over silently."""
    stored = ".zarr" in cells.get("slide", "")  # image_element names the slide's image there
    used = {*reader.columns, *(("image_element",) if stored else ())}
    return [name for name in OF_FORMATS if cells.get(name) and name not in used]


def _format(text: str) -> str:
    if READERS.find(text) is None:
        raise ValueError(f"expected one of {', '.join(READERS)}, found {text!r}")
    return text


def _folded(name: str) -> str:
    """What two spellings of one name have in common: case, and accents as letters of their own or not."""
    return unicodedata.normalize("NFC", name).casefold()


def _doubled(identifier: str, number: int, places: dict[str, int]) -> list[str]:
    # File systems of macOS and Windows do not tell C2 from c2, and ids name files.
    key = _folded(identifier)
    if key in places:
        return [
            f"row {number}, column section_id: expected every id once (upper and lower case count as equal), "
            f"found {identifier} also in row {places[key]}"
        ]
    places[key] = number
    return []


def _respelled(patient: str, number: int, spellings: dict[str, tuple[str, int]]) -> list[str]:
    """One patient under two spellings would stand on both sides of a fold."""
    first, row = spellings.setdefault(_folded(patient), (patient, number))
    if patient == first:
        return []
    return [
        f"row {number}, column patient_id: expected one spelling of a patient (ids that differ only in case are "
        f"taken for one), found {patient}, and {first} in row {row}; write both alike, or make them differ"
    ]


def _identifier(text: str) -> str:
    found = _NOT_IN_FILE_NAMES.search(text)
    if found or text.startswith(".") or len(text.encode()) > MAX_ID_BYTES:
        why = (
            repr(found[0])
            if found
            else "a leading dot"
            if text[0] == "."
            else f"more than {MAX_ID_BYTES} bytes"
        )
        raise ValueError(f"expected a name that can name a file, found {text[:60]!r} with {why}")
    return text


def _one_of(text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise ValueError(f"expected one of {', '.join(known)}, found {text!r}")
    return text


def _positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        hint = "; write the decimal point as a dot" if "," in text else ""
        raise ValueError(f"expected a number above 0, found {text!r}{hint}")
    return value


def _found_as(text: str, folder: Path) -> tuple[Path, bool]:
    """The path that a cell means, and whether it is there, also under other spellings of the same name.

    macOS takes letters with accents apart where others write them as one; Windows writes backslashes.
    """
    spellings = [
        unicodedata.normalize(form, written)
        for written in (text, text.replace("\\", "/"))
        for form in ("NFC", "NFD")
    ]
    paths = [
        Path(os.path.abspath(folder / os.path.expanduser(written)))
        for written in (text, *spellings)
    ]
    return next(((path, True) for path in paths if path.exists()), (paths[0], False))


def _hint(text: str) -> str:
    if re.match(r"[A-Za-z]:[\\/]|\\\\", text) and os.name != "nt":
        return "this is a path of Windows: write where the file lies on this machine"
    return "paths are relative to the manifest"


def _bits(text: str) -> int:
    if not (text.isdecimal() and LEAST_BITS <= int(text) <= MOST_BITS):
        raise ValueError(f"expected a whole number of {LEAST_BITS} to {MOST_BITS}, found {text!r}")
    return int(text)


def _existing(text: str, folder: Path, folder_ok: bool) -> Path:
    try:
        path, exists = _found_as(text, folder)
    except OSError as error:  # a name too long for the file system
        raise ValueError(f"expected a file, found {text[:60]!r}: {disk_words(error)}") from error
    if not exists:
        kind = "a link that leads nowhere" if path.is_symlink() else "nothing"
        raise ValueError(f"expected a file at {path}, found {kind}; {_hint(text)}")
    in_store = any(p.suffix == ".zarr" for p in (path, *path.parents))
    if path.is_dir() and not folder_ok and not in_store:
        raise ValueError(f"expected a file, found the folder {path}")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        found = f"found {path} without permission to read; {remedy_of(refused)}"
        raise ValueError(f"expected a readable file, {found}")
    return path
