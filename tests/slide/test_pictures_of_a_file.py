"""Of several pictures in a file one is the slide: its pixels, size, scale, turn and colours belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from helpers.inspected_sections import paint, shape
from helpers.pictures import WHITE, noise, quarters, whole
from hespotex.errors import SlideError
from hespotex.inspection import inspect_input
from hespotex.slide import open_slide

SLIDE, LABEL = noise(), np.full((120, 90, 3), 200, np.uint8)
RESOLUTION: dict[str, Any] = {"resolutionunit": "CENTIMETER", "metadata": None}


def _label_first(path: Path, slide: np.ndarray = SLIDE, **layout: object) -> Path:
    """A label of 20 um a pixel, then the slide of 2."""
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(LABEL, photometric="rgb", resolution=(500, 500), **RESOLUTION, **layout)
        tiff.write(slide, photometric="rgb", resolution=(5000, 5000), **RESOLUTION, **layout)
    return path


def _ome(path: Path, *, same_size: bool = False) -> Path:
    def size(um: float) -> dict[str, Any]:
        return {"axes": "YXS", "PhysicalSizeX": um, "PhysicalSizeY": um}

    with tifffile.TiffWriter(path) as tiff:
        tiff.write(LABEL, photometric="rgb", metadata={**size(20.0), "Name": "label"})
        tiff.write(SLIDE, photometric="rgb", metadata={**size(2.0), "Name": "slide"})
        if same_size:
            tiff.write(SLIDE[::-1], photometric="rgb", metadata={**size(7.0), "Name": "another"})
    return path


@pytest.mark.parametrize("layout", [{"rowsperstrip": 32}, {"tile": (64, 64)}], ids=str)
def test_a_label_before_the_slide_gives_neither_pixels_nor_scale(
    tmp_path: Path, layout: dict[str, Any]
) -> None:
    with open_slide(_label_first(tmp_path / "s.tif", **layout)) as slide:
        np.testing.assert_array_equal(whole(slide), SLIDE)
        assert slide.mpp == 2.0
        assert slide.picture == "picture 2 of 2 in the file, the largest"


@pytest.mark.parametrize("same_size", [False, True])
def test_the_scale_of_an_ome_image_is_its_own(tmp_path: Path, same_size: bool) -> None:
    with open_slide(_ome(tmp_path / "s.ome.tif", same_size=same_size)) as slide:
        np.testing.assert_array_equal(whole(slide), SLIDE)
        assert slide.mpp == 2.0
        n, twins = (3, ", the first of 2 of the same size") if same_size else (2, "")
        assert slide.picture == f"picture 2 of {n} in the file (slide), the largest{twins}"


@pytest.mark.parametrize("metadata", [{}, None], ids=["two images", "a stack of two"])
def test_of_two_pictures_of_one_size_in_a_tiff_the_first_is_taken_and_said(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif") as tiff:
        for image in (SLIDE, SLIDE[::-1]):
            tiff.write(image, tile=(64, 64), photometric="rgb", metadata=metadata)
    with open_slide(tmp_path / "s.tif") as slide:
        np.testing.assert_array_equal(whole(slide), SLIDE)
    said = "; picture 1 of 2 in the file, the first of 2 of the same size"
    assert inspect_input(tmp_path / "s.tif").findings[0].found.endswith(said)


@pytest.mark.parametrize("suffix", ["tif", "ome.tif", "zarr"])
def test_of_two_pictures_of_one_size_in_any_file_the_first_is_taken_and_said(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"s.{suffix}"
    if suffix == "zarr":
        store = zarr.open_group(path, mode="w", zarr_format=2)
        for i, image in enumerate((SLIDE, SLIDE[::-1])):
            group = store.create_group(str(i))
            group.create_array("0", data=image.transpose(2, 0, 1), chunks=(3, 64, 64))
            axes = [{"name": name} for name in "cyx"]
            group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    else:
        with tifffile.TiffWriter(path) as tiff:
            for image in (SLIDE, SLIDE[::-1]):
                tiff.write(image, photometric="rgb", metadata={"axes": "YXS"})
    where = {"tif": "file", "ome.tif": "file (Image0)", "zarr": "store"}[suffix]
    with open_slide(path) as slide:
        np.testing.assert_array_equal(whole(slide), SLIDE)
        assert slide.picture == f"picture 1 of 2 in the {where}, the first of 2 of the same size"


def test_a_slide_before_its_label_is_as_before(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif") as tiff:
        tiff.write(SLIDE, tile=(64, 64), resolution=(5000, 5000), photometric="rgb", **RESOLUTION)
        tiff.write(LABEL, tile=(64, 64), resolution=(500, 500), photometric="rgb", **RESOLUTION)
    with open_slide(tmp_path / "s.tif") as slide:
        assert (slide.reader, slide.picture, slide.mpp) == ("openslide (generic-tiff)", "", 2.0)
        np.testing.assert_array_equal(whole(slide), SLIDE)


def test_the_picture_that_is_taken_is_said(tmp_path: Path) -> None:
    path = _label_first(tmp_path / "s.tif", paint(shape()), tile=(256, 256))
    inspection = inspect_input(path)
    assert inspection.verdict == "green"
    assert "picture 2 of 2 in the file, the largest" in inspection.findings[0].found


def test_the_largest_image_of_an_ome_zarr_is_the_slide(tmp_path: Path) -> None:
    store = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2)
    for name, image, um in (("0", LABEL, 20.0), ("1", SLIDE, 2.0)):
        group = store.create_group(name)
        group.create_array("0", data=image.transpose(2, 0, 1), chunks=(3, 64, 64))
        scale = [{"type": "scale", "scale": [1.0, um, um]}]
        axes = [{"name": "c"}, *({"name": n, "unit": "micrometer"} for n in "yx")]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        group.attrs["multiscales"] = [{"axes": axes, "datasets": datasets}]
    with open_slide(tmp_path / "s.zarr") as slide:
        np.testing.assert_array_equal(whole(slide), SLIDE)
        assert (slide.mpp, slide.picture) == (2.0, "picture 2 of 2 in the store, the largest")


# ------------------------------------------------------------------ turned by a tag


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("layout", [{"rowsperstrip": 32}, {"tile": (64, 64)}], ids=str)
def test_a_tiff_is_turned_as_its_tag_says(
    tmp_path: Path, turn: int, layout: dict[str, Any]
) -> None:
    """Pillow's own reading of the tag is the reference."""
    path = tmp_path / "t.tif"
    tags = [(274, "H", 1, turn, False)]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            quarters(150, 100), photometric="rgb", extratags=tags, resolution=(5000, 5000),
            **RESOLUTION, **layout,
        )  # fmt: skip
    exif = Image.Exif()
    exif[274] = turn
    Image.fromarray(quarters(150, 100)).save(tmp_path / "t.png", exif=exif)
    with open_slide(path) as slide, open_slide(tmp_path / "t.png") as expected:
        assert (slide.width_px0, slide.height_px0) == (expected.width_px0, expected.height_px0)
        np.testing.assert_array_equal(whole(slide), whole(expected))
        part = (13, 21, 40, 50, 40, 50)
        np.testing.assert_array_equal(slide.read_region(*part), expected.read_region(*part))


