"""The predictions of a viewer, a few of them open at a time, and what is told of each; no HTTP."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from hespotex import keys
from hespotex.analysis.regions import Region, against_rest
from hespotex.errors import GeometryError, HESpotExError, RunError
from hespotex.evaluation.trust import LEVEL
from hespotex.export.claim_words import first_sentence
from hespotex.export.h5ad_chunks import read_facts
from hespotex.plots.domain_colours import PALETTE
from hespotex.plots.style import colour_map
from hespotex.viewer.gene_columns import Say
from hespotex.viewer.images import ByteCache, jpeg, thumbnail_of
from hespotex.viewer.opened import OpenedSlide
from hespotex.viewer.sources import Source

MOST_CORNERS: Final = 20_000
# Colours that every kind of colour vision tells apart; the first of each kind is the default.
DIVERGING: Final = ("RdBu_r", "PuOr_r", "BrBG_r")
SEQUENTIAL: Final = ("viridis", "cividis", "magma")
_MOST_OPEN: Final = 3


class Library:
    """What the viewer shows.

    Args:
        source: the predictions.
        say: hears of copies made in the cache.
    """

    def __init__(self, source: Source, say: Say) -> None:
        self.source, self._say = source, say
        self._open: OrderedDict[int, OpenedSlide] = OrderedDict()
        self._lock = threading.RLock()
        self._tiles = ByteCache()
        self._rows: dict[int, dict[str, Any]] = {}

    def slide(self, number: int) -> OpenedSlide:
        """A prediction by its place; opened anew where its file is another one now.

        Raises:
            RunError: there is no such place, or the file cannot be read.
        """
        if not 0 <= number < len(self.source.entries):
            raise RunError(
                expected=f"one of {len(self.source.entries)} slides", found=f"number {number}"
            )
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
            opened = OpenedSlide(self.source.entries[number], self._say)
            self._open[number] = opened
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return opened

    def warm(self) -> None:
        """Open the first slide that can be opened, and find colours, before they are asked for."""
        _palettes()
        for number in range(len(self.source.entries)):
            try:
                _ = self.slide(number).image
            except HESpotExError:
                continue
            return

    def forget(self, number: int) -> None:
        """Open this slide anew when it is next asked for."""
        with self._lock:
            self._open.pop(number, None)
            self._rows.pop(number, None)
            self._tiles.forget(number)

    def run(self) -> dict[str, Any]:
        """What the page knows first: the slides, and the palettes."""
        rows = [self._row(number) for number in range(len(self.source.entries))]
        return {
            "title": self.source.title,
            "verb": self.source.verb,
            "notes": list(self.source.notes),
            "slides": rows,
            "palettes": _palettes(),
            "diverging": list(DIVERGING),
            "sequential": list(SEQUENTIAL),
            "named": list(PALETTE),
        }

    def _row(self, number: int) -> dict[str, Any]:
        if number not in self._rows:
            entry = self.source.entries[number]
            try:
                with self._lock:  # two threads that import anndata at once find it half made
                    facts = read_facts(entry.path)
            except HESpotExError as error:
                return {"name": entry.name, "error": str(error)}
            record, claims = facts.record, facts.claims
            self._rows[number] = {
                "name": str(record[keys.SECTION_ID]),
                "patient": str(record[keys.PATIENT_ID]),
                "n_spots": facts.n_spots,
                "verdict": claims.verdict or "",
                "suspended": claims.suspended,
                "n_flagged": claims.n_flagged,
                "evidence": {str(k): int(v) for k, v in record.get(keys.EVIDENCE_COUNTS, {}).items()},
                "error": "",
            }  # fmt: skip
            self._tiles.get((number, "thumbnail"), lambda: jpeg(thumbnail_of(facts.thumbnail)))
        return self._rows[number]

    def thumbnail(self, number: int) -> bytes:
        """A small JPEG of a slide."""
        made = self._tiles.get(
            (number, "thumbnail"),
            lambda: jpeg(thumbnail_of(self.slide(number).file.spots.thumbnail)),
        )
        return made or b""

    def tile(self, number: int, zoom: int, column: int, row: int) -> bytes | None:
        """A JPEG tile; None where there is none."""

        def make() -> bytes | None:
            pixels = self.slide(number).image.tile(zoom, column, row)
            return None if pixels is None else jpeg(pixels)

        return self._tiles.get((number, zoom, column, row), make)

    def about(self, number: int) -> dict[str, Any]:
        """All that the page knows of a slide before it asks for values."""
        slide = self.slide(number)
        slide.check()
        spots, claims, image = slide.file.spots, slide.claims, slide.image
        columns = {name: _plain(values) for name, values in claims.columns().items()}
        sets = spots.extras.gene_sets
        return {
            **self._row(number),
            "mpp": spots.mpp,
            "width_px0": image.grid.width_px0,
            "height_px0": image.grid.height_px0,
            "max_zoom": image.grid.max_zoom,
            "image": image.kind,
            "image_note": image.note,
            "bounds_px0": list(image.bounds_px0),
            "diameter_um": spots.spot_diameter_um,
            "pitch_um": slide.pitch_um(),
            "is_image": slide.is_image,
            "sentence": first_sentence(spots),
            "level_sentence": _capital(str(spots.record.get(keys.LEVEL_SENTENCE, ""))),
            "reason": claims.reason,
            "interval_level": LEVEL,
            "genes": slide.file.genes.tolist(),
            "claims": columns,
            "sets": [] if sets is None else list(sets.names),
            "set_grades": [] if sets is None else list(sets.grades),
            "shows": slide.shows(),
            "spot_shows": slide.spot_shows(),
        }

    def levels(self, gene: str) -> dict[str, Any]:
        """A gene's composition pooled over each slide, by place; None where a slide does not hold it."""
        return {
            "gene": gene,
            "levels": [self._level(n, gene) for n in range(len(self.source.entries))],
        }

    def _level(self, number: int, gene: str) -> float | None:
        try:
            return self.slide(number).level(gene)
        except HESpotExError:
            return None

    def region(self, number: int, polygons: list[list[list[float]]]) -> dict[str, Any]:
        """A drawn region against the rest of the slide, every gene.

        Args:
            polygons: rings of x, y in level-0 pixels; a spot counts that lies in any of them.

        Raises:
            GeometryError: it is no polygon, or holds no usable spot, or all of them.
        """
        slide = self.slide(number)
        slide.check()
        region = Region("region", outline_of(polygons))
        inside = region.contains(np.asarray(slide.file.spots.xy_px0))
        with slide.lock:
            table = against_rest(slide.file, inside)
        names = ["gene", "difference", "inside", "rest", "half_width", keys.GRADE, keys.EVIDENCE, keys.SCOPE]  # fmt: skip
        first = table.iloc[0]
        usable = slide.file.usable
        return {
            "n_inside": int(first["n_inside"]),
            "n_rest": int(first["n_rest"]),
            "n_flagged": int((inside & ~usable).sum()),
            "suspended": slide.claims.suspended,
            "columns": {name: _plain(table[name].to_numpy()) for name in names},
        }


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def outline_of(polygons: Any) -> Any:
    """A shapely area of rings of x, y.

    Raises:
        GeometryError: it is none.
    """
    import shapely

    try:
        rings = [np.asarray(ring, np.float64) for ring in polygons]
        if not rings or any(r.ndim != 2 or r.shape[1] != 2 or len(r) < 3 for r in rings):
            raise ValueError
        if sum(map(len, rings)) > MOST_CORNERS or not all(np.isfinite(r).all() for r in rings):
            raise ValueError
        return shapely.unary_union([shapely.make_valid(shapely.Polygon(r)) for r in rings])
    except (TypeError, ValueError, shapely.errors.GEOSException) as error:
        raise GeometryError(
            expected=f"rings of three to {MOST_CORNERS:,} corners x, y in level-0 pixels",
            found="something else",
        ) from error


