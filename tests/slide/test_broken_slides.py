"""What `open_slide` refuses, and why."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.pictures import (
    noise,
    write_png,
    write_pyramid,
)
from hespotex.errors import SlideError
from hespotex.slide import open_slide, slide_key


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
    with pytest.raises(SlideError, match=r"expected a whole image, found: .* in .*d\.png; compare"):
        open_slide(tmp_path / "d.png")


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
    path = write_png(tmp_path / "secret.png", "RGB")
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