def test_a_turn_swaps_the_sides_of_a_pixel(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "t.tif") as tiff:
        tiff.write(
            noise(), photometric="rgb", extratags=[(274, "H", 1, 6, False)],
            resolution=(5000, 2500), **RESOLUTION,
        )  # fmt: skip
    with open_slide(tmp_path / "t.tif") as slide:
        assert dict(slide.mpp_sources) == {"TIFF resolution x": 4.0, "TIFF resolution y": 2.0}


# ------------------------------------------------------------------ a fourth channel

FOURTH = np.dstack([noise(), np.zeros((500, 700), np.uint8)])


@pytest.mark.parametrize("layout", [{"rowsperstrip": 32}, {"tile": (64, 64)}], ids=str)
def test_a_fourth_channel_of_no_meaning_is_left_out(tmp_path: Path, layout: dict[str, Any]) -> None:
    tifffile.imwrite(
        tmp_path / "f.tif", FOURTH, photometric="rgb", extrasamples=["unspecified"], **layout
    )
    with open_slide(tmp_path / "f.tif") as slide:
        np.testing.assert_array_equal(whole(slide), noise())


@pytest.mark.parametrize("fourth", [0, 128, 255])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 32}, {"tile": (64, 64)}], ids=str)
def test_a_fourth_channel_that_no_tag_speaks_of_is_left_out(
    tmp_path: Path, layout: dict[str, Any], fourth: int
) -> None:
    path = _untagged(
        tmp_path / "f.tif", np.dstack([SLIDE, np.full_like(SLIDE[..., 0], fourth)]), layout
    )
    with open_slide(path) as slide:
        np.testing.assert_array_equal(whole(slide), SLIDE)


def test_a_fourth_channel_that_no_tag_speaks_of_tells_nothing_of_the_bits(tmp_path: Path) -> None:
    twelve = np.dstack([SLIDE.astype(np.uint16) << 4, np.full((500, 700), 65535, np.uint16)])
    path = _untagged(tmp_path / "f.tif", twelve, {"tile": (64, 64)})
    with pytest.raises(SlideError, match=r"a camera of 12 bits\?"):
        open_slide(path)


def _untagged(path: Path, values: np.ndarray, layout: dict[str, Any]) -> Path:
    """RGB of four samples without ExtraSamples: the tag gets a number that nobody knows."""
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unspecified"], **layout)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].tags["ExtraSamples"].offset
    content = bytearray(path.read_bytes())
    content[place : place + 2] = (60000).to_bytes(2, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("layout", [{"rowsperstrip": 32}, {"tile": (64, 64)}], ids=str)
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
def test_alpha_is_laid_over_white_as_its_tag_says(
    tmp_path: Path, kind: str, layout: dict[str, Any]
) -> None:
    rgba = np.zeros((128, 128, 4), np.uint8)
    rgba[:, :64] = (100, 40, 0, 255)
    rgba[:, 64:] = (50, 20, 0, 128) if kind == "assocalpha" else (100, 40, 0, 128)
    rgba[96:] = 0
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=[kind], **layout)
    with open_slide(tmp_path / "a.tif") as slide:
        shown = whole(slide)
    assert tuple(shown[10, 10]) == (100, 40, 0)
    np.testing.assert_allclose(shown[10, 100], (177, 147, 127), atol=1)
    assert tuple(shown[100, 100]) == WHITE


@pytest.mark.parametrize(("label", "shown"), [("alpha", 255), ("", 40)])
def test_the_fourth_channel_of_a_zarr_is_alpha_where_it_is_named_so(
    tmp_path: Path, label: str, shown: int
) -> None:
    image = np.full((4, 64, 64), 40, np.uint8)
    image[3] = 0
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=image, chunks=(4, 64, 64))
    axes = [{"name": name} for name in "cyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    group.attrs["omero"] = {"channels": [{"label": name} for name in ("r", "g", "b", label)]}
    with open_slide(tmp_path / "s.zarr") as slide:
        assert (whole(slide) == shown).all()
