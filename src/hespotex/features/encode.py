"""Features of a section: every patch is encoded once and kept under a key of its content."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.config import PatchConfig, Reading
from hespotex.encoders.base import Encoder, no_area
from hespotex.encoders.cache import cache_folder, check_cache
from hespotex.errors import ConfigError, SlideError
from hespotex.features.appearance import N_COLOURS, Appearance, describe_patches, n_textures
from hespotex.features.area import BATCH as AREA_BATCH
from hespotex.features.area import AreaReader
from hespotex.features.foreign_h5 import read_features_file
from hespotex.features.patches import PatchPlan, crop_patches, reading_order
from hespotex.sections.section import Section
from hespotex.slide import Slide, open_slide, slide_key
from hespotex.storage.atomic import atomic_path
from hespotex.storage.content_keys import content_key

# Where an encoder states no mpp: one spot's surroundings and three wider contexts.
_SIDES_UM = (77.2, 154.5, 309.0, 617.9)
_CONTEXTS = (1, 2, 4, 8)
# Spots that are decoded and encoded at once.
BATCH: Final = 16
# Version of how patches are cut, resampled and described: another one makes other features.
_RECIPE = 4
# The same of what is read by area alone.
_AREA_RECIPE = 2


Encoded = tuple[npt.NDArray[np.float32], Appearance]
EncodedBatch = tuple[npt.NDArray[np.intp], npt.NDArray[np.float32], Appearance]


@dataclass(frozen=True)
class Features:
    """Encoded patches of a section.

    Attributes:
        values: (n, S, D) float32, spots in the order of the section, smallest patch first.
        appearance: of the patches; None where features were given.
        key: key of everything that the values depend on.
        sides_um: sides of the patches in microns, (S,).
        mpp: microns per pixel that the encoder saw, (S,).
    """

    values: npt.NDArray[np.float32]
    appearance: Appearance | None
    key: str
    sides_um: tuple[float, ...]
    mpp: tuple[float, ...]


def default_sides(encoder: Encoder) -> tuple[float, ...]:
    """Sides in microns: the encoder's own field of view and three wider contexts."""
    if encoder.mpp is None:
        return _SIDES_UM
    return tuple(encoder.size_px * encoder.mpp * factor for factor in _CONTEXTS)


def patch_plan(encoder: Encoder, config: PatchConfig, reading: Reading = "patches") -> PatchPlan:
    """The sides that the configuration states, else `default_sides`, in the encoder's size.

    Raises:
        EncoderError: the encoder cannot be read by area.
    """
    if reading == "area" and encoder.not_by_area():
        raise no_area(encoder)
    return PatchPlan(config.sides_um or default_sides(encoder), encoder.size_px, reading)


def encode_section(
    section: Section,
    encoder: Encoder,
    plan: PatchPlan,
    *,
    projection: int | None = None,
    cache_dir: Path | None = None,
    advance: Callable[[int], None] | None = None,
) -> Features:
    """Encode the patches of a section's spots, or take them from the cache.

    The cache's key covers the slide's content, the encoder's weights and preprocessing, its engine,
    the sides, the size, mpp and positions: with any of them changed, patches are encoded again.
    Where the manifest gives a features file of TRIDENT or CLAM, that file is read and nothing is
    encoded.

    Args:
        projection: multiply the features with `orthonormal_projection(D, projection)`.
        cache_dir: folder of the cache; None takes the user's cache folder.
        advance: hears of every so many spots that are done.

    Raises:
        SlideError: the slide cannot be read.
        RunError: the cache cannot be written.
        GeometryError: a features file lies elsewhere than the spots.
        ConfigError: the projection has more columns than the encoder has features.
    """
    tell = advance or (lambda _spots: None)
    if section.features_file is not None:
        features = _from_file(section, section.features_file)
        tell(section.n_spots)
    else:
        features = _encode_or_read(section, encoder, plan, cache_dir, tell)
    if projection is None:
        return features
    key = content_key(features.key, "projection", projection)
    return replace(features, values=projected(features.values, projection), key=key)


