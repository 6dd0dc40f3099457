"""Features and predictions of a slide on the disk while it is predicted, chunk by chunk.

A chunk counts only when it is whole. Features are written under a temporary name and renamed; a chunk of predictions
counts once its mark is written. What a killed process left unfinished is made again.
"""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import RunError
from hespotex.features.appearance import Appearance
from hespotex.storage.atomic import atomic_path, write_json
from hespotex.storage.disk_errors import disk_fields

CHUNK_SPOTS: Final = 512
_KEPT_CHUNKS = 8
_KEY = "key.json"


@dataclass(frozen=True)
class FeatureChunk:
    """Encoded patches of some spots.

    Attributes:
        features: (b, S, D) raw encoder features.
        appearance: of the patches.
        bad: (b,) True where pixels could not be read; features are then those of a white patch.
    """

    features: npt.NDArray[np.float32]
    appearance: Appearance
    bad: npt.NDArray[np.bool_]


def chunk_slices(n_spots: int) -> list[slice]:
    """Rows of every chunk."""
    return [slice(at, min(at + CHUNK_SPOTS, n_spots)) for at in range(0, n_spots, CHUNK_SPOTS)]


def n_rows(rows: slice) -> int:
    """How many rows a slice has."""
    return int(rows.stop - rows.start)


def open_work(folder: Path, key: str) -> None:
    """Claim a work folder for one prediction; what another one left there is deleted."""
    try:
        known = json.loads((folder / _KEY).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if known != key:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / _KEY, {"key": key})


class FeatureStore:
    """Chunks of features, one file each."""

    def __init__(self, folder: Path, n_spots: int) -> None:
        self.folder = folder
        self.slices = chunk_slices(n_spots)
        self._recent: OrderedDict[int, FeatureChunk] = OrderedDict()

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk-{number:06d}.safetensors"

    def missing(self) -> list[int]:
        """Numbers of the chunks that are not there, or are damaged."""
        from safetensors import SafetensorError, safe_open

        absent = []
        for number in range(len(self.slices)):
            try:
                with safe_open(self._path(number), framework="numpy"):
                    pass
            except (OSError, SafetensorError):
                absent.append(number)
        return absent

    def write(self, number: int, chunk: FeatureChunk) -> None:
        """Write one chunk, whole or not at all.

        Raises:
            RunError: the disk is full, or the folder cannot be written.
        """
        from safetensors.numpy import save_file

        arrays = {
            "features": chunk.features,
            "colours": chunk.appearance.colours,
            "textures": chunk.appearance.textures,
            "bad": chunk.bad.astype(np.uint8),
        }
        with atomic_path(self._path(number)) as temporary, _disk_errors(self._path(number)):
            save_file(arrays, temporary)

    def read(self, number: int) -> FeatureChunk:
        """One chunk; the latest few stay in memory."""
        from safetensors.numpy import load_file

        if number in self._recent:
            self._recent.move_to_end(number)
            return self._recent[number]
        arrays = load_file(self._path(number))
        seen = Appearance(arrays["colours"], arrays["textures"])
        chunk = FeatureChunk(arrays["features"], seen, arrays["bad"].astype(bool))
        self._recent[number] = chunk
        while len(self._recent) > _KEPT_CHUNKS:
            self._recent.popitem(last=False)
        return chunk

    def bad(self) -> npt.NDArray[np.bool_]:
        """(n,) True where pixels could not be read; reads nothing else of the chunks."""
        from safetensors import safe_open

        parts = [np.zeros(0, bool)]
        for number in range(len(self.slices)):
            with safe_open(self._path(number), framework="numpy") as file:
                parts.append(file.get_tensor("bad").astype(bool))
        return np.concatenate(parts)

    def __iter__(self) -> Iterator[FeatureChunk]:
        """All chunks in order."""
        return (self.read(number) for number in range(len(self.slices)))

    def rows(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Features (b, S, D) of any spots; quick where they lie in few chunks."""
        numbers = rows // CHUNK_SPOTS
        parts, order = [], []
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            parts.append(self.read(number).features[rows[places] - number * CHUNK_SPOTS])
            order.append(places)
        values = np.empty((len(rows), *parts[0].shape[1:]), np.float32)
        for part, places in zip(parts, order, strict=True):
            values[places] = part
        return values


class PredictionStore:
    """Predictions of a slide in a zarr group, a chunk of spots at a time.

    Args:
        widths: of the (n, width) arrays, by name.
        columns: names of the (n,) arrays, float32.
        dtype: of the arrays with a width.
    """

    def __init__(
        self,
        folder: Path,
        n_spots: int,
        widths: Mapping[str, int],
        columns: Sequence[str],
        dtype: str = "float32",
    ) -> None:
        import zarr

        self.folder = folder
        self.slices = chunk_slices(n_spots)
        self.n_spots, self.widths, self.dtype = n_spots, dict(widths), dtype
        self.layers, self.columns = tuple(widths), tuple(columns)
        with _disk_errors(folder):
            self._marks = folder / "finished"
            self._marks.mkdir(parents=True, exist_ok=True)
            self._group = zarr.open_group(folder / "arrays.zarr", mode="a")
            rows = min(CHUNK_SPOTS, max(n_spots, 1))
            for name, width in self.widths.items():
                self._create(name, (n_spots, width), (rows, max(width, 1)), dtype)
            for name in self.columns:
                self._create(name, (n_spots,), (rows,), "float32")

    def _create(
        self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str
    ) -> None:
        if name not in self._group:
            self._group.create_array(
                name,
                shape=shape,
                chunks=chunks,
                dtype=dtype,
                fill_value=np.nan,
                compressors=None,
            )

    def missing(self) -> list[int]:
        """Numbers of the chunks that are not whole."""
        return [n for n in range(len(self.slices)) if not (self._marks / f"{n}.json").exists()]

    def write(self, number: int, arrays: Mapping[str, npt.NDArray[Any]], note: Any = None) -> None:
        """Write one chunk of every array, then its mark.

        Args:
            arrays: by name, rows of the chunk.
            note: anything JSON can hold that is wanted back by `notes`.

        Raises:
            RunError: the disk is full, or the folder cannot be written.
        """
        with _disk_errors(self.folder):
            for name in (*self.layers, *self.columns):
                self._group[name][self.slices[number]] = arrays[name]
        write_json(self._marks / f"{number}.json", {"note": note})

    def notes(self) -> list[Any]:
        """What was given as `note`, chunk by chunk."""
        return [
            json.loads((self._marks / f"{n}.json").read_text(encoding="utf-8"))["note"]
            for n in range(len(self.slices))
        ]

    def column(self, name: str) -> npt.NDArray[np.float32]:
        """An (n,) array."""
        return np.asarray(self._group[name][:])

    def layer(self, name: str, number: int) -> npt.NDArray[np.floating[Any]]:
        """The chunk of an array with a width."""
        return np.asarray(self._group[name][self.slices[number]])


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses inside into an error of one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        said = disk_fields(error, writing=True, otherwise="free space or choose another folder")
        raise RunError(
            expected=f"to write {path}",
            cause=said["cause"],
            remedy=f"{said['remedy']}, and run again: what is done is kept",
        ) from error
