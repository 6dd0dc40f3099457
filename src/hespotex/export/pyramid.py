"""Gene maps as a pyramidal OME-TIFF: one channel a gene, rendered tile by tile from the spots.

The first pixel's corner is the slide's, and a pixel covers a whole number of level-0 pixels, so tools that place
images by their physical size (QuPath, napari) lay the maps on the slide without a shift or a turn.
"""

from __future__ import annotations

import json
import math
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import RunError
from hespotex.export.claim_words import claims_of, first_sentence, long, mark
from hespotex.export.exporters import Exporter
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.raster import REACH, halved, is_fine, pitch_um, raster_of
from hespotex.export.shown import Show, explained, label, shown_values, unit
from hespotex.export.tables import about_file, chosen_columns
from hespotex.storage.atomic import atomic_path
from hespotex.storage.content_keys import content_key

MAX_CHANNELS: Final = 10
# Where nothing was predicted: 0 is a value of composition, and none of log1p(CPM).
NO_VALUE: Final[Mapping[Show, float]] = {"composition": math.nan, "log1p": 0.0}
_TILE: Final = 256
_PIXELS_PER_PITCH: Final = 8
_SMALLEST_SIDE: Final = 512


@dataclass(frozen=True)
class _Level:
    """One level of the pyramid: level-0 pixels per pixel, and its size."""

    downsample: float
    width: int
    height: int


def write_ome_tiff(
    path: Path,
    section: StoredPrediction,
    *,
    genes: Sequence[str] | None = None,
    max_genes: int = MAX_CHANNELS,
    show: Show = "composition",
) -> None:
    """Write one channel a gene, float32 composition (NaN where nothing was predicted) or log1p(CPM) (0 there).

    Of a prediction without genes the channels are predicted depth and how unlike the training each spot is.

    Every pixel has the value of the nearest spot, no farther than 0.72 pitches from it: nothing is
    interpolated. A spot is about eight pixels wide at the finest level. A fine map is an image: a pixel is a spot of
    a square lattice (else half a pitch wide), and a pixel of a coarser level the mean of four.

    Args:
        section: the prediction; its thumbnail tells the size of the slide.
        genes: which to write; default the best graded, at most `max_genes`.
        max_genes: a plane a gene.

    Raises:
        GenePanelError: a gene is not in the prediction.
        RunError: there is neither a spot nor a thumbnail, or the file cannot be written.
    """
    from tifffile import TiffWriter

    columns = chosen_columns(section, genes, max_genes)
    if not len(section.barcodes) and section.thumbnail is None:
        raise RunError(
            expected=f"spots or a picture of the slide for {path}",
            found="neither",
            remedy="write no map of this section",
        )
    channels = _channels(section, columns, show)
    render = _Image(section, channels) if is_fine(section) else _Renderer(section, channels)
    levels = render.levels
    size = {"tile": (_TILE, _TILE), "dtype": np.float32, "compression": "zlib"}
    with atomic_path(path) as temporary, TiffWriter(temporary, bigtiff=True, ome=True) as file:
        for level in levels:
            first = level is levels[0]
            file.write(
                render.tiles(level),
                shape=(len(channels.names), level.height, level.width),
                photometric="minisblack",
                metadata=_metadata(section, columns, channels, level, show) if first else None,
                subifds=len(levels) - 1 if first else 0,
                subfiletype=0 if first else 1,
                resolutionunit="CENTIMETER",
                resolution=(1e4 / (section.mpp * level.downsample),) * 2,
                **size,
            )


@dataclass(frozen=True)
class _Channels:
    """What is rendered: (n, C) values of the spots, their names, and what stands where there is no spot."""

    names: tuple[str, ...]
    values: npt.NDArray[np.float32]
    nowhere: float
    said: str


def _channels(section: StoredPrediction, columns: npt.NDArray[np.intp], show: Show) -> _Channels:
    if len(columns):
        claims = claims_of(section)
        names = tuple(f"{section.genes[j]}{mark(claims, j)}" for j in columns.tolist())
        said = f"Predicted {label(show)}: {unit(show)}; {_word(NO_VALUE[show])}: nothing predicted here. {explained(show)}"
        return _Channels(names, shown_values(section, show)[:, columns], NO_VALUE[show], said)
    of_spots = {"predicted depth": section.depth}
    if section.extras.ood_score is not None:
        of_spots["unlike the training"] = section.extras.ood_score
    said = "No gene is written. predicted depth: expected total count; unlike the training: above 1 is flagged; NaN: no spot."
    values = np.column_stack(list(of_spots.values())).astype(np.float32)
    return _Channels(tuple(of_spots), values, math.nan, said)


def _word(nowhere: float) -> str:
    return "NaN" if math.isnan(nowhere) else f"{nowhere:g}"


def _levels(section: StoredPrediction) -> list[_Level]:
    pitch_px0 = _pitch_px0(section)
    # A power of two, as the levels of slides are.
    downsample = 2 ** max(math.floor(math.log2(pitch_px0 / _PIXELS_PER_PITCH)), 0)
    width, height = _size_px0(section)
    levels = []
    while True:
        level = _Level(downsample, math.ceil(width / downsample), math.ceil(height / downsample))
        levels.append(level)
        # Above one pixel a pitch, single spots would be skipped.
        if max(level.width, level.height) <= _SMALLEST_SIDE or 2 * downsample > pitch_px0:
            return levels
        downsample *= 2