def projected(values: npt.NDArray[np.float32], n_columns: int | None) -> npt.NDArray[np.float32]:
    """(..., D) features as (..., n_columns), by `orthonormal_projection`; as they are for None."""
    if n_columns is None:
        return values
    matrix = orthonormal_projection(values.shape[-1], n_columns)
    return np.asarray(values @ matrix, np.float32)


def orthonormal_projection(dim: int, n_columns: int) -> npt.NDArray[np.float64]:
    """(dim, n_columns) fixed random matrix with orthonormal columns.

    Q of the QR decomposition of standard normal numbers of `default_rng(0)`.
    """
    if n_columns > dim:
        raise ConfigError(
            expected=f"a projection to at most the encoder's {dim} features",
            found=n_columns,
            remedy="lower encoder.projection",
        )
    normal = np.random.default_rng(0).normal(size=(dim, n_columns))
    return np.asarray(np.linalg.qr(normal)[0])


def _from_file(section: Section, path: Path) -> Features:
    values, side_px0, key = read_features_file(
        path, section.xy_px0, tile_px=section.tile_px, section=section.section_id
    )
    side_um = side_px0 * section.geometry.mpp
    return Features(values[:, None, :], None, content_key(key, section.xy_px0), (side_um,), ())


def _encode_or_read(
    section: Section,
    encoder: Encoder,
    plan: PatchPlan,
    cache_dir: Path | None,
    tell: Callable[[int], None],
) -> Features:
    if section.slide is None:
        raise SlideError(
            expected="a slide or a features file to take features from",
            found="neither",
            section=section.section_id,
        )
    mpp = section.geometry.mpp
    path = _cached_at(section, section.slide, encoder, plan, cache_dir)
    shape = (section.n_spots, len(plan.sides_um), encoder.dim)
    cached = read_cached(path, shape)
    if cached is not None:
        tell(section.n_spots)
        values, appearance = cached
    else:
        check_cache(path.parent)
        with open_slide(section.slide, mpp=mpp, bits=section.bits) as slide:
            values, appearance = encode_spots(slide, section.xy_px0, encoder, plan, mpp, tell)
        write_cached(path, values, appearance)
    return Features(values, appearance, path.stem, plan.sides_um, plan.effective_mpp(mpp))


def is_cached(
    section: Section, encoder: Encoder, plan: PatchPlan, cache_dir: Path | None = None
) -> bool:
    """Whether `encode_section` finds the features of a section's slide in the cache, whole."""
    if section.slide is None:
        return False
    path = _cached_at(section, section.slide, encoder, plan, cache_dir)
    return read_cached(path, (section.n_spots, len(plan.sides_um), encoder.dim)) is not None


def _cached_at(
    section: Section, slide: Path, encoder: Encoder, plan: PatchPlan, cache_dir: Path | None
) -> Path:
    own = slide_key(slide, section.bits)
    key = features_key(own, encoder, plan, section.geometry.mpp, section.xy_px0)
    folder = cache_dir if cache_dir is not None else cache_folder()
    return folder / "features" / f"{key}.safetensors"


def features_key(
    slide_key: str, encoder: Encoder, plan: PatchPlan, mpp: float, xy_px0: npt.NDArray[np.float64]
) -> str:
    """Key of everything that features depend on."""
    reading: tuple[object, ...] = ()
    if plan.reading == "area":
        tiles = [[tile.cells, tile.halo, tile.offset] for tile in encoder.area_tiles()]
        reading = (plan.reading, _AREA_RECIPE, tiles)
    return content_key(
        _RECIPE, slide_key, encoder.key(), encoder.engine, plan.sides_um, plan.size_px, mpp, xy_px0, *reading
    )  # fmt: skip


