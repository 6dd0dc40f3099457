"""Broken slides are named by their true cause; unusual ones give the very pixels of the usual one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.inspected_sections import SIZE, paint, shape, spots_on, write_legacy, write_manifest
from helpers.pictures import noise, whole
from hespotex.inspection import inspect_input
from hespotex.slide import open_slide

PLAIN = paint(shape())


def tiled(path: Path) -> Path:
    tifffile.imwrite(
        path, PLAIN, tile=(128, 128), photometric="rgb", compression="jpeg",
        compressionargs={"level": 95}, resolution=(4000, 4000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


def every_third_tile(path: Path, *, forget: bool) -> None:
    """Its bytes become zero, or the directory says that it was never written."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tags = tiff.pages.first.tags
        offsets, counts = (list(tags[f"Tile{n}"].value) for n in ("Offsets", "ByteCounts"))
        if forget:
            tags["TileOffsets"].overwrite([0 if i % 3 == 0 else v for i, v in enumerate(offsets)])
            tags["TileByteCounts"].overwrite([0 if i % 3 == 0 else v for i, v in enumerate(counts)])
    if not forget:
        with path.open("r+b") as file:
            for i in range(0, len(offsets), 3):
                file.seek(offsets[i])
                file.write(bytes(counts[i]))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x.txt").write_text("x")


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cut at 60 %": (cut, "red", r"cut short"),
    "tiles of zeros": (
        lambda p: every_third_tile(p, forget=False),
        "red",
        r"expected pixels at x 0, y 0 .*damaged there",
    ),
    "tiles never written": (
        lambda p: every_third_tile(p, forget=True),
        "yellow",
        r"27 of 80 tiles .*shown as background",
    ),
    "a folder": (folder, "red", r"expected .*slides in the folder"),
    "links in a circle": (loop, "red", r"found nothing at .*check the path"),
    "empty": (lambda p: p.write_bytes(b""), "red", r"found an empty file"),
    "text": (lambda p: p.write_text("no slide"), "red", r"no reader knows"),
    "floats": (
        lambda p: tifffile.imwrite(p, PLAIN[..., 0].astype(np.float32)),
        "red",
        r"8 or 16 bit, found float32",
    ),
    "seven channels": (
        lambda p: tifffile.imwrite(p, np.zeros((7, 90, 80), np.uint8), photometric="minisblack"),
        "red",
        r"one flat colour image|found 7",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_broken_slide_is_named_by_its_true_cause(tmp_path: Path, fault: str) -> None:
    break_it, colour, message = FAULTS[fault]
    path = tiled(tmp_path / "slide.tif")
    break_it(path)
    inspection = inspect_input(path)
    assert inspection.verdict == colour
    said = [str(f) for f in inspection.findings if f.colour == colour]
    assert any(re.search(message, text) for text in said), said
    assert all("\n" not in text for text in said)


@pytest.mark.parametrize("suffix", [".vsi", ".czi", ".isyntax", ".scn", ".mrxs"])
def test_what_no_reader_opens_is_said_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"slide{suffix}"
    path.write_bytes(b"no slide at all" * 50)
    (finding,) = inspect_input(path).findings
    assert finding.colour == "red"
    assert finding.found.startswith("expected ")
    assert "found" in finding.found
    assert finding.remedy


# ---------------------------------------------------------------------- unusual, but right


def plain(path: Path) -> Path:
    Image.fromarray(PLAIN).save(path.with_suffix(".png"), compress_level=1)
    return path.with_suffix(".png")


def rgba(path: Path) -> Path:
    Image.fromarray(PLAIN).convert("RGBA").save(path.with_suffix(".png"), compress_level=1)
    return path.with_suffix(".png")


def palette(path: Path) -> Path:
    Image.fromarray(PLAIN).quantize(256).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def sixteen_bit(path: Path) -> Path:
    values = PLAIN.astype(np.uint16) << 8
    tifffile.imwrite(path.with_suffix(".tif"), values, photometric="rgb")
    return path.with_suffix(".tif")


def cmyk(path: Path) -> Path:
    Image.fromarray(PLAIN).convert("CMYK").save(path.with_suffix(".jpg"), quality=95)
    return path.with_suffix(".jpg")


def turned_by_exif(path: Path) -> Path:
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(np.rot90(PLAIN)).save(path.with_suffix(".jpg"), quality=95, exif=exif)
    return path.with_suffix(".jpg")


def strips(path: Path) -> Path:
    tifffile.imwrite(
        path.with_suffix(".tif"), PLAIN, photometric="rgb", rowsperstrip=16, bigtiff=True
    )
    return path.with_suffix(".tif")


def spaces_and_letters(path: Path) -> Path:
    inner = path.parent / "Schnitt 3 – µm 切片"
    inner.mkdir()
    return plain(inner / "bild (1)")


@pytest.mark.slow
@pytest.mark.parametrize(
    "write", [plain, rgba, palette, sixteen_bit, cmyk, turned_by_exif, strips, spaces_and_letters],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_an_unusual_image_gives_the_pixels_of_the_usual_one(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    slide = write(tmp_path / "A")
    row = write_legacy(tmp_path, "A", spots_on(shape()), image=PLAIN)
    row["slide"] = os.path.relpath(slide, tmp_path)
    inspection = inspect_input(write_manifest(tmp_path, [row]))
    assert inspection.verdict == "green"
    with open_slide(slide) as opened:
        assert (opened.width_px0, opened.height_px0) == SIZE
        region = opened.read_region(100, 500, 400, 200, 400, 200).astype(int)
    assert np.abs(region - PLAIN[500:700, 100:500]).mean() < 4


@pytest.mark.slow
def test_a_grey_image_is_read_and_said(tmp_path: Path) -> None:
    row = write_legacy(tmp_path, "A", spots_on(shape()), image=PLAIN)
    Image.fromarray(PLAIN).convert("L").save(tmp_path / "A.png")
    inspection = inspect_input(write_manifest(tmp_path, [row]))
    assert inspection.verdict == "yellow"
    assert any("the image is grey" in f.found for f in inspection.findings)


def test_nothing_is_written_beside_what_is_looked_at(tmp_path: Path) -> None:
    path = tiled(tmp_path / "slide.tif")
    before = path.stat().st_mtime_ns
    inspect_input(path)
    assert [p.name for p in tmp_path.iterdir()] == ["slide.tif"]
    assert path.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["jpeg2000", "webp", "lzma", "jpegxl", "zstd"])
@pytest.mark.parametrize("packed", ["all", "label"])
def test_a_tiled_tiff_in_a_compression_unknown_to_openslide_is_read(
    tmp_path: Path, compression: str, packed: str
) -> None:
    label = np.full((100, 120, 3), 90, np.uint8)
    with tifffile.TiffWriter(tmp_path / "s.tif") as tiff:
        for image in (noise(), label):
            own = compression if packed == "all" or image is label else "deflate"
            lossless = {"compressionargs": {"lossless": True}} if own == "webp" else {}
            tiff.write(image, tile=(128, 128), photometric="rgb", compression=own, **lossless)
    with open_slide(tmp_path / "s.tif") as slide:
        np.testing.assert_array_equal(whole(slide), noise())


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "jpeg"])
def test_a_tiled_tiff_that_openslide_reads_stays_with_it(
    tmp_path: Path, compression: str | None
) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, noise(), tile=(128, 128), photometric="rgb", compression=compression)
    with open_slide(path) as slide:
        assert slide.reader == "openslide (generic-tiff)"
