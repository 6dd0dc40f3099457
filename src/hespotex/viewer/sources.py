"""Which predictions a path holds, and where the image of each slide lies; reads small files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hespotex.errors import ManifestError, RunError
from hespotex.results.places import known_place
from hespotex.sections.manifest import read_manifest
from hespotex.slide import is_zarr, slide_names, slides_in
from hespotex.storage.file_kinds import read_kind
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import RunRecord, SlideRecord

_SLIDES: Final = "slides"
_SECTIONS: Final = "sections"


@dataclass(frozen=True)
class Entry:
    """One prediction to look at.

    Attributes:
        name: stem of its file.
        path: the h5ad.
        image: the slide's file; None where it is not known.
        why_no_image: what to say of that.
    """

    name: str
    path: Path
    image: Path | None
    why_no_image: str = ""


@dataclass(frozen=True)
class Source:
    """What a path holds.

    Attributes:
        title: of the page: the folder's name.
        verb: that made it; empty where it is not known.
        entries: its predictions, by name.
        notes: sentences that the run carries.
    """

    title: str
    verb: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def find_predictions(path: Path, slides: Path | None = None) -> Source:
    """The predictions of a run folder, of agree, domains or localize, of a folder of predictions, or one h5ad.

    Args:
        path: what to look at.
        slides: where images lie: a manifest, a folder with files named by section, the run that predicted these slides,
            or one image for one prediction. None takes those that this machine has seen when it predicted.

    Raises:
        RunError: there is no prediction.
        ManifestError: `slides` is a damaged manifest.
    """
    path = path.resolve()
    if not path.exists():
        raise RunError(
            expected="a run folder or a prediction",
            found=f"nothing at {path}",
            remedy="check the path",
        )
    files = [path] if path.is_file() else _files(path)
    if path.is_file() and (kind := read_kind(path)) is not None and kind.name != "hdf5":
        raise RunError(expected=f"a prediction of hespotex in {path}", **kind.fields(path))
    if not files:
        raise RunError(
            expected=f"predictions (predictions/*.h5ad or sections/*.h5ad) in {path}",
            found="none",
            remedy="name the folder of cross-validate, evaluate, predict, agree, domains or localize, or one h5ad of it",
        )
    around = _around(path)
    run = next((r for r in map(RunDir, around) if r.run_json.is_file()), RunDir(around[0]))
    record = RunRecord.read_if_there(run.run_json)
    keys = _image_keys(run, record)
    given = _given_images(slides, [f.stem for f in files])
    entries = tuple(_entry(file, keys, given, slides) for file in files)
    verb, notes = ("", ()) if record is None else (record.identity.verb, tuple(record.notes))
    return Source(run.path.name if record is not None else path.stem, verb, entries, notes)


def _around(path: Path) -> tuple[Path, ...]:
    """Where the run.json of a path may lie: of a run, of its folder of predictions, of one prediction."""
    return (path.parent, path.parent.parent) if path.is_file() else (path, path.parent)


def _files(folder: Path) -> list[Path]:
    """Predictions of a run; else sections of agree, domains or localize; else those of the folder itself."""
    found = RunDir(folder).predicted() or _tables(folder / _SECTIONS) or _tables(folder)
    return [file for file in found if file.is_file()]


def _tables(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("*.h5ad")) if not p.name.startswith(".")]


def _image_keys(run: RunDir, record: RunRecord | None) -> dict[str, str]:
    """Content keys of slides by section: of measured sections in run.json, of others in the records of slides."""
    keys: dict[str, str] = {}
    if record is not None:
        for section, facts in record.identity.inputs.items():
            if "slide" in facts:
                keys[section] = str(facts["slide"])
    for file in sorted((run.path / _SLIDES).glob("[0-9a-f]*.json")):
        known = SlideRecord.read_if_there(file)
        if known is not None and known.content is not None:
            keys[known.outcome.section_id] = known.content
    return keys


def _given_images(slides: Path | None, names: list[str]) -> Mapping[str, Path]:
    if slides is None:
        return {}
    if not slides.exists():
        raise RunError(
            expected="a manifest, a folder of slides or a slide",
            found=f"nothing at {slides}",
            remedy="check --slides",
        )
    if slides.is_dir() and RunDir(slides).run_json.is_file():
        run = RunDir(slides)
        keys = _image_keys(run, RunRecord.read_if_there(run.run_json))
        places = {name: known_place(key) for name, key in keys.items()}
        return {name: place for name, place in places.items() if place is not None}
    if slides.is_dir() and not is_zarr(slides):
        found = slides_in(slides).slides
        return dict(zip(slide_names(found), found, strict=True))
    if slides.suffix.lower() in (".csv", ".tsv", ".txt"):
        rows = read_manifest(slides).rows
        return {row.section_id: row.slide for row in rows if row.slide is not None}
    if len(names) > 1:
        raise ManifestError.about(slides)(
            expected=f"images of {len(names)} predictions",
            found="one image",
            remedy="give a manifest, or a folder with files named by section",
        )
    return {names[0]: slides}


def _entry(
    file: Path, keys: Mapping[str, str], given: Mapping[str, Path], slides: Path | None
) -> Entry:
    name = file.stem
    if slides is not None:
        if name in given:
            return Entry(name, file, given[name])
        return Entry(name, file, None, f"no image of {name} in {slides.name}")
    if name not in keys:
        return Entry(name, file, None, "the run does not tell which image this was; give --slides")
    place = known_place(keys[name])
    if place is None:
        return Entry(
            name, file, None, "the image is not where it was, or was never here; give --slides"
        )
    return Entry(name, file, place)
