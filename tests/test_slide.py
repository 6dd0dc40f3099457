"""Slides: what `open_slide` refuses and why, what it says of the pixel size, what regions hold."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hespotex.errors import SlideError
from hespotex.slide import Slide, open_slide, slide_key
from hespotex.slide.sources import wsidata_readers

Picture = npt.NDArray[np.uint8]

RED, GREEN, BLUE, WHITE = (200, 30, 40), (20, 180, 60), (30, 50, 210), (255, 255, 255)


def quarters(width: int = 600, height: int = 400) -> Picture:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    image[height // 2 :, width // 2 :] = WHITE
    return image


def ramp(width: int = 250, height: int = 200) -> Picture:
    """Red grows by 1 per pixel of x, green by 1 per pixel of y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def noise(width: int = 700, height: int = 500) -> Picture:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_pyramid(path: Path, levels: list[Picture], **tags: object) -> Path:
    """A tiled pyramid as OpenSlide's generic reader knows it; any pictures as levels."""
    with tifffile.TiffWriter(path) as tiff:
        for i, level in enumerate(levels):
            extra = tags if i == 0 else {"subfiletype": 1}
            tiff.write(level, tile=(64, 64), photometric="rgb", compression="deflate", **extra)
    return path


def whole(slide: Slide) -> Picture:
    w, h = slide.width_px0, slide.height_px0
    return slide.read_region(0, 0, w, h, w, h)


# ----------------------------------------------------------------------------- colours of any file


def _png(path: Path, mode: str) -> Path:
    rgb = Image.fromarray(quarters())
    rgb.convert(mode).save(path)
    return path


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


# ----------------------------------------------------------------------------------------- faults


def _cut(source: Path, target: Path, share: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


@pytest.mark.parametrize("name", ["c.jpg", "c.png"])
def test_a_cut_image_is_refused_by_its_true_cause(tmp_path: Path, name: str) -> None:
    Image.fromarray(noise()).save(tmp_path / name)
    path = _cut(tmp_path / name, tmp_path / f"cut {name}", 0.6)
    with pytest.raises(SlideError, match=r"truncated.* in .*cut c\.(jpg|png); copy or export"):
        open_slide(path)


def test_damage_inside_a_png_is_said(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "d.png")
    data = bytearray((tmp_path / "d.png").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    (tmp_path / "d.png").write_bytes(data)
    with pytest.raises(SlideError, match=r"expected a whole image, found: .* in .*d\.png; copy"):
        open_slide(tmp_path / "d.png")


def test_an_upright_jpeg_has_the_pixels_that_pillow_decodes(shared_data: Path) -> None:
    path = shared_data / "mob" / "images" / "MOB9.jpg"
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    with open_slide(path) as slide:
        shown = slide.read_region(
            0, 0, slide.width_px0, slide.height_px0, slide.width_px0, slide.height_px0
        )
    np.testing.assert_array_equal(shown, expected)


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


def test_a_cut_pyramid_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "p.tif", [noise(), noise(350, 250)])
    for share in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(
            SlideError, match=r"cut short: .*cut\.tif: its .* copy it again"
        ) as caught:
            open_slide(_cut(path, tmp_path / "cut.tif", share))
        assert "\n" not in str(caught.value)


def test_a_real_slide_cut_short_is_refused(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "wsi" / "CMU-1-Small-Region.svs"
    with pytest.raises(SlideError, match=r"cut short: .*cut\.svs: its directory .* is missing"):
        open_slide(_cut(source, tmp_path / "cut.svs", 0.6))


def test_a_jpeg_ls_dicom_is_refused_by_its_name(shared_data: Path) -> None:
    with pytest.raises(SlideError, match=r"JPEG-LS lossless.*sm_image_jpegls\.dcm.*JPEG 2000"):
        open_slide(shared_data / "wsi" / "sm_image_jpegls.dcm")


def test_what_is_no_slide_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.svs").touch()
    with pytest.raises(SlideError, match=r"found an empty file: .*empty\.svs"):
        open_slide(tmp_path / "empty.svs")
    (tmp_path / "text.svs").write_text("not a slide at all")
    with pytest.raises(SlideError, match=r"no reader knows: .*text\.svs; export it"):
        open_slide(tmp_path / "text.svs")
    with pytest.raises(SlideError, match="expected an image file as slide, found a folder"):
        open_slide(tmp_path)
    with pytest.raises(SlideError, match=r"No such file or directory \(.*missing\.jpg\); check"):
        open_slide(tmp_path / "missing.jpg")
    with pytest.raises(SlideError, match="No such file or directory"):
        slide_key(tmp_path / "missing.jpg")


def test_a_format_that_needs_another_reader_says_which(tmp_path: Path) -> None:
    (tmp_path / "s.isyntax").write_bytes(b"<DataObject>" * 100)
    with pytest.raises(SlideError, match=r"found \.isyntax: .*pip install .*wsidata\[isyntax\]"):
        open_slide(tmp_path / "s.isyntax")


def test_a_loop_of_links_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    with pytest.raises(SlideError, match=r"symbolic links \(.*a\.jpg\)"):
        open_slide(tmp_path / "a.jpg")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_said(tmp_path: Path) -> None:
    path = _png(tmp_path / "secret.png", "RGB")
    path.chmod(0)
    with pytest.raises(SlideError, match=r"Permission denied \(.*secret\.png\)"):
        open_slide(path)


def _damage_tile(path: Path, level: int, tile: int) -> None:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        offset, count = page.dataoffsets[tile], page.databytecounts[tile]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)


@pytest.mark.parametrize("planar", [False, True], ids=["openslide", "tifffile"])
def test_a_damaged_tile_is_an_error_there_and_nowhere_else(tmp_path: Path, planar: bool) -> None:
    path = tmp_path / "d.tif"
    picture = noise(2048, 1024)
    if planar:
        data = picture.transpose(2, 0, 1)
        tifffile.imwrite(
            path,
            data,
            tile=(64, 64),
            photometric="rgb",
            planarconfig="separate",
            compression="zlib",
        )
    else:
        write_pyramid(path, [picture])
    _damage_tile(path, 0, 0)
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match=r"x 0, y 0 of level 0.*d\.tif; the file is damaged"):
            slide.read_region(0, 0, 100, 100, 100, 100)
        later = slide.read_region(1500, 700, 100, 100, 100, 100)
        np.testing.assert_array_equal(later, picture[700:800, 1500:1600])


