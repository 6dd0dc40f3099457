"""Colours of a TIFF are those that its tags mean, whatever space and packing; libtiff and formulas are the reference."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from skimage.color import rgb2lab

from helpers.pictures import Picture, whole
from hespotex.errors import SlideError
from hespotex.slide import open_slide

LAYOUTS = [{"rowsperstrip": 16}, {"tile": (32, 32)}, {"tile": (32, 32), "compression": "deflate"}]
RGB = np.random.default_rng(2).integers(0, 256, (12, 16, 3)).repeat(4, axis=0).repeat(4, axis=1)
RGB = RGB.astype(np.uint8)


def shown(path: Path) -> Picture:
    with open_slide(path) as slide:
        assert slide.reader == "tifffile"
        return whole(slide)


def libtiff(path: Path) -> Picture:
    return np.asarray(imagecodecs.tiff_decode(path.read_bytes(), asrgb=True))[..., :3]


def ycbcr(picture: Picture) -> npt.NDArray[np.float64]:
    """JFIF: full range, the middle of Cb and Cr at 128."""
    r, g, b = np.moveaxis(picture.astype(float), -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.stack([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402], axis=-1)


def as_bytes(values: npt.NDArray[np.float64]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


VIDEO = (16, 235, 128, 240, 128, 240)


def video(values: npt.NDArray[np.float64]) -> Picture:
    """With head and foot room, as VIDEO says."""
    y, cb, cr = np.moveaxis(values, -1, 0)
    room = [16 + y * 219 / 255, 128 + (cb - 128) * 112 / 127, 128 + (cr - 128) * 112 / 127]
    return as_bytes(np.stack(room, axis=-1))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_ycbcr_is_turned_into_rgb(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "y.tif"
    tifffile.imwrite(path, as_bytes(ycbcr(RGB)), photometric="ycbcr", **layout)
    np.testing.assert_allclose(shown(path).astype(int), RGB, atol=2)
    np.testing.assert_allclose(shown(path).astype(int), libtiff(path), atol=1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_reference_black_and_white_of_ycbcr_count(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "y.tif"
    pairs = tuple(number for value in VIDEO for number in (value, 1))
    tifffile.imwrite(
        path, video(ycbcr(RGB)), photometric="ycbcr", extratags=[(532, "2I", 6, pairs, True)],
        **layout,
    )  # fmt: skip
    np.testing.assert_allclose(shown(path).astype(int), RGB, atol=3)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_reference_black_and_white_of_rgb_count(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "r.tif"
    values = np.rint(16 + RGB * (219 / 255)).astype(np.uint8)
    pairs = (16, 1, 235, 1) * 3
    tifffile.imwrite(
        path, values, photometric="rgb", extratags=[(532, "2I", 6, pairs, True)], **layout
    )
    np.testing.assert_allclose(shown(path).astype(int), RGB, atol=1)


def subsampled(path: Path, values: Picture, across: int, down: int, reference: Any) -> Path:
    """One strip without compression: blocks of Y, then one Cb and one Cr (TIFF 6.0, section 21)."""
    height, width = values.shape[:2]
    y = values[..., 0].reshape(height // down, down, width // across, across)
    y = y.transpose(0, 2, 1, 3).reshape(height // down, width // across, down * across)
    data = np.concatenate([y, values[::down, ::across, 1:]], axis=-1).tobytes()
    entries = 11
    bits = 8 + 2 + 12 * entries + 4
    black_white = bits + 8
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 6),
        (273, 4, 1, black_white + 48), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)),
        (530, 3, 2, across | down << 16), (532, 5, 6, black_white),
    ]  # fmt: skip
    content = struct.pack("<2sHIH", b"II", 42, 8, entries)
    content += b"".join(struct.pack("<HHII", *tag) for tag in tags)
    content += struct.pack("<I4H", 0, 8, 8, 8, 0)
    content += struct.pack("<12I", *(number for value in reference for number in (value, 1)))
    path.write_bytes(content + data)
    return path


@pytest.mark.parametrize("across_down", [(2, 2), (2, 1), (4, 2)], ids=str)
@pytest.mark.parametrize("room", [True, False])
def test_colours_that_are_coarser_than_light_are_read_without_jpeg(
    tmp_path: Path, across_down: tuple[int, int], room: bool
) -> None:
    values = video(ycbcr(RGB)) if room else as_bytes(ycbcr(RGB))
    reference = VIDEO if room else (0, 255, 128, 255, 128, 255)
    path = subsampled(tmp_path / "s.tif", values, *across_down, reference)
    np.testing.assert_array_equal(shown(path), libtiff(path))
    np.testing.assert_allclose(shown(path).astype(int), RGB, atol=4)


def lab(bits: int, *, icc: bool) -> np.ndarray:
    """CIE L*a*b* of the picture under D65, as TIFF packs it."""
    values = rgb2lab(RGB)
    kind, step = (np.uint8, 1) if bits == 8 else (np.uint16, 256)
    top = {(8, False): 255, (8, True): 255, (16, False): 65535, (16, True): 65280}[bits, icc]
    lightness = np.rint(values[..., :1] / 100 * top).astype(kind)
    signed = np.rint(values[..., 1:] * step).astype(int) + (1 << (bits - 1) if icc else 0)
    return np.concatenate([lightness, (signed % (1 << bits)).astype(kind)], axis=-1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("icc", [False, True])
def test_cielab_is_turned_into_rgb(
    tmp_path: Path, bits: int, icc: bool, layout: dict[str, Any]
) -> None:
    path = tmp_path / "l.tif"
    tifffile.imwrite(path, lab(bits, icc=icc), photometric="icclab" if icc else "cielab", **layout)
    away = np.abs(shown(path).astype(int) - RGB)
    assert away.max() <= (20 if bits == 8 else 1)  # a step of 8 bits is coarse in the dark
    assert away.mean() < 2


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_whose_white_is_zero_is_inverted(
    tmp_path: Path, bits: int, layout: dict[str, Any]
) -> None:
    grey = RGB[..., 0] if bits == 8 else RGB[..., 0].astype(np.uint16) * 257
    path = tmp_path / "w.tif"
    tifffile.imwrite(path, grey.max() - grey, photometric="miniswhite", **layout)
    expected = np.repeat(RGB[..., :1], 3, axis=2)
    np.testing.assert_allclose(shown(path).astype(int), expected + 255 - RGB[..., 0].max(), atol=1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_is_mixed_at_any_depth(tmp_path: Path, bits: int, layout: dict[str, Any]) -> None:
    ink = np.dstack([255 - RGB, np.full(RGB.shape[:2], 51, np.uint8)])
    values = ink if bits == 8 else ink.astype(np.uint16) * 257
    path = tmp_path / "c.tif"
    tifffile.imwrite(path, values, photometric="separated", **layout)
    np.testing.assert_allclose(shown(path), RGB * 0.8, atol=1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_palette_is_looked_up_in_tiles_too(tmp_path: Path, layout: dict[str, Any]) -> None:
    colours = np.random.default_rng(4).integers(0, 2**16, (3, 256), dtype=np.uint16)
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, RGB[..., 0], photometric="palette", colormap=colours, **layout)
    np.testing.assert_array_equal(
        shown(path), (colours >> 8).astype(np.uint8)[:, RGB[..., 0]].transpose(1, 2, 0)
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_premultiplied_alpha_is_laid_over_white_at_any_depth(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    alpha = np.full(RGB.shape[:2], top // 2)
    values = np.dstack([(RGB / 255 * top * 0.5).astype(int), alpha])
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, values.astype(f"u{bits // 8}"), photometric="rgb", extrasamples=["assocalpha"]
    )
    np.testing.assert_allclose(shown(path).astype(int), RGB / 2 + 127.5, atol=2)


def test_colours_of_no_slide_are_refused_by_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", RGB[..., 0], photometric="cfa")
    with pytest.raises(
        SlideError, match=r"found colours of kind CFA with 8 bits in .*x\.tif; export"
    ):
        open_slide(tmp_path / "x.tif")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("scale", [1, 257], ids=["map of 8 bits", "map of 16 bits"])
def test_a_palette_is_shown_as_libtiff_shows_it(
    tmp_path: Path, scale: int, layout: dict[str, Any]
) -> None:
    path = tmp_path / "p.tif"
    table = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    table[0, 0] = 255
    picked = RGB[..., 0]
    tifffile.imwrite(path, picked, photometric="palette", colormap=table * scale, **layout)
    np.testing.assert_array_equal(shown(path), table[:, picked].transpose(1, 2, 0))
    np.testing.assert_array_equal(shown(path), libtiff(path))
