"""How large GeoJSON files are read, feature by feature, and what QuPath says an object is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple

_PIECE: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"
_START: Final = re.compile(r'\s*\[|\s*\{.*?"features"\s*:\s*\[', re.DOTALL)
_BETWEEN: Final = re.compile(r"[\s,]*")
# QuPath says what an object is by properties.objectType (object_type in 0.3), before that by the feature's id.
_OLD_TYPES: Final = {
    "PathRootObject": "root",
    "PathAnnotationObject": "annotation",
    "PathTileObject": "tile",
    "TMACoreObject": "tma_core",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
}


class Feature(NamedTuple):
    """One feature and where its text stands.

    Attributes:
        value: as JSON gives it; characters beyond ASCII are not decoded.
        start: its first byte in the file.
        length: bytes.
    """

    value: Any
    start: int
    length: int


def read_features(file: IO[bytes]) -> Iterator[Feature]:
    """The features of a FeatureCollection or a list; a file that is neither is one feature.

    The structure of JSON is ASCII, and UTF-8 keeps it so: the bytes are read as Latin-1, where a character
    is a byte, so that a feature can be found again by its place.

    Raises:
        ValueError: no JSON, or the file is cut short.
    """
    text, at = "", 0
    if file.read(len(_BOM)) == _BOM:
        at = len(_BOM)
    file.seek(at)
    found = None
    while found is None and (piece := file.read(max(_PIECE, len(text)))):
        text += piece.decode("latin-1")
        found = _START.match(text)
    if found is None:
        yield Feature(json.loads(text), at, len(text))
        return
    yield from _listed(file, text[found.end() :], at + found.end())


def json_remedy(error: Exception) -> str:
    """What to do about text that is no JSON: only one that breaks off is cut short."""
    cut = isinstance(error, json.JSONDecodeError) and error.pos >= len(error.doc.rstrip())
    return "it breaks off there: copy it again" if cut else "correct it there, or export it again"


def object_type(feature: Any) -> str | None:
    """The type that QuPath gives an object, in any of its versions; None where nothing says it."""
    properties = feature.get("properties") or {}
    kind = properties.get("objectType") or properties.get("object_type")
    if kind is not None:
        return str(kind)
    return "cell" if "nucleusGeometry" in feature else _OLD_TYPES.get(str(feature.get("id")))


def is_missing_core(feature: Any) -> bool:
    """Whether it is a core of a tissue microarray that QuPath's user marked as missing: nothing lies there."""
    missing = (feature.get("properties") or {}).get("isMissing")
    return missing is True and object_type(feature) in {"tma_core", None}


def ignored_class(feature: Any) -> str | None:
    """The class of an object that QuPath leaves out of everything: its name ends in `*`; None for any other.

    Of a derived class (`Tumor: Ignore*`, or a list of names) the last part counts.
    """
    found = (feature.get("properties") or {}).get("classification") or {}
    names = found.get("names") or [found.get("name")] if isinstance(found, dict) else [found]
    name = str(names[-1] or "").strip()
    return name if name.endswith("*") else None


def _listed(file: IO[bytes], text: str, at: int) -> Iterator[Feature]:
    """The items of a list whose text goes on in the file; `at` is the place of the text's first byte."""
    decoder, place = json.JSONDecoder(), 0
    while True:
        place = _end(_BETWEEN, text, place)
        if text[place : place + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, place)
        except ValueError:
            # Cut by the end of the piece, unless there is no more: twice as much each time.
            piece = file.read(max(_PIECE, len(text) - place))
            if not piece:
                raise
            at, text, place = at + place, text[place:] + piece.decode("latin-1"), 0
            continue
        yield Feature(value, at + place, end - place)
        place = end


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return place if found is None else found.end()
