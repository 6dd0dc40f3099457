"""What regions, thumbnails and keys of a slide hold."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.pictures import (
    BLUE,
    GREEN,
    RED,
    Picture,
    noise,
    quarters,
    ramp,
    write_png,
    write_pyramid,
)
from hespotex.slide import open_slide, slide_key
from hespotex.slide.sources import wsidata_readers


def test_each_scale_is_read_from_the_coarsest_level_that_is_fine_enough(tmp_path: Path) -> None:
    levels = [
        np.full((512 // d, 768 // d, 3), c, np.uint8) for d, c in [(1, 10), (2, 90), (4, 170)]
    ]
    with open_slide(write_pyramid(tmp_path / "p.tif", levels)) as slide:
        assert slide.level_downsamples == (1.0, 2.0, 4.0)
        for side, out, value in [(64, 128, 10), (64, 64, 10), (127, 64, 10), (128, 64, 90),
                                 (250, 64, 90), (256, 64, 170), (512, 64, 170)]:  # fmt: skip
            region = slide.read_region(100, 80, side, side, out, out)
            assert region.shape == (out, out, 3)
            assert np.unique(region[: out // 2]).tolist() == [value], (side, out)


def test_shrinking_is_the_mean_over_areas(tmp_path: Path) -> None:
    picture = noise(256, 256)
    Image.fromarray(picture).save(tmp_path / "n.png")
    means = picture.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    with open_slide(tmp_path / "n.png") as slide:
        region = slide.read_region(0, 0, 256, 256, 64, 64)
    assert np.abs(region - means).max() <= 0.51


def test_enlarging_is_exact_between_pixels(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "r.png")
    with open_slide(tmp_path / "r.png") as slide:
        region = slide.read_region(50.25, 60.75, 40.0, 20.0, 160, 80).astype(float)
    x = 50.25 + (np.arange(160) + 0.5) / 4 - 0.5
    y = 60.75 + (np.arange(80) + 0.5) / 4 - 0.5
    assert np.abs(region[..., 0] - x).max() <= 1.0
    assert np.abs(region[..., 1] - y[:, None]).max() <= 1.0
    assert abs(float((region[..., 0] - x).mean())) < 0.1


def test_outside_the_slide_is_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((100, 120, 3), 40, np.uint8)).save(tmp_path / "d.png")
    levels = [np.full((100, 120, 3), 40, np.uint8), np.full((50, 60, 3), 40, np.uint8)]
    write_pyramid(tmp_path / "d.tif", levels)
    for name in ("d.png", "d.tif"):
        with open_slide(tmp_path / name) as slide:
            for out in (20, 40, 80):
                corner = slide.read_region(-20, -20, 40, 40, out, out)
                half, edge = (
                    out // 2,
                    1 if out <= 40 else 6,
                )  # a cubic reaches two pixels of level 0
                assert (corner[half + edge :, half + edge :] == 40).all()
                assert (corner[: half - edge] == 255).all()
                assert (corner[:, : half - edge] == 255).all()
            assert (slide.read_region(500, 500, 30, 30, 30, 30) == 255).all()
            assert (slide.read_region(-500, 10, 30, 30, 60, 60) == 255).all()


@pytest.mark.slow
def test_both_readers_give_the_same_pixels(tmp_path: Path) -> None:
    picture = cv2.GaussianBlur(noise(1500, 1200), (9, 9), 3)
    Image.fromarray(picture).save(tmp_path / "n.png")
    write_pyramid(tmp_path / "n.tif", [picture])
    with open_slide(tmp_path / "n.png") as plain, open_slide(tmp_path / "n.tif") as tiled:
        assert tiled.reader == "openslide (generic-tiff)"
        for box in [(10.3, 20.7, 300.0, 300.0, 224, 224), (505.5, 500.5, 50.0, 50.0, 224, 224),
                    (-30.0, 1100.0, 448.0, 448.0, 224, 224)]:  # fmt: skip
            np.testing.assert_array_equal(plain.read_region(*box), tiled.read_region(*box))


def test_what_was_read_before_does_not_change_a_region(tmp_path: Path) -> None:
    levels = [noise(1400, 1100), noise(349, 274)]  # a downsample of 4.01: no whole number
    path = write_pyramid(tmp_path / "p.tif", levels)
    box = (333.3, 417.9, 700.0, 700.0, 160, 160)
    with open_slide(path) as slide:
        fresh = slide.read_region(*box)
    with open_slide(path) as slide:
        for x, y in [(0, 0), (900, 500), (200, 300)]:
            slide.read_region(x, y, 600, 600, 140, 140)
        np.testing.assert_array_equal(slide.read_region(*box), fresh)


def test_neighbouring_regions_decode_every_chunk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slide(write_pyramid(tmp_path / "p.tif", [noise(1400, 1100)])) as slide:
        seen: list[tuple[int, ...]] = []
        original = slide._source.read

        def read(*where: int) -> Picture:
            seen.append(where)
            return original(*where)

        monkeypatch.setattr(slide._source, "read", read)
        for y in range(0, 900, 90):
            for x in range(0, 1200, 90):
                slide.read_region(x, y, 200, 200, 224, 224)
    assert len(seen) == len(set(seen)) == 6


def test_a_large_region_is_shrunk_by_bands_without_seams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = cv2.GaussianBlur(noise(1000, 900), (15, 15), 5)
    Image.fromarray(picture).save(tmp_path / "b.png")
    with open_slide(tmp_path / "b.png") as slide:
        at_once = slide.read_region(0, 0, 1000, 900, 100, 90)
        monkeypatch.setattr("hespotex.slide.slide._BAND_PIXELS", 50_000)
        np.testing.assert_array_equal(slide.read_region(0, 0, 1000, 900, 100, 90), at_once)


def test_a_thumbnail_says_its_scale(tmp_path: Path) -> None:
    Image.fromarray(quarters(613, 401)).save(tmp_path / "q.png")
    with open_slide(tmp_path / "q.png") as slide:
        small, scale = slide.thumbnail(100)
        assert small.shape == (66, 100, 3)
        assert scale == pytest.approx(6.13)
        for (x, y), colour in {(150, 100): RED, (450, 100): GREEN, (150, 300): BLUE}.items():
            np.testing.assert_allclose(small[int(y / scale), int(x / scale)], colour, atol=1)
        same, one = slide.thumbnail(5000)
        assert one == 1.0
        np.testing.assert_array_equal(same, quarters(613, 401))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_thumbnail_of_a_jpeg_shows_every_place_where_the_whole_image_has_it(
    tmp_path: Path, orientation: int, mode: str
) -> None:
    picture = cv2.GaussianBlur(noise(1003, 801), (0, 0), 12)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).convert(mode).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with open_slide(tmp_path / "a.jpg") as slide:
        small, scale = slide.thumbnail(60)
        height, width = small.shape[:2]
        region = slide.read_region(0, 0, width * scale, height * scale, width, height)
        inside = np.s_[: int(slide.height_px0 / scale), : int(slide.width_px0 / scale)]
    assert max(height, width) == 60
    difference = np.abs(small[inside].astype(int) - region[inside])
    assert difference.mean() < 1.5
    moved = np.abs(small[inside][:, 1:].astype(int) - region[inside][:, :-1])
    assert moved.mean() > 4 * difference.mean()


def test_a_region_without_size_is_refused(tmp_path: Path) -> None:
    with open_slide(write_png(tmp_path / "a.png", "RGB")) as slide:
        for box in [(0, 0, 0, 5, 5, 5), (0, 0, 5, 5, 0, 5)]:
            with pytest.raises(ValueError, match="a region needs a size above 0, found"):
                slide.read_region(*box)


@pytest.fixture(scope="module")
def ramp_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ramp") / "r.png"
    Image.fromarray(ramp()).save(path)
    return path


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-20, 180), y=st.floats(-20, 150), w=st.floats(2, 90), h=st.floats(2, 90),
    ow=st.integers(1, 120), oh=st.integers(1, 120),
)  # fmt: skip
def test_a_region_shows_the_place_that_was_asked_for(
    ramp_slide: Path, x: float, y: float, w: float, h: float, ow: int, oh: int
) -> None:
    with open_slide(ramp_slide) as slide:
        region = slide.read_region(x, y, w, h, ow, oh).astype(float)
    assert region.shape == (oh, ow, 3)
    cx, cy = x + (np.arange(ow) + 0.5) * w / ow - 0.5, y + (np.arange(oh) + 0.5) * h / oh - 0.5
    # Three pixels of the output away from the border, white does not mix in.
    reach_x, reach_y = 3 * max(w / ow, 1) + 1, 3 * max(h / oh, 1) + 1
    inside_x = (cx > reach_x) & (cx < 249 - reach_x)
    inside_y = (cy > reach_y) & (cy < 199 - reach_y)
    inner = region[np.ix_(inside_y, inside_x)]
    # Snapped to half a pixel of the output at each end, or exact; one grey level of rounding.
    assert np.abs(inner[..., 0] - cx[inside_x]).max(initial=0) <= max(w / ow, 0.5) + 1.0
    assert np.abs(inner[..., 1] - cy[inside_y, None]).max(initial=0) <= max(h / oh, 0.5) + 1.0


def test_the_key_is_that_of_the_content(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", "RGB")
    other = tmp_path / "b.png"
    other.write_bytes(path.read_bytes())
    with open_slide(path) as slide:
        assert slide.key() == slide_key(path) == slide_key(other)
    other.write_bytes(path.read_bytes() + b"\0")
    assert slide_key(other) != slide_key(path)
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "Data.dat").write_bytes(b"1")
    (tmp_path / "m.mrxs").write_bytes(b"x")
    before = slide_key(tmp_path / "m.mrxs")
    (folder / "Data.dat").write_bytes(b"2")
    assert slide_key(tmp_path / "m.mrxs") != before


def test_wsidata_reads_plain_images_through_our_reader(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "n.png")
    reader = wsidata_readers().try_open(str(tmp_path / "n.png"))
    try:
        assert reader.name == "hespotex"
        assert reader.properties.shape == [500, 700]
        np.testing.assert_array_equal(reader.get_region(10, 20, 30, 40), noise()[20:60, 10:40])
        assert (reader.get_region(690, 0, 20, 5)[:, 10:] == 255).all()
        assert reader.get_thumbnail(70).shape == (50, 70, 3)
    finally:
        reader.detach_reader()


def test_a_jpeg_is_decoded_when_it_is_first_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    Image.fromarray(noise()).save(tmp_path / "d.jpg")
    with open_slide(tmp_path / "d.jpg") as slide:
        monkeypatch.setattr(
            "hespotex.slide.decoded._decode", lambda p: decoded.append(p) or noise()
        )
        assert (slide.width_px0, slide.height_px0) == (700, 500)
        assert decoded == []
        for _ in range(3):
            slide.read_region(0, 0, 10, 10, 10, 10)
    assert decoded == [tmp_path / "d.jpg"]