# ------------------------------------------------------------------------------------- pixel size


def _jpeg(path: Path, **options: object) -> Path:
    Image.fromarray(quarters(60, 40)).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600, 1200])
def test_printing_densities_mean_not_set(tmp_path: Path, dpi: int) -> None:
    for name in ("d.jpg", "d.png", "d.tif"):
        with open_slide(_jpeg(tmp_path / name, dpi=(dpi, dpi))) as slide:
            assert slide.mpp is None
            assert slide.mpp_source is None
            assert dict(slide.mpp_sources) == {}
            assert next(iter(slide.mpp_rejected.values())) == pytest.approx(25_400 / dpi, rel=1e-3)


def test_a_real_density_is_the_pixel_size(tmp_path: Path) -> None:
    density = 25_400 / 0.46  # dpi at 0.46 um per pixel
    with open_slide(_jpeg(tmp_path / "d.png", dpi=(density, density))) as slide:
        assert slide.mpp == pytest.approx(0.46, rel=1e-4)
        assert slide.mpp_source == "PNG pHYs"


@pytest.mark.parametrize(
    ("per_unit", "unit", "expected"),
    [
        ((20_000, 20_000), 3, 0.5),  # per centimetre
        ((25_400 / 0.25, 25_400 / 0.25), 2, 0.25),  # per inch
        ((10, 10), 3, None),  # 1000 um
        ((28.3464567, 28.3464567), 3, None),  # 72 dpi in centimetres
        ((1, 1), 1, None),  # no unit
        ((0.01, 0.01), 3, None),
    ],
)
def test_tiff_resolution_units(
    tmp_path: Path, per_unit: tuple[float, float], unit: int, expected: float | None
) -> None:
    path = tmp_path / "r.tif"
    tags = {"resolution": per_unit, "resolutionunit": unit}
    write_pyramid(path, [quarters()], **tags)
    with open_slide(path) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx(expected, rel=1e-4))
    tifffile.imwrite(path, quarters(), photometric="rgb", **tags)
    with open_slide(path) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx(expected, rel=1e-4))


def test_pixels_that_are_not_square_have_no_single_size(tmp_path: Path) -> None:
    path = write_pyramid(
        tmp_path / "r.tif", [quarters()], resolution=(20_000, 40_000), resolutionunit=3
    )
    with open_slide(path) as slide:
        assert slide.mpp is None
        assert dict(slide.mpp_sources) == pytest.approx(
            {"TIFF resolution x": 0.5, "TIFF resolution y": 0.25}
        )


def test_a_stated_pixel_size_is_used_exactly(tmp_path: Path) -> None:
    with open_slide(_png(tmp_path / "a.png", "RGB"), mpp=0.123456789) as slide:
        assert slide.mpp == 0.123456789
        assert slide.mpp_source == "stated"
    for bad in (0.0, -1.0, 101.0, float("nan")):
        with pytest.raises(ValueError, match=f"mpp has to be above 0.*found {bad}"):
            open_slide(tmp_path / "a.png", mpp=bad)


def test_real_slides_say_their_pixel_size(shared_data: Path) -> None:
    with open_slide(shared_data / "wsi" / "CMU-1-Small-Region.svs") as slide:
        assert (slide.width_px0, slide.height_px0) == (2220, 2967)
        assert slide.mpp == 0.499
        assert slide.mpp_source == "aperio mpp"
    with open_slide(shared_data / "wsi" / "boxes_0.dcm") as slide:
        assert slide.mpp == 0.499
    with open_slide(shared_data / "wsi" / "boxes.tiff") as slide:
        assert slide.mpp is None
        assert dict(slide.mpp_rejected) == pytest.approx({"TIFF resolution": 352.7778}, rel=1e-4)
        assert tuple(slide.read_region(100, 100, 10, 10, 5, 5)[2, 2]) == (0, 0, 255)
    with open_slide(shared_data / "mob" / "images" / "MOB9.jpg") as slide:
        assert slide.mpp is None
        assert set(slide.mpp_rejected) == {"EXIF resolution", "JFIF density"}


# ----------------------------------------------------------------------------------------- regions


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
    with open_slide(_png(tmp_path / "a.png", "RGB")) as slide:
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
    path = _png(tmp_path / "a.png", "RGB")
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
