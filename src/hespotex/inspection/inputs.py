"""INPUT of `inspect` and `convert`: a manifest, a folder or file of spots, a slide, a folder of slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hespotex.errors import ConfigError, HESpotExError, ManifestError, SlideError
from hespotex.sections.manifest import CheckedRow, read_rows
from hespotex.sections.section import ManifestRow
from hespotex.slide import check_folder, is_zarr, open_slide, slide_names, slides_in
from hespotex.spots.base import Recognised
from hespotex.spots.registry import READERS, recognise
from hespotex.storage.text_files import TABLE_SUFFIXES

InputKind = Literal["manifest", "spots", "slide", "folder of slides"]

_SOURCE = "-"


@dataclass(frozen=True)
class Input:
    """An input as rows of a manifest.

    Attributes:
        rows: one a section or slide.
        notes: what was assumed to look at it, one sentence each.
        broken: rows of a manifest that are no rows.
        doubt: what was passed over in a folder, though it may hold slides; None where there is nothing.
    """

    path: Path
    kind: InputKind
    rows: tuple[ManifestRow, ...]
    notes: tuple[str, ...] = ()
    broken: tuple[CheckedRow, ...] = ()
    doubt: str | None = None


def resolve_input(
    path: Path,
    *,
    slide: Path | None = None,
    sections: Sequence[str] | None = None,
    library: str | None = None,
    bits: int | None = None,
) -> Input:
    """Tell what an input is from its name and what lies in it.

    Args:
        slide: the full-resolution image of a folder or file of spots.
        library: which section of a folder or file of spots that holds several.
        bits: of a sample of the slides, that hold the picture; the manifest's own go before.

    Raises:
        ManifestError: it is a manifest without a good header or row.
        ConfigError: a library of something else than spots.
        SlideError: nothing lies there.
    """
    found = _resolved(path, slide, sections, library)
    if bits is None:
        return found
    return replace(found, rows=tuple(replace(row, bits=row.bits or bits) for row in found.rows))


def _resolved(
    path: Path, slide: Path | None, sections: Sequence[str] | None, library: str | None
) -> Input:
    if not path.exists():
        raise SlideError(
            expected="a slide, a folder of spots or a manifest",
            found=f"nothing at {path}",
            remedy="check the path",
        )
    check_folder(path)
    known = recognise(path)
    if known is not None:
        return _spots(path, slide, library, *known)
    if library is not None:
        raise ConfigError(
            expected="a folder or file of spots with --library",
            found=path.name,
            remedy="a manifest has the column library",
        )
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return _manifest(path, sections)
    if path.is_dir() and not is_zarr(path):
        found = slides_in(path)
        if not found.slides:
            raise SlideError(
                expected=f"Space Ranger, Visium HD or Xenium output, a .zarr store or slides in the folder {path}",
                found=", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing",
                remedy="give a manifest",
            )
        named = zip(slide_names(found.slides), found.slides, strict=True)
        rows = tuple(ManifestRow(name, _SOURCE, p) for name, p in named)
        notes = (found.remark,) if found.remark else ()
        return Input(path, "folder of slides", rows, notes, doubt=found.doubt)
    return Input(path, "slide", (ManifestRow(_name(path), _SOURCE, path),))


def _manifest(path: Path, sections: Sequence[str] | None) -> Input:
    """The good rows and the broken ones, each by itself."""
    checked = read_rows(path)
    if sections is not None:
        known = [row.name for row in checked]
        unknown = [name for name in sections if name not in known]
        if unknown or not sections:
            asked = ", ".join(unknown) or "an empty list"
            raise ManifestError(
                str(path), [f"expected sections of {', '.join(known)}, found {asked} asked for"]
            )
        checked = tuple(row for row in checked if row.name in sections)
    rows = tuple(row.row for row in checked if row.row is not None)
    return Input(path, "manifest", rows, broken=tuple(r for r in checked if r.problems))


def _spots(
    path: Path, slide: Path | None, library: str | None, format_name: str, known: Recognised
) -> Input:
    """The input as one section of a format."""
    values, notes = dict(known.values), list(known.notes)
    if slide is None:
        slide = known.slide
        notes += [known.slide_note] if known.slide_note else []
        if known.images:
            slide = _largest(known.images, values, notes)
    holds = "expression" if "expression" in READERS[format_name].columns else "spots"
    given = {"slide": slide, holds: path, "format": format_name, "library": library}
    row = ManifestRow(_name(path), _SOURCE, **given | values)  # type: ignore[arg-type]
    return Input(path, "spots", (row,), tuple(notes))


def _largest(
    images: Mapping[str, Path], values: dict[str, object], notes: list[str]
) -> Path | None:
    """The largest image of a store that can be a slide; None where none can."""
    sizes = {}
    for name, path in images.items():
        try:
            with open_slide(path) as image:
                sizes[name] = image.width_px0 * image.height_px0
        except HESpotExError:
            continue  # a fluorescence image lies in the store too
    if not sizes:
        return None
    chosen = max(sizes, key=lambda name: sizes[name])
    notes.append(f"took the image {chosen} of the store as slide, out of {', '.join(images)}")
    values["image_element"] = chosen
    return images[chosen]


def _name(path: Path) -> str:
    """Name of a section: of the file without its ending, of the sample's folder for `outs`."""
    whole = path.resolve()
    named = whole.parent if whole.name == "outs" else whole
    return named.name.removesuffix(".gz").rsplit(".", 1)[0] or named.name


def only_section(found: Input, section_id: str | None) -> ManifestRow:
    """The one section that is meant, with spots.

    Raises:
        ManifestError: there are several and none was chosen, the id is unknown, or it has no spots.
    """
    ids = [row.section_id for row in found.rows if row.has_spots]
    if found.broken:
        raise ManifestError(str(found.path), [p for row in found.broken for p in row.problems])
    chosen = [r for r in found.rows if r.has_spots and section_id in {None, r.section_id}]
    if len(chosen) != 1:
        asked = "none chosen" if section_id is None else section_id
        raise ManifestError(
            str(found.path),
            [
                f"expected one section with spots of {', '.join(ids) or 'none'}, found {asked}; use --section ID"
            ],
        )
    return chosen[0]
