"""Tiles of other tools: how large they are is stated, or their grid leaves no doubt, or the run stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from helpers.inspected_sections import shape, spots_on, write_legacy, write_manifest
from hespotex.errors import ManifestError, SlideError
from hespotex.features.foreign_h5 import read_features_file
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import read_section
from hespotex.sections.tile_side import grid_step

W, H = 1600, 1300
SPOTS = np.array([(x, y) for x in range(120, 1400, 50) for y in range(130, 1100, 43)], float)


def grid(x0: int, y0: int, x1: int, y1: int, step: float) -> npt.NDArray[np.float64]:
    """As CLAM lays it over the box of a contour: whole pixels."""
    x, y = np.arange(x0, x1, step).astype(int), np.arange(y0, y1, step).astype(int)
    return np.array([(a, b) for a in x for b in y], float)


CONTOURS = np.vstack([grid(3, 5, 700, H, 64), grid(690, -26, W, H, 64)])


def write(path: Path, corners: npt.NDArray[np.float64], side: float, **attributes: object) -> Path:
    """The features of a tile are its centre."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = (corners + side / 2).astype("f4"), corners.astype("i8")
        file["coords"].attrs.update(attributes)
    return path


def read(path: Path, **options: float) -> tuple[float, float]:
    """Side, and how far the tile that a spot got lies away."""
    features, side, _ = read_features_file(path, SPOTS, **options)
    return side, float(np.abs(features - SPOTS).max())


@pytest.mark.parametrize(
    "corners", [grid(3, 5, W, H, 64), CONTOURS, grid(7, 0, W, H, 64.03)],
    ids=["one contour", "two contours", "a rounded step"],
)  # fmt: skip
def test_a_grid_a_contour_tells_the_side(tmp_path: Path, corners: npt.NDArray[np.float64]) -> None:
    shuffled = np.random.default_rng(0).permutation(corners)
    side, away = read(write(tmp_path / "f.h5", shuffled, 64))
    assert side == pytest.approx(64, abs=0.1)
    assert away <= 33


HALF = grid(0, 0, W, H, 32)


def test_tiles_closer_than_the_spots_stop_with_what_to_give(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", HALF, 64)
    with pytest.raises(
        SlideError,
        match=r"tiles every 32 px, closer than the spots \(43 px\).*overlap; give .*tile_px",
    ):
        read_features_file(path, SPOTS)
    assert read(path, tile_px=64.0) == (64, 16)


def test_coordinates_without_a_grid_stop(tmp_path: Path) -> None:
    corners = np.random.default_rng(1).uniform(0, 1300, (300, 2))
    with pytest.raises(SlideError, match=r"coordinates that form no grid; give the side"):
        read_features_file(write(tmp_path / "f.h5", corners, 64), SPOTS)
    assert grid_step(corners[:1]) is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"patch_size_level0": 64},
        {"patch_size": 32, "downsample": np.array([2.0, 2.0]), "patch_level": 1},
        {"patch_size": 64, "patch_level": 0},
        {"patch_size": 16, "patch_size_level0": 64, "overlap": 8},
        {"patch_size": 32, "level0_magnification": 40, "target_magnification": 20, "overlap": 8},
    ],
    ids=[
        "TRIDENT",
        "CLAM, level 1",
        "CLAM, level 0",
        "TRIDENT with overlap",
        "TRIDENT, magnifications",
    ],
)
def test_attributes_count_for_tiles_that_overlap_too(
    tmp_path: Path, attributes: dict[str, object]
) -> None:
    assert read(write(tmp_path / "f.h5", HALF, 64, **attributes)) == (64, 16)


def test_the_patches_that_clam_keeps_beside_tell_the_side(tmp_path: Path) -> None:
    path = write(tmp_path / "features" / "h5_files" / "s.h5", HALF, 64)
    beside = tmp_path / "patches" / "s.h5"
    write(beside, HALF[:-1], 64, patch_size=64, patch_level=0)  # of another slide
    with pytest.raises(SlideError, match="expected the side of a tile"):
        read_features_file(path, SPOTS)
    write(beside, HALF, 64, patch_size=32, downsample=2.0, patch_level=1)
    assert read(path) == (64, 16)


def test_a_manifest_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", HALF, 64, patch_size_level0=64)
    with pytest.raises(SlideError, match=r"found 32 px in the manifest.* and 64 px in the file"):
        read_features_file(path, SPOTS, tile_px=32.0, section="A")


@pytest.mark.slow
def test_the_manifest_states_the_side(tmp_path: Path) -> None:
    row = write_legacy(tmp_path, "A", spots_on(shape()))
    path = write(tmp_path / "f.h5", HALF, 64)
    checked = read_manifest(
        write_manifest(tmp_path, [{**row, "features": path.name, "tile_px": "64"}])
    )
    (manifest_row,) = checked.rows
    section = read_section(manifest_row)
    assert section.tile_px == 64.0
    assert read_section(replace(manifest_row, tile_px=None)).tile_px is None
    with pytest.raises(ManifestError, match="column tile_px: expected features with it"):
        read_manifest(write_manifest(tmp_path, [{**row, "tile_px": "64"}]))