def encode_spots(
    slide: Slide,
    xy_px0: npt.NDArray[np.float64],
    encoder: Encoder,
    plan: PatchPlan,
    mpp: float,
    tell: Callable[[int], None],
) -> Encoded:
    """Features (n, S, D) and appearance of spots, made now; decoding runs beside the encoder."""
    n_sides = len(plan.sides_um)
    values = np.empty((len(xy_px0), n_sides, encoder.dim), np.float32)
    colours = np.empty((len(xy_px0), N_COLOURS), np.float32)
    textures = np.empty((len(xy_px0), n_textures(n_sides, plan.size_px)), np.float32)
    with closing(encode_batches(slide, xy_px0, encoder, plan, mpp)) as batches:
        for indices, features, seen in batches:
            values[indices] = features
            colours[indices], textures[indices] = seen.colours, seen.textures
            tell(len(indices))
    return values, Appearance(colours, textures)


def encode_batches(
    slide: Slide,
    xy_px0: npt.NDArray[np.float64],
    encoder: Encoder,
    plan: PatchPlan,
    mpp: float,
    *,
    on_bad: Callable[[int, SlideError], None] | None = None,
    area_batch: int = AREA_BATCH,
) -> Generator[EncodedBatch, None, None]:
    """Encode spots batch by batch, in reading order; hold it in `contextlib.closing`, as `crop_patches`.

    Args:
        xy_px0: (n, 2) centres in level-0 pixels.
        mpp: microns per level-0 pixel.
        on_bad: hears of every spot whose pixels cannot be read; None: the first one ends the work.
        area_batch: spots of a batch where the plan reads by area; `BATCH` of them where it reads patches.

    Yields:
        indices into the spots, (b,), their features, (b, S, D), and the appearance of their patches.

    Raises:
        SlideError: a region cannot be read.
    """
    if plan.reading == "area":
        order = reading_order(xy_px0)
        reader = AreaReader(slide, encoder, plan, mpp)
        tell = None if on_bad is None else partial(_tell_row, on_bad, order)
        for rows, features, seen in reader.batches(xy_px0[order], area_batch, tell):
            yield order[rows], features, seen
        return
    size, n_sides, pitches_um = plan.size_px, len(plan.sides_um), plan.effective_mpp(mpp)
    with closing(crop_patches(slide, xy_px0, mpp, plan, BATCH, on_bad=on_bad)) as batches:
        for indices, patches in batches:
            flat = encoder.encode(patches.reshape(-1, size, size, 3))
            features = flat.reshape(len(indices), n_sides, encoder.dim)
            yield indices, features, describe_patches(patches, pitches_um, mpp)


def _tell_row(
    on_bad: Callable[[int, SlideError], None],
    rows: npt.NDArray[np.intp],
    row: int,
    error: SlideError,
) -> None:
    on_bad(int(rows[row]), error)


def read_cached(path: Path, shape: tuple[int, ...]) -> Encoded | None:
    """Features and appearance in the cache; None where there are none, or the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    values, colours, textures = (tensors.get(n) for n in ("features", "colours", "textures"))
    if values is None or values.shape != shape or values.dtype != np.float32:
        return None
    if colours is None or textures is None or len(colours) != len(textures):
        return None
    appearance = Appearance(np.asarray(colours), np.asarray(textures))
    if bytes(tensors.get("checksum", b"")) != _checksum(values, appearance):
        return None
    return np.asarray(values), appearance


def write_cached(path: Path, values: npt.NDArray[np.float32], appearance: Appearance) -> None:
    """Keep features and appearance in the cache, with a checksum."""
    from safetensors.numpy import save_file

    tensors = {
        "features": values,
        "colours": appearance.colours,
        "textures": appearance.textures,
        "checksum": np.frombuffer(_checksum(values, appearance), np.uint8),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def _checksum(values: npt.NDArray[np.float32], appearance: Appearance) -> bytes:
    return bytes.fromhex(content_key(values, appearance.colours, appearance.textures))
