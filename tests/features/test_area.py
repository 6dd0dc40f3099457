"""Features by area: the average of the cells under a patch, whoever else asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.area_encoder import AreaColour, InThree
from helpers.toy_slide import ToyEncoder
from hespotex.config import PatchConfig
from hespotex.encoders import get_encoder, offline
from hespotex.encoders.base import Tile
from hespotex.errors import EncoderError, SlideError
from hespotex.features import area
from hespotex.features.appearance import Appearance
from hespotex.features.area import AreaReader
from hespotex.features.area_tiles import OnBad, tiles_under
from hespotex.features.encode import encode_batches, encode_spots, features_key, patch_plan
from hespotex.features.patches import PatchPlan
from hespotex.slide import Slide, open_slide

SIDES_UM = (64.0, 128.0)
BY_AREA = PatchPlan(SIDES_UM, 64, "area")
BY_PATCHES = PatchPlan(SIDES_UM, 64)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red is half of x, green half of y, blue is noise."""
    y, x = np.mgrid[:460, :500]
    noise = np.random.default_rng(0).integers(0, 256, x.shape)
    path = tmp_path_factory.mktemp("slide") / "painted.png"
    Image.fromarray(np.stack([x / 2, y / 2, noise], axis=2).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def slide(path: Path) -> Slide:
    return open_slide(path, mpp=1.0)


def inside(n: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Spots whose widest patch, with the cells that it covers in part, lies within the slide."""
    return np.random.default_rng(seed).uniform(70, 320, (n, 2))


def read(
    slide: Slide, xy: npt.NDArray[np.float64], encoder: AreaColour | None = None, size: int = 512
) -> npt.NDArray[np.float32]:
    return told(slide, xy, encoder, size)[0]


def told(
    slide: Slide,
    xy: npt.NDArray[np.float64],
    encoder: AreaColour | None = None,
    size: int = 512,
    on_bad: OnBad | None = None,
) -> tuple[npt.NDArray[np.float32], Appearance]:
    reader = AreaReader(slide, encoder or AreaColour(), BY_AREA, 1.0)
    parts = list(reader.batches(xy, size, on_bad))
    assert [rows.start for rows, _, _ in parts] == list(range(0, len(xy), size))
    return np.concatenate([own for _, own, _ in parts]), Appearance.joined([a for *_, a in parts])


def test_a_gradient_is_read_at_the_place_of_the_spot(slide: Slide) -> None:
    xy = inside(40)
    found = read(slide, xy)
    assert found.shape == (40, 2, 3)
    for side in range(2):
        # A pixel's value is that of its left and upper edge, rounded down to a half.
        np.testing.assert_allclose(found[:, side, :2], xy / 2 - 0.5, atol=0.05)


def test_a_spot_on_the_grid_of_cells_gets_what_its_patch_says(slide: Slide) -> None:
    xy = np.array([[128.0, 192.0], [256.0, 320.0], [192.0, 64.0]])
    by_patches, seen = encode_spots(slide, xy, AreaColour(), BY_PATCHES, 1.0, lambda _: None)
    by_area, cells = told(slide, xy)
    np.testing.assert_allclose(by_area, by_patches, rtol=1e-5)
    np.testing.assert_allclose(cells.colours, seen.colours, atol=1e-5)
    # Bands of a patch end at its border, those of cells do not: the finest ones hardly differ.
    np.testing.assert_allclose(cells.textures[:, 0], seen.textures[:, 0], atol=0.2)
    assert np.array_equal(np.isnan(cells.textures), np.isnan(seen.textures))


def broken(regular: Callable[..., npt.NDArray[np.uint8]]) -> Callable[..., npt.NDArray[np.uint8]]:
    """Reads all but tiles in the upper left corner of the slide, whose halo begins beyond it."""

    def read_region(x: float, y: float, *size: float) -> npt.NDArray[np.uint8]:
        if x < -60 and y < -60:
            raise SlideError("damaged here")
        return regular(x, y, *size)

    return read_region


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 29), min_size=1, max_size=30, unique=True))
def test_features_do_not_depend_on_other_spots_or_on_order(path: Path, rows: list[int]) -> None:
    slide, xy = open_slide(path, mpp=1.0), inside(30, seed=1)
    np.testing.assert_array_equal(read(slide, xy[rows]), read(slide, xy)[rows])


@pytest.mark.parametrize("kind", [AreaColour, InThree])
def test_features_do_not_depend_on_batches_or_on_what_is_kept(
    slide: Slide, monkeypatch: pytest.MonkeyPatch, kind: type[AreaColour]
) -> None:
    xy, whole = inside(60, seed=2), np.empty((60, 2, 3), np.float32)
    encoder, again = kind(), kind()
    for rows, features, _ in encode_batches(slide, xy, encoder, BY_AREA, 1.0, area_batch=7):
        whole[rows] = features
    np.testing.assert_array_equal(whole, read(slide, xy, kind()))
    monkeypatch.setattr(area, "_KEPT_BYTES", 1)
    for rows, features, _ in encode_batches(slide, xy, again, BY_AREA, 1.0, area_batch=7):
        np.testing.assert_array_equal(features, whole[rows])
    assert again.tiles > 2 * encoder.tiles  # nothing was kept, and tiles were made again


@pytest.mark.parametrize("kind", [AreaColour, InThree])
@pytest.mark.parametrize("size", [7, 512])
def test_every_tile_that_is_needed_is_made_once(
    slide: Slide, kind: type[AreaColour], size: int
) -> None:
    xy, encoder = inside(60, seed=2), kind()
    read(slide, xy, encoder, size)
    of_sides = [side / 2 for side in BY_AREA.sides_px0(1.0)]
    needed = [tiles_under(xy, cell_px0, 2, encoder.own_tiles)[0] for cell_px0 in of_sides]
    assert encoder.tiles == sum(needed)


def test_three_phases_put_together_what_one_phase_says(slide: Slide) -> None:
    xy = np.concatenate([inside(40, seed=3), [[-500.0, -500.0], [480.0, 440.0]]])
    found, seen = told(slide, xy, InThree())
    expected, as_seen = told(slide, xy)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(seen.colours, as_seen.colours, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 29), min_size=1, max_size=30, unique=True))
def test_three_phases_do_not_depend_on_other_spots_or_on_order(path: Path, rows: list[int]) -> None:
    slide, xy = open_slide(path, mpp=1.0), inside(30, seed=1)
    few, whole = told(slide, xy[rows], InThree()), told(slide, xy, InThree())
    np.testing.assert_array_equal(few[0], whole[0][rows])
    np.testing.assert_array_equal(few[1].colours, whole[1].colours[rows])


def test_spots_of_a_line_share_sums_and_get_what_each_gets_alone(slide: Slide) -> None:
    x, y = np.meshgrid(np.arange(80.0, 300.0, 7.3), np.arange(90.0, 300.0, 7.3))
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    whole = read(slide, xy)
    for row in (0, 17, 400, len(xy) - 1):
        np.testing.assert_array_equal(read(slide, xy[row : row + 1])[0], whole[row])
    np.testing.assert_allclose(whole[:, 0, :2], xy / 2 - 0.5, atol=0.05)


@pytest.mark.slow
def test_what_is_left_out_around_a_lone_spot_changes_no_bit_of_it(tmp_path: Path) -> None:
    coarse = np.random.default_rng(4).integers(40, 250, (94, 94, 3)).astype(np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1)).save(path)
    plan, encoder = PatchPlan((224.0,), 224, "area"), get_encoder("efficientnet-lite0", threads=1)
    x, y = np.meshgrid(np.arange(200.0, 1300.0, 90.0), np.arange(200.0, 1300.0, 90.0))
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    whole, alone = (
        np.concatenate([own for _, own, _ in AreaReader(opened, encoder, plan, 1.0).batches(spots)])
        for opened in [open_slide(path, mpp=1.0)]
        for spots in (xy, xy[70:71])
    )
    np.testing.assert_array_equal(alone[0], whole[70])
    of_all, of_one = (sum(tiles_under(spots, 32.0, 7, offline.TILES)) for spots in (xy, xy[70:71]))
    assert of_one < of_all / 2


def test_tiles_that_no_cell_under_a_patch_depends_on_are_not_needed() -> None:
    tiles = (Tile(4, 0.5, exact=True), Tile(8, 2, exact=True))
    spot = np.array([[5.0, 5.0]])
    # Cells 4 to 6 are under the patch, 2 to 8 matter to them, -2 to 9 lie around their tile.
    assert tiles_under(spot, 1.0, 2, tiles) == [9, 1]
    loose = tuple(replace(tile, exact=False) for tile in tiles)
    assert tiles_under(spot, 1.0, 2, loose) == [16, 1]


def test_in_three_phases_only_spots_on_what_cannot_be_read_are_told(
    slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(slide, inside(30), InThree())
    monkeypatch.setattr(slide, "read_region", broken(slide.read_region))
    heard: dict[int, str] = {}
    found, _ = told(
        slide, inside(30), InThree(), 8, lambda spot, error: heard.update({spot: str(error)})
    )
    assert 0 < len(heard) < 30
    good = [spot for spot in range(30) if spot not in heard]
    np.testing.assert_array_equal(found[good], whole[good])


def test_only_tiles_under_spots_are_encoded(slide: Slide) -> None:
    encoder, plan = AreaColour(), PatchPlan((64.0,), 64, "area")
    reader = AreaReader(slide, encoder, plan, 1.0)
    next(reader.batches(np.array([[140.0, 140.0], [150.0, 130.0]])))
    assert encoder.tiles == 1  # cells 3 to 5, all of one tile
    next(reader.batches(np.array([[170.0, 140.0]])))
    assert encoder.tiles == 3  # it reaches the next one to the right


def test_beyond_the_slide_it_is_white(slide: Slide) -> None:
    found = read(slide, np.array([[-500.0, -500.0], [5000.0, 90.0]]))
    np.testing.assert_array_equal(found, 255)


def test_a_region_that_cannot_be_read_is_told_of_the_spots_on_it_alone(
    slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(slide, inside(30))
    monkeypatch.setattr(slide, "read_region", broken(slide.read_region))
    with pytest.raises(SlideError, match="damaged here"):
        read(slide, inside(30))
    heard: dict[int, str] = {}
    found, _ = told(slide, inside(30), None, 8, lambda s, error: heard.update({s: str(error)}))
    assert 0 < len(heard) < 30
    assert set(heard.values()) == {"damaged here"}
    good = [spot for spot in range(30) if spot not in heard]
    np.testing.assert_array_equal(found[good], whole[good])


def test_the_cache_knows_the_reading() -> None:
    args = ("slide", AreaColour())
    xy = inside(3)
    assert features_key(*args, BY_AREA, 1.0, xy) != features_key(*args, BY_PATCHES, 1.0, xy)


@pytest.mark.parametrize("other", [{"cells": 4}, {"halo": 2}, {"offset": 1}])
def test_the_cache_knows_the_tiles_of_a_reading_by_area(other: dict[str, int]) -> None:
    usual, moved, xy = AreaColour(), AreaColour(), inside(3)
    moved.own_tiles = tuple(replace(tile, **other) for tile in usual.own_tiles)
    by_area, by_patches = (
        [features_key("slide", encoder, plan, 1.0, xy) for encoder in (usual, moved)]
        for plan in (BY_AREA, BY_PATCHES)
    )
    assert by_area[0] != by_area[1]
    assert by_patches[0] == by_patches[1]


def test_an_encoder_of_patches_alone_is_refused_before_work() -> None:
    with pytest.raises(
        EncoderError, match=r"found toy, which reads patches alone.*encoder.reading=patches"
    ):
        patch_plan(ToyEncoder(), PatchConfig(), "area")
    assert patch_plan(AreaColour(), PatchConfig(sides_um=SIDES_UM), "area") == BY_AREA
