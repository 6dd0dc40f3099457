"""Patches: the colour painted at a place, at any pixel size and at the border, in batches."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from hespotex.errors import ConfigError, GeometryError, SlideError
from hespotex.features.patches import PatchPlan, crop_patches, reading_order
from hespotex.slide import open_slide

Picture = npt.NDArray[np.uint8]

SPOT_UM = 60.0
WIDTH_UM, HEIGHT_UM = 1200.0, 900.0
# Centres in microns, the first at the corner of the slide, the second at its right border.
CENTRES_UM = np.array([[0.0, 0.0], [1200.0, 450.0], [300.0, 300.0], [600.0, 300.0], [900.0, 700.0]])
COLOURS = np.array([[200, 30, 40], [20, 180, 60], [30, 50, 210], [160, 90, 200], [90, 90, 20]])
TISSUE = (225, 190, 215)


def painted(mpp: float) -> Picture:
    """Squares of SPOT_UM in one colour each on tissue."""
    height, width = round(HEIGHT_UM / mpp), round(WIDTH_UM / mpp)
    image = np.full((height, width, 3), TISSUE, np.uint8)
    for (x, y), colour in zip(CENTRES_UM, COLOURS, strict=True):
        left, right = round((x - SPOT_UM / 2) / mpp), round((x + SPOT_UM / 2) / mpp)
        top, bottom = round((y - SPOT_UM / 2) / mpp), round((y + SPOT_UM / 2) / mpp)
        image[max(top, 0) : bottom, max(left, 0) : right] = colour
    return image


def write_pyramid(path: Path, mpp: float) -> Path:
    level = painted(mpp)
    with tifffile.TiffWriter(path) as tiff:
        for i in range(3):
            kind = {} if i == 0 else {"subfiletype": 1}
            tiff.write(level, tile=(64, 64), photometric="rgb", compression="deflate", **kind)
            h, w = level.shape[0] // 2 * 2, level.shape[1] // 2 * 2
            halves = level[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean(axis=(1, 3))
            level = halves.astype(np.uint8)
    return path


def crop_all(
    path: Path, xy: npt.NDArray[np.float64], mpp: float, plan: PatchPlan, n: int
) -> Picture:
    out = np.zeros((len(xy), len(plan.sides_um), plan.size_px, plan.size_px, 3), np.uint8)
    seen = []
    with open_slide(path) as slide:
        for indices, patches in crop_patches(slide, xy, mpp, plan, n):
            assert patches.dtype == np.uint8
            out[indices] = patches
            seen += indices.tolist()
    assert sorted(seen) == list(range(len(xy)))
    return out


@pytest.mark.parametrize("mpp", [0.5, 0.83, 1.0, 2.5, 4.0])
def test_patches_show_the_colour_painted_at_their_spot(tmp_path: Path, mpp: float) -> None:
    plan = PatchPlan((40.0, 120.0, 240.0), 48)
    path = write_pyramid(tmp_path / "p.tif", mpp)
    patches = crop_all(path, CENTRES_UM / mpp, mpp, plan, 2).astype(int)
    inner = slice(48 // 4, 48 * 3 // 4)
    for patch, colour in zip(patches[2:], COLOURS[2:], strict=True):
        # The smallest patch lies inside the square of 60 um, the next is half as wide as it shows.
        assert np.abs(patch[0] - colour).max() <= 2
        assert np.abs(patch[1, 16:32, 16:32] - colour).max() <= 2
        assert np.abs(patch[1, :8] - TISSUE).max() <= 2
        assert np.abs(patch[2, 22:26, 22:26] - colour).max() <= 2
        assert np.abs(patch[2, inner, :14] - TISSUE).max() <= 2
    corner, border = patches[0], patches[1]
    for s, inside in ((0, slice(36, 48)), (1, slice(28, 32))):
        assert (corner[s, :14, :14] == 255).all()
        assert np.abs(corner[s, inside, inside] - COLOURS[0]).max() <= 2
    assert (border[0, :, 34:] == 255).all()
    assert np.abs(border[0, :, :14] - COLOURS[1]).max() <= 2


def test_a_patch_of_one_pixel_a_pixel_is_copied(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "n.png")
    # 111.9 um at 0.5 um/px are 223.8 px: taken as 224, not blurred to them.
    plan = PatchPlan((111.9,), 224)
    patch = crop_all(tmp_path / "n.png", np.array([[200.3, 150.4]]), 0.5, plan, 1)
    np.testing.assert_array_equal(patch[0, 0], picture[38:262, 88:312])


def test_sides_keep_their_microns() -> None:
    plan = PatchPlan((77.2, 154.5, 309.0), 224)
    assert plan.sides_px0(0.69) == (112.0, 224.0, 448.0)
    assert plan.sides_px0(9.0) == pytest.approx((77.2 / 9, 154.5 / 9, 309.0 / 9))  # too few to snap
    assert plan.effective_mpp(0.69) == pytest.approx((0.345, 0.69, 1.38))
    for mpp in np.linspace(0.2, 5, 97):
        sides = np.array(plan.sides_px0(float(mpp))) * mpp
        np.testing.assert_allclose(sides, plan.sides_um, rtol=0.0051)


def test_the_batch_size_changes_nothing(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "p.tif", 0.83)
    xy = np.random.default_rng(1).uniform(-50, 1500, (23, 2))
    plan = PatchPlan((30.0, 200.0), 32)
    one, many = (crop_all(path, xy, 0.83, plan, n) for n in (1, 100))
    np.testing.assert_array_equal(one, many)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 60), st.just(2)), elements=st.floats(-1e4, 1e5))
)
def test_every_spot_is_visited_once_block_by_block(xy: npt.NDArray[np.float64]) -> None:
    order = reading_order(xy)
    assert sorted(order.tolist()) == list(range(len(xy)))
    blocks = [tuple(b) for b in np.floor(xy[order] / 2048)[:, ::-1]]
    assert blocks == sorted(blocks)


def test_an_error_reaches_the_consumer_and_ends_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slide(write_pyramid(tmp_path / "p.tif", 2.0)) as slide:
        good = slide.read_region
        calls = []

        def read(*box: float) -> Picture:
            calls.append(box)
            if len(calls) == 4:
                raise SlideError("tile 7 is broken")
            return good(*box)  # type: ignore[arg-type]

        monkeypatch.setattr(slide, "read_region", read)
        batches = crop_patches(slide, CENTRES_UM / 2, 2.0, PatchPlan((60.0,), 8), 1)
        for _ in range(3):
            next(batches)
        with pytest.raises(SlideError, match="tile 7 is broken"):
            next(batches)
    assert "hespotex-patches" not in {t.name for t in threading.enumerate()}


def test_leaving_early_stops_the_reader(tmp_path: Path) -> None:
    xy = np.random.default_rng(0).uniform(0, 500, (4000, 2))
    with open_slide(write_pyramid(tmp_path / "p.tif", 2.0)) as slide:
        batches = crop_patches(slide, xy, 2.0, PatchPlan((60.0,), 8), 4)
        next(batches)
        batches.close()
        assert "hespotex-patches" not in {t.name for t in threading.enumerate()}


def test_reading_runs_ahead_by_a_few_batches_only(tmp_path: Path) -> None:
    xy = np.random.default_rng(0).uniform(0, 500, (400, 2))
    with open_slide(write_pyramid(tmp_path / "p.tif", 2.0)) as slide:
        done = []
        good = slide.read_region
        slide.read_region = lambda *box: (done.append(1), good(*box))[1]  # type: ignore[method-assign]
        batches = crop_patches(slide, xy, 2.0, PatchPlan((60.0,), 8), 4)
        for _ in range(3):
            next(batches)
        reader = next(t for t in threading.enumerate() if t.name == "hespotex-patches")
        reader.join(timeout=0.5)
        assert 12 < len(done) <= (3 + 2 + 1) * 4
        batches.close()


@pytest.mark.parametrize(
    ("sides", "size", "found"),
    [((), 224, r"found \[\]"), ((0.0, 5.0), 224, "above 0 um"), ((9.0, 5.0), 224, "ascending"),
     ((5.0, 5.0), 224, "ascending"), ((5.0,), 0, "at least 1 px, found 0")],
)  # fmt: skip
def test_a_plan_checks_itself(sides: tuple[float, ...], size: int, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        PatchPlan(sides, size)


def test_a_pixel_size_of_nothing_is_refused() -> None:
    for mpp in (0.0, -0.5, float("nan")):
        with pytest.raises(GeometryError, match="microns per pixel above 0, found"):
            PatchPlan((5.0,), 8).sides_px0(mpp)
