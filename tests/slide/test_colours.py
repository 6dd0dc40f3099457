"""Pixels of any image file come as its maker meant them: 8 bits of red, green and blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.pictures import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    noise,
    quarters,
    whole,
)
from hespotex.errors import SlideError
from hespotex.slide import open_slide


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_a_plain_image_gives_its_own_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image with spaces é{suffix}"
    Image.fromarray(noise()).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    with open_slide(path) as slide:
        assert (slide.width_px0, slide.height_px0) == (700, 500)
        np.testing.assert_array_equal(whole(slide), noise())


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    indices = np.zeros((40, 60), np.uint8)
    indices[:20, 30:] = 1
    indices[20:, :30] = 2
    indices[20:, 30:] = 3
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette([*RED, *GREEN, *BLUE, *WHITE])
    picture.save(tmp_path / "p.png")
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, :4] = np.array([RED, GREEN, BLUE, WHITE], np.uint16).T * 257
    tifffile.imwrite(tmp_path / "p.tif", indices, photometric="palette", colormap=colormap)
    for name in ("p.png", "p.tif"):
        with open_slide(tmp_path / name) as slide:
            np.testing.assert_array_equal(whole(slide), quarters(60, 40))


def test_grey_is_the_same_in_three_channels(tmp_path: Path) -> None:
    grey = np.tile(np.arange(200, dtype=np.uint8), (50, 1))
    Image.fromarray(grey).save(tmp_path / "g.png")
    with open_slide(tmp_path / "g.png") as slide:
        np.testing.assert_array_equal(whole(slide), np.repeat(grey[..., None], 3, axis=2))


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((10, 20, 4), np.uint8)
    rgba[:, :10] = (100, 0, 0, 255)
    rgba[:, 10:15] = (100, 0, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        row = whole(slide)[0]
    assert tuple(row[0]) == (100, 0, 0)
    np.testing.assert_allclose(row[12], (177, 127, 127), atol=1)
    assert tuple(row[19]) == WHITE


def test_16_bit_grey_keeps_its_upper_8(tmp_path: Path) -> None:
    values = (np.arange(256, dtype=np.uint16) * 256 + 7).reshape(1, -1).repeat(4, axis=0)
    Image.fromarray(values).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="minisblack")
    for name in ("deep.png", "deep.tif"):
        with open_slide(tmp_path / name) as slide:
            np.testing.assert_array_equal(whole(slide)[0, :, 0], np.arange(256))


def test_a_cmyk_jpeg_shows_the_colours_that_were_mixed(tmp_path: Path) -> None:
    cmyk = Image.fromarray(quarters()).convert("CMYK")
    cmyk.save(tmp_path / "c.jpg", quality=98)
    with open_slide(tmp_path / "c.jpg") as slide:
        for xy, colour in {(150, 100): RED, (450, 100): GREEN, (150, 300): BLUE}.items():
            np.testing.assert_allclose(whole(slide)[xy[1], xy[0]], colour, atol=8)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(quarters())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    image.save(tmp_path / "turned.jpg", exif=exif, quality=98)
    with open_slide(tmp_path / "turned.jpg") as slide:
        assert (slide.width_px0, slide.height_px0) == (400, 600)
        np.testing.assert_allclose(whole(slide)[150, 100], BLUE, atol=6)
        np.testing.assert_allclose(whole(slide)[150, 300], RED, atol=6)


@pytest.mark.parametrize(
    "options",
    [
        {"rowsperstrip": 7},
        {"rowsperstrip": 7, "compression": "lzw"},
        {"compression": "deflate"},
        {"planarconfig": "separate"},
        {"bigtiff": True, "rowsperstrip": 64},
        {"tile": (64, 64), "planarconfig": "separate"},
    ],
    ids=str,
)
def test_a_tiff_of_any_layout_gives_its_own_pixels(
    tmp_path: Path, options: dict[str, object]
) -> None:
    picture = noise()
    data = picture.transpose(2, 0, 1) if "planarconfig" in options else picture
    tifffile.imwrite(tmp_path / "s.tif", data, photometric="rgb", **options)  # type: ignore[arg-type]
    with open_slide(tmp_path / "s.tif") as slide:
        np.testing.assert_array_equal(whole(slide), picture)
        np.testing.assert_array_equal(
            slide.read_region(333, 217, 40, 50, 40, 50), picture[217:267, 333:373]
        )


def test_an_ome_pyramid_is_read_with_all_its_levels(tmp_path: Path) -> None:
    first, second = noise(512, 512), quarters(256, 256)
    with tifffile.TiffWriter(tmp_path / "o.ome.tif", bigtiff=True) as tiff:
        meta = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
        tiff.write(first, subifds=1, tile=(64, 64), photometric="rgb", metadata=meta)
        tiff.write(second, subfiletype=1, tile=(64, 64), photometric="rgb")
    with open_slide(tmp_path / "o.ome.tif") as slide:
        assert slide.level_downsamples == (1.0, 2.0)
        assert slide.mpp == 0.25
        assert slide.mpp_source == "OME PhysicalSize"
        np.testing.assert_array_equal(whole(slide), first)
        np.testing.assert_array_equal(slide.read_region(0, 0, 512, 512, 256, 256), second)


def test_values_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((20, 20), np.float32))
    with pytest.raises(SlideError, match=r"8 or 16 bit, found float32 in .*f\.tif; export"):
        open_slide(tmp_path / "f.tif")
    tifffile.imwrite(
        tmp_path / "m.ome.tif", np.zeros((7, 20, 20), np.uint8), metadata={"axes": "CYX"}
    )
    with pytest.raises(SlideError, match=r"found 7 in .*fluorescence image is no H&E slide"):
        open_slide(tmp_path / "m.ome.tif")


def test_an_upright_jpeg_has_the_pixels_that_pillow_decodes(shared_data: Path) -> None:
    path = shared_data / "mob" / "images" / "MOB9.jpg"
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    with open_slide(path) as slide:
        shown = slide.read_region(
            0, 0, slide.width_px0, slide.height_px0, slide.width_px0, slide.height_px0
        )
    np.testing.assert_array_equal(shown, expected)
