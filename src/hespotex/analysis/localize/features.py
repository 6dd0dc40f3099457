"""Encoder features of slides: kept beside predictions, in the cache of sections, or in files of other tools. Nothing is encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.analysis.domain_sources import Encoded, feature_sources
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.config import Machine
from hespotex.errors import ConfigError, counted, shorten
from hespotex.features.encode import encode_section, is_cached
from hespotex.features.foreign_h5 import encoder_named_in, read_features_file
from hespotex.features.kept import Kept, MadeBy, kept_beside
from hespotex.storage.text_files import TABLE_SUFFIXES

Floats = npt.NDArray[np.float32]

_KEEP: Final = "predict again with --keep-features"


@dataclass(frozen=True)
class Features:
    """Encoder features of slides, read one slide at a time.

    Attributes:
        encoder: what made them, one line; empty where a file names nothing.
        readers: one a slide; each gives (n, D).
        words: where they come from, to be told.
    """

    encoder: str
    readers: tuple[Callable[[], Floats], ...]
    words: str


def find_features(
    given: Path | None, files: Sequence[PredictionFile]
) -> tuple[Features | None, list[str]]:
    """The features of slides, and notes; None where there are none.

    Args:
        given: a folder of files of other tools, or a manifest whose sections are in the cache; None: those that
            `predict --keep-features` left beside the predictions.

    Raises:
        HESpotExError: features of some slides are not there, do not fit, or are of several encoders.
    """
    if given is None:
        return _kept(files)
    if given.is_dir():
        found = _of_files(given, files)
    elif given.is_file() and given.suffix.lower() in TABLE_SUFFIXES:
        found = _of_cache(given, files)
    else:
        raise ConfigError(
            expected=f"a folder of features or a manifest at {given}",
            found="another file" if given.exists() else "nothing",
            remedy="leave --features out where `predict --keep-features` kept them",
        )
    return found, []


def _kept(files: Sequence[PredictionFile]) -> tuple[Features | None, list[str]]:
    there = {
        f.spots.section_id: kept_beside(f.path) for f in files if kept_beside(f.path).is_file()
    }
    if len(there) < len(files):
        lost = [f.spots.section_id for f in files if f.spots.section_id not in there]
        note = f"Features are kept of {len(there):,} of {counted(len(files), 'slide')}, so that they have no part: none of {shorten(lost, 3)}."
        return None, [note] if there else []
    kept = [Kept.open(path) for path in there.values()]
    for file, of in zip(files, kept, strict=True):
        _check_kept(file, of)
    encoder = _only([of.made_by.words() for of in kept], "beside the predictions")
    return Features(
        encoder, tuple(of.read for of in kept), f"kept beside the predictions: {encoder}"
    ), []


def _check_kept(file: PredictionFile, kept: Kept) -> None:
    """Refuse features that are not of this prediction: of another encoder, other spots, or another call."""
    record, name = file.spots.record, file.spots.section_id
    model = str(record.get("encoder_key", ""))
    if kept.made_by.key != model:
        raise ConfigError(
            expected=f"features of {record.get('encoder', '')} (key {model}), which the model of {name} reads, in {kept.path}",
            found=f"{kept.made_by.encoder} (key {kept.made_by.key})", remedy=_KEEP,
        )  # fmt: skip
    same = kept.prediction_key == str(record.get(keys.PREDICTION_KEY, ""))
    if not same or not kept.lies_at(file.spots.xy_px0):
        raise ConfigError(
            expected=f"features of the very prediction {file.path.name} in {kept.path}",
            found="those of other spots or of another call", remedy=_KEEP,
        )  # fmt: skip


def _of_cache(manifest: Path, files: Sequence[PredictionFile]) -> Features:
    machine = Machine()
    sources = feature_sources(files, manifest, machine)
    readers, made = [], []
    for file in files:
        source = sources[file.spots.section_id]
        given = source.section.features_file
        if given is None and not is_cached(
            source.section, source.encoder, source.plan, machine.cache
        ):
            raise ConfigError(
                expected=f"features of {file.spots.section_id} in the cache, from `cross-validate` or `predict` with spots of {manifest}",
                found="none", remedy=_KEEP,
            )  # fmt: skip
        plan, encoder = source.plan, source.encoder
        by = MadeBy(encoder.name, encoder.key(), plan.sides_um, plan.reading, source.projection)
        made.append(by.words() if given is None else encoder_named_in(given))
        readers.append(_Cached(source))
    encoder = _only(made, f"of {manifest}")
    return Features(
        encoder,
        tuple(readers),
        f"of the sections of {manifest.name}: {encoder or 'files that name no encoder'}",
    )


@dataclass(frozen=True)
class _Cached:
    """Reads a section's features from the cache, or from the file that its manifest names."""

    source: Encoded

    def __call__(self) -> Floats:
        of = self.source
        found = encode_section(
            of.section, of.encoder, of.plan, projection=of.projection, cache_dir=of.machine.cache
        )
        return found.values.reshape(of.section.n_spots, -1)


@dataclass(frozen=True)
class _OfFile:
    """Reads a file of another tool at the spots of a prediction."""

    path: Path
    file: PredictionFile

    def __call__(self) -> Floats:
        spots = self.file.spots
        return read_features_file(self.path, spots.xy_px0, section=spots.section_id)[0]


def _of_files(folder: Path, files: Sequence[PredictionFile]) -> Features:
    found = []
    for file in files:
        name = file.spots.section_id
        places = [folder / f"{name}{ending}" for ending in (".h5", ".zarr")]
        there = next((path for path in places if path.exists()), None)
        if there is None:
            raise ConfigError(
                expected=f"features of {name} at {places[0]}", found="nothing",
                remedy="name each file of TRIDENT or CLAM as its prediction",
            )  # fmt: skip
        found.append(there)
    encoder = _only([encoder_named_in(path) for path in found], f"in {folder}")
    model = str(files[0].spots.record.get("encoder", ""))
    beside = (
        ""
        if encoder == model
        else f"; the model that predicted reads {model or 'an encoder without a name'}"
    )
    readers = tuple(_OfFile(path, file) for path, file in zip(found, files, strict=True))
    return Features(encoder, readers, f"of files: {encoder or 'they name no encoder'}{beside}")


def _only(named: Sequence[str], where: str) -> str:
    """The one encoder that all name; empty where some name none.

    Raises:
        ConfigError: they name several.
    """
    known = sorted({name for name in named if name})
    if len(known) > 1:
        raise ConfigError(
            expected=f"features of one encoder {where}", found=shorten(known, 3),
            remedy="make all features with the same encoder",
        )  # fmt: skip
    return known[0] if known and all(named) else ""
