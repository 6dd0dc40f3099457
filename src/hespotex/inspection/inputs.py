"""What an INPUT is: a manifest, a folder or file of spots, a slide, a folder of slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hespotex.errors import ConfigError, HESpotExError, ManifestError, SlideError
from hespotex.sections.manifest import CheckedRow, read_rows
from hespotex.sections.section import ManifestRow
from hespotex.slide import check_folder, image_names, is_zarr, open_slide, slide_names, slides_in
from hespotex.spots.given import is_positions
from hespotex.spots.other_anndata import is_zarr_table
from hespotex.storage.text_files import TABLE_SUFFIXES

InputKind = Literal["manifest", "spots", "slide", "folder of slides"]

# Microns between the pseudo-spots into which cells are pooled to be looked at.
_CELL_PITCH_UM = 100.0
_SOURCE = "-"


@dataclass(frozen=True)
class Input:
    """What was given, as rows of a manifest.

    Attributes:
        path: as given.
        kind: what it is.
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
        path: as the user gave it.
        slide: the full-resolution image of a folder or file of spots.
        sections: ids of a manifest.
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
    table = path.is_file() and path.suffix.lower() in TABLE_SUFFIXES
    spots = None if table and not is_positions(path) else _spots(path, slide)
    if spots is not None:
        return replace(spots, rows=tuple(replace(row, library=library) for row in spots.rows))
    if library is not None:
        raise ConfigError(
            expected="a folder or file of spots with --library",
            found=path.name,
            remedy="a manifest has the column library",
        )
    if table:
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


def _spots(path: Path, slide: Path | None) -> Input | None:
    """The input as one section with spots; None if it is no such thing."""
    outs = path / "outs" if (path / "outs").is_dir() else path
    notes: list[str] = []
    values: dict[str, object] = {}
    if path.is_file() and path.suffix == ".h5ad":
        kind = "h5ad"
        collection = path.parent.parent  # HEST: st/<id>.h5ad, metadata/<id>.json, wsis/<id>.tif
        if path.parent.name == "st" and (collection / "metadata" / f"{path.stem}.json").is_file():
            image = collection / "wsis" / f"{path.stem}.tif"
            kind, slide = "hest", slide or (image if image.is_file() else None)
    elif path.is_file() and ("feature_bc_matrix.h5" in path.name or "matrix.mtx" in path.name):
        kind = "space_ranger"
    elif path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        row = ManifestRow(_name(path), _SOURCE, slide, format="positions", spots=path)
        return Input(path, "spots", (row,), ("positions alone (format positions in a manifest)",))
    elif not path.is_dir():
        return None
    elif is_zarr_table(path):
        kind = "h5ad"
    elif is_zarr(path):
        if not _has_tables(path):
            return None
        kind = "spatialdata"
        values, slide = _store_choice(path, slide, notes)
    elif outs.name == "segmented_outputs" or _bins(outs) or (outs / "segmented_outputs").is_dir():
        kind = "visium_hd"
        values = _bin_choice(outs, notes)
    elif (outs / "experiment.xenium").exists() or any(outs.glob("cell_feature_matrix*")):
        kind = "xenium"
        values, slide = _xenium_choice(outs, slide, notes)
    elif any(outs.glob("*_feature_bc_matrix*")) or any(outs.glob("*matrix.mtx*")):
        kind = "space_ranger"
    else:
        return None
    row = ManifestRow(_name(path), _SOURCE, slide, path, kind, **values)  # type: ignore[arg-type]
    return Input(path, "spots", (row,), tuple(notes))


def _bins(outs: Path) -> list[Path]:
    folder = outs / "binned_outputs" if (outs / "binned_outputs").is_dir() else outs
    own = [outs] if outs.name.startswith("square_") else []
    return own + sorted(folder.glob("square_*um"))


def _bin_choice(outs: Path, notes: list[str]) -> dict[str, object]:
    """8 um bins where there are several: 2 um bins are ten million."""
    if not _bins(outs):
        notes.append(f"cells were pooled into spots {_CELL_PITCH_UM:g} um apart to look at them")
        return {"spot_pitch_um": _CELL_PITCH_UM}
    names = [p.name for p in _bins(outs)]
    if len(names) > 1 and "square_008um" in names:
        notes.append(
            f"looked at the bins of 8 um, out of {', '.join(names)}; set bin_um in a manifest"
        )
        return {"bin_um": 8.0}
    return {}


def _xenium_choice(
    outs: Path, slide: Path | None, notes: list[str]
) -> tuple[dict[str, object], Path | None]:
    """The alignment and H&E image that lie in the folder, where there is one of each."""
    values: dict[str, object] = {"spot_pitch_um": _CELL_PITCH_UM}
    notes.append(f"cells were pooled into spots {_CELL_PITCH_UM:g} um apart to look at them")
    alignments = sorted(outs.glob("*imagealignment.csv"))
    images = sorted(outs.glob("*he_image.ome.tif*"))
    if len(alignments) == 1:
        values["alignment"] = alignments[0]
        notes.append(f"took {alignments[0].name} as alignment")
    if slide is None and len(images) == 1:
        slide = images[0]
        notes.append(f"took {images[0].name} as slide")
    return values, slide


def _has_tables(path: Path) -> bool:
    return (path / "tables").is_dir() and any((path / "tables").iterdir())


def _store_choice(
    path: Path, slide: Path | None, notes: list[str]
) -> tuple[dict[str, object], Path | None]:
    """The image in a SpatialData store as slide: the largest, where there are several."""
    names = image_names(path)
    if slide is not None or not names:
        return {}, slide
    sizes = {}
    for name in names:
        try:
            with open_slide(path / "images" / name) as image:
                sizes[name] = image.width_px0 * image.height_px0
        except HESpotExError:
            continue  # a fluorescence image lies in the store too
    if not sizes:
        return {}, None
    chosen = max(sizes, key=lambda name: sizes[name])
    notes.append(f"took the image {chosen} of the store as slide, out of {', '.join(names)}")
    return {"image_element": chosen}, path / "images" / chosen


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