def read_geojson(text: bytes) -> list[dict[str, Any]]:
    """Outlines of QuPath's annotations, as rings of level-0 pixels, with their names.

    Raises:
        GeometryError: it is no GeoJSON with an area.
    """
    from tempfile import TemporaryDirectory

    from hespotex.analysis.regions import read_regions

    with TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.geojson"
        path.write_bytes(text)
        return [
            {
                "name": region.name,
                "rings": [
                    np.asarray(part.exterior.coords)[:-1].tolist() for part in region.outline.geoms
                ],
            }
            for region in read_regions(path)
        ]


def _plain(values: Any) -> list[Any]:
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return [round(v, 6) if np.isfinite(v) else None for v in array.tolist()]
    return [str(v) if array.dtype.kind in "UOS" else v for v in array.tolist()]


@cache
def _palettes() -> dict[str, list[str]]:
    return {name: _hexes(name) for name in (*DIVERGING, *SEQUENTIAL)}


def _hexes(name: str) -> list[str]:
    colours = colour_map(name)(np.linspace(0, 1, 256), bytes=True)
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in np.asarray(colours).tolist()]


def as_mapping(value: Any) -> Mapping[str, Any]:
    """JSON that is an object.

    Raises:
        GeometryError: it is something else.
    """
    if not isinstance(value, dict):
        raise GeometryError(expected="a JSON object", found=type(value).__name__)
    return value
