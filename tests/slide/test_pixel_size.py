"""What a slide says of its pixel size."""

from __future__ import annotations

from pathlib import Path

import pytest
import tifffile
from PIL import Image

from helpers.pictures import (
    quarters,
    write_png,
    write_pyramid,
)
from hespotex.slide import open_slide


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
    with open_slide(write_png(tmp_path / "a.png", "RGB"), mpp=0.123456789) as slide:
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