def _size_px0(section: StoredPrediction) -> tuple[float, float]:
    """Width and height of the slide; without a thumbnail, of what the spots reach."""
    if section.thumbnail is not None:
        height, width = section.thumbnail.image.shape[:2]
        return width * section.thumbnail.px0_per_px, height * section.thumbnail.px0_per_px
    low_right = section.xy_px0.max(axis=0) + _pitch_px0(section) / 2
    return float(low_right[0]), float(low_right[1])


def _pitch_px0(section: StoredPrediction) -> float:
    return pitch_um(section) / section.mpp


class _Image:
    """A fine map as it is, and its coarser levels; one channel is in memory at a time."""

    def __init__(self, section: StoredPrediction, channels: _Channels) -> None:
        self._raster, self._channels = raster_of(section, _size_px0(section)), channels
        height, width = self._raster.index.shape
        self.levels = [_Level(self._raster.px0_per_px, width, height)]
        while max(width, height) > _SMALLEST_SIDE:
            width, height = -(-width // 2), -(-height // 2)
            self.levels.append(_Level(2 * self.levels[-1].downsample, width, height))

    def tiles(self, level: _Level) -> Iterator[npt.NDArray[np.float32]]:
        """All tiles of a level, channel by channel, row by row."""
        times, nowhere = self.levels.index(level), self._channels.nowhere
        for channel in range(len(self._channels.names)):
            image = self._raster.image(self._channels.values[:, channel])
            for _ in range(times):
                image = halved(image)
            image = np.where(np.isfinite(image), image, np.float32(nowhere))
            for y in range(0, level.height, _TILE):
                for x in range(0, level.width, _TILE):
                    tile = np.full((_TILE, _TILE), nowhere, np.float32)
                    part = image[y : y + _TILE, x : x + _TILE]
                    tile[: part.shape[0], : part.shape[1]] = part
                    yield tile


class _Renderer:
    """Looks up the nearest spot of every pixel, a tile at a time.

    What was found is kept for the next channel, packed: a few bytes a spot, whatever the slide's size.
    """

    def __init__(self, section: StoredPrediction, channels: _Channels) -> None:
        from scipy.spatial import cKDTree

        self.levels = _levels(section)
        self._tree = cKDTree(section.xy_px0)
        self._reach_px0 = REACH * _pitch_px0(section)
        shown, nowhere = channels.values, channels.nowhere
        values = np.where(np.isfinite(shown), shown, nowhere).astype(np.float32)
        nothing = np.full((1, shown.shape[1]), nowhere, np.float32)
        self._values = np.concatenate([values, nothing])  # the tree's index for "too far" is n
        self._found: dict[tuple[_Level, int, int], bytes] = {}

    def tiles(self, level: _Level) -> Iterator[npt.NDArray[np.float32]]:
        """All tiles of a level, channel by channel, row by row."""
        for channel in range(self._values.shape[1]):
            for y in range(0, level.height, _TILE):
                for x in range(0, level.width, _TILE):
                    yield self._values[self._nearest(level, x, y), channel]

    def _nearest(self, level: _Level, x: int, y: int) -> npt.NDArray[np.intp]:
        """(256, 256) nearest spot of each pixel's centre; n where there is none."""
        packed = self._found.get((level, x, y))
        if packed is None:
            index = self._query(level, x, y).astype(np.int32)
            self._found[level, x, y] = zlib.compress(index.tobytes(), 1)
            return index.astype(np.intp)
        return (
            np.frombuffer(zlib.decompress(packed), np.int32).reshape(_TILE, _TILE).astype(np.intp)
        )

    def _query(self, level: _Level, x: int, y: int) -> npt.NDArray[np.intp]:
        corner, side = np.array([x, y]) * level.downsample, _TILE * level.downsample
        away, _ = self._tree.query(corner + side / 2)
        if away > self._reach_px0 + side / np.sqrt(2):  # infinite without spots
            return np.full((_TILE, _TILE), len(self._values) - 1)
        at = (np.arange(_TILE) + 0.5) * level.downsample
        centres = np.stack(np.meshgrid(at + corner[0], at + corner[1]), axis=-1)
        _, index = self._tree.query(centres, distance_upper_bound=self._reach_px0)
        return np.asarray(index, dtype=np.intp)


def _metadata(
    section: StoredPrediction,
    columns: npt.NDArray[np.intp],
    channels: _Channels,
    level: _Level,
    show: Show,
) -> dict[str, Any]:
    pixel_um = section.mpp * level.downsample
    # Of the content: tifffile's own would hold the time and the machine's address.
    content = content_key(section.section_id, list(channels.names), section.xy_px0, channels.values)
    return {
        "axes": "CYX",
        "UUID": str(uuid.UUID(hex=content)),
        "Name": section.section_id,
        "PhysicalSizeX": pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_um,
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": list(channels.names)},
        "Description": _description(section, columns, channels, level, show),
    }


def _description(
    section: StoredPrediction,
    columns: npt.NDArray[np.intp],
    channels: _Channels,
    level: _Level,
    show: Show,
) -> str:
    """What is claimed first, then how to read the values, then everything again as JSON in the last line."""
    claims = claims_of(section)
    lines = [
        first_sentence(section),
        channels.said,
        f"Pixel (0, 0) starts at level-0 pixel (0, 0) of the slide; one pixel covers {level.downsample:g} level-0 pixels.",
        *(f"{section.genes[j]}: {long(claims, j)}" for j in columns.tolist()),
        json.dumps(about_file(section, columns, show), allow_nan=False),
    ]
    return "\n".join(lines)


EXPORTER: Final = Exporter(
    lambda path, section, wanted: write_ome_tiff(
        path, section, genes=wanted.genes, show=wanted.show
    ),
    suffix=".ome.tif",
    most_genes=MAX_CHANNELS,
)
