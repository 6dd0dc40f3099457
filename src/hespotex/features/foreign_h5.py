"""Features that TRIDENT, CLAM or LazySlide made of tiles, for the spots of a section."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import GeometryError, SlideError
from hespotex.features.foreign_store import read_features_store
from hespotex.sections.tile_side import StatedSides, side_of_attributes, tile_side
from hespotex.storage.content_keys import content_key, file_key
from hespotex.storage.hdf5 import open_h5

_CLAM_PATCHES = "patches"
_FEATURES = "features"
_LEVELS_UP = 3


def read_features_file(
    path: Path,
    xy_px0: npt.NDArray[np.float64],
    *,
    tile_px: float | None = None,
    section: str | None = None,
) -> tuple[npt.NDArray[np.float32], float, str]:
    """Take for every spot the features of the tile whose centre is nearest.

    The file holds `features` (N, D) and `coords` (N, 2), the top left corners of the tiles in
    level-0 pixels. TRIDENT states the tile's side in `coords.attrs["patch_size_level0"]`; CLAM states it beside the
    coordinates in `patches/`, and where these are gone the grid of the tiles has to tell (`tile_side`). A folder is
    a store of LazySlide (wsidata): `features_store.read_features_store`.

    Args:
        path: the h5 file, the store, or one of its tables (`slide.zarr/tables/uni_tiles`).
        xy_px0: (n, 2) spot centres in level-0 pixels.
        tile_px: the tiles' side in level-0 pixels, where somebody states it.

    Returns:
        features (n, D), the tiles' side in level-0 pixels, and the key of the file's content.

    Raises:
        SlideError: the file is no such file, cut short, or leaves open how large its tiles are.
        GeometryError: a spot has no tile whose centre lies within half a side in x and y.
    """
    if path.is_dir():
        features, centres, side = read_features_store(path, section=section)
        _check(features, centres, path, section)
        key = content_key(features, centres, side)
    else:
        features, corners, attributes = _read(path, section)
        if attributes is None:
            attributes = _side_beside(path, len(corners))
        side = tile_side(corners, xy_px0, StatedSides(tile_px, attributes), path, section)
        centres, key = corners + side / 2, content_key(file_key(path), side)
    from scipy.spatial import cKDTree

    # Chebyshev distance: the spot lies inside the tile's inner square.
    distance, nearest = cKDTree(centres).query(xy_px0, p=np.inf)
    outside = distance > side / 2
    if outside.any():
        worst = float(distance.max())
        raise GeometryError(
            expected=f"a tile around each of {len(xy_px0)} spots in {path.name}",
            found=(
                f"none within half a tile ({side / 2:g} px) for {int(outside.sum())} of them (farthest "
                f"{worst:g} px)"
            ),
            remedy="make the features on the spots' own positions, or check that both belong to one slide",
            section=section,
        )
    return features[nearest], side, key


def encoder_named_in(path: Path) -> str:
    """Name of the encoder as TRIDENT writes it beside the features; empty where a file names none (CLAM, stores)."""
    if path.is_dir():
        return ""
    with open_h5(path, "a features file (h5) at", SlideError) as file:
        if _FEATURES not in file:
            return ""
        name = file[_FEATURES].attrs.get("encoder", "")
        return name.decode() if isinstance(name, bytes) else str(name)


def _read(
    path: Path, section: str | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], float | None]:
    raising = partial(SlideError, section=section)
    with open_h5(path, "a features file (h5) at", raising) as file:
        missing = [name for name in ("features", "coords") if name not in file]
        if missing:
            raise SlideError(
                expected=f"data sets features and coords (TRIDENT, CLAM) in {path}",
                found=", ".join(sorted(file)) or "nothing",
                remedy="give a features file of one of them",
                section=section,
            )
        features = np.asarray(file["features"][()], np.float32)
        corners = np.asarray(file["coords"][()], np.float64)
        side = _stated_side(file)
    if features.ndim == 3 and features.shape[0] == 1:  # TRIDENT's slide-wise writers add an axis
        features = features[0]
    _check(features, corners, path, section)
    return features, corners, side


def _check(
    features: npt.NDArray[Any], corners: npt.NDArray[Any], path: Path, section: str | None
) -> None:
    n = len(features)
    if features.ndim != 2 or corners.shape != (n, 2) or n == 0:
        raise SlideError(
            expected=f"features (N, D) and coords (N, 2) in {path}",
            found=f"{features.shape} and {corners.shape}",
            remedy="make the file again",
            section=section,
        )
    finite = np.isfinite(features).all(axis=1) & np.isfinite(corners).all(axis=1)
    bad = int((~finite).sum())
    if bad:
        raise SlideError(
            expected=f"numbers as features and coords in {path}",
            found=f"{bad} of {n} tiles with NaN or infinity",
            remedy="make the file again",
            section=section,
        )


def _stated_side(file: Any) -> float | None:
    """Of the tiles, from the attributes of an open file."""
    return side_of_attributes({**file.attrs, **file["coords"].attrs})


def _side_beside(path: Path, n_tiles: int) -> float | None:
    """From the coordinates that CLAM keeps of the same slide in `patches/`; its features come without attributes."""
    for folder in path.resolve().parents[:_LEVELS_UP]:
        beside = folder / _CLAM_PATCHES / path.name
        if not beside.is_file() or beside == path.resolve():
            continue
        with suppress(SlideError), open_h5(beside, "coordinates of CLAM at", SlideError) as file:
            if "coords" in file and len(file["coords"]) == n_tiles:
                return _stated_side(file)
    return None
