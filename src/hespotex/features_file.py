"""Owns features that other tools made of tiles: an h5 file of TRIDENT or CLAM, or a store of LazySlide."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import GeometryError, SlideError
from hespotex.features_store import read_features_store
from hespotex.hdf5 import open_h5
from hespotex.runs import content_key, file_key


def read_features_file(
    path: Path, xy_px0: npt.NDArray[np.float64], *, section: str | None = None
) -> tuple[npt.NDArray[np.float32], float, str]:
    """Take for every spot the features of the tile whose centre is nearest.

    The file holds `features` (N, D) and `coords` (N, 2), the top left corners of the tiles in
    level-0 pixels. TRIDENT states the tile's side in `coords.attrs["patch_size_level0"]`; CLAM
    states nothing: there the side is the smallest distance between two tiles along x or y. A folder is
    a store of LazySlide (wsidata): `features_store.read_features_store`.

    Args:
        path: the h5 file, the store, or one of its tables (`slide.zarr/tables/uni_tiles`).
        xy_px0: (n, 2) spot centres in level-0 pixels.
        section: named in errors.

    Returns:
        features (n, D), the tiles' side in level-0 pixels, and the key of the file's content.

    Raises:
        SlideError: the file is no such file, or cut short.
        GeometryError: a spot has no tile whose centre lies within half a side in x and y.
    """
    if path.is_dir():
        features, centres, side = read_features_store(path, section=section)
        _check(features, centres, path, section)
        key = content_key(features, centres, side)
    else:
        features, corners, side = _read(path, section)
        centres, key = corners + side / 2, file_key(path)
    from scipy.spatial import cKDTree

    # Chebyshev distance: the spot lies inside the tile's inner square.
    distance, nearest = cKDTree(centres).query(xy_px0, p=np.inf)
    outside = distance > side / 2
    if outside.any():
        worst = float(distance.max())
        raise GeometryError(
            f"expected a tile around each of {len(xy_px0)} spots in {path.name}, found none within "
            f"half a tile ({side / 2:g} px) for {int(outside.sum())} of them (farthest {worst:g} px); "
            "make the features on the spots' own positions, or check that both belong to one slide",
            section=section,
        )
    return features[nearest], side, key


def _read(
    path: Path, section: str | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], float]:
    raising = partial(SlideError, section=section)
    with open_h5(path, "a features file (h5) at", raising) as file:
        missing = [name for name in ("features", "coords") if name not in file]
        if missing:
            raise SlideError(
                f"expected data sets features and coords (TRIDENT, CLAM) in {path}, found "
                f"{', '.join(sorted(file)) or 'nothing'}; give a features file of one of them",
                section=section,
            )
        features = np.asarray(file["features"][()], np.float32)
        corners = np.asarray(file["coords"][()], np.float64)
        stated = file["coords"].attrs.get("patch_size_level0")
    if features.ndim == 3 and features.shape[0] == 1:  # TRIDENT's slide-wise writers add an axis
        features = features[0]
    _check(features, corners, path, section)
    side = float(stated) if stated is not None else _smallest_step(corners)
    if not side > 0:
        raise SlideError(
            f"expected the side of a tile in {path}, found neither patch_size_level0 nor two tiles; "
            "write it as an attribute of coords",
            section=section,
        )
    return features, corners, side


def _check(
    features: npt.NDArray[Any], corners: npt.NDArray[Any], path: Path, section: str | None
) -> None:
    n = len(features)
    if features.ndim != 2 or corners.shape != (n, 2) or n == 0:
        raise SlideError(
            f"expected features (N, D) and coords (N, 2) in {path}, found {features.shape} and "
            f"{corners.shape}; make the file again",
            section=section,
        )
    bad = int((~np.isfinite(features).all(axis=1)).sum())
    if bad:
        raise SlideError(
            f"expected numbers as features in {path}, found {bad} of {n} tiles with NaN or infinity; "
            "make the file again",
            section=section,
        )


def _smallest_step(corners: npt.NDArray[np.float64]) -> float:
    steps = [np.diff(np.unique(corners[:, axis])) for axis in (0, 1)]
    positive = np.concatenate([s[s > 0] for s in steps])
    return float(positive.min()) if positive.size else 0.0
