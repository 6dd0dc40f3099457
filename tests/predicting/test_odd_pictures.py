"""Pictures of hardly any pixels, of one colour, or of none: a result or one line, in every verb."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.pictures import noise, whole
from helpers.toy_slide import toy_bundle, toy_predictor, toy_trust
from hespotex.cli.inspect import _write
from hespotex.errors import HESpotExError, SlideError
from hespotex.inspection import inspect_input
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide
from hespotex.slide import open_slide
from hespotex.slide.tissue import find_tissue

SIDES = (1, 2, 3, 7, 8, 31, 32, 33, 40)
RNG = np.random.default_rng(0)
PAINTS: dict[str, Callable[[int, int], np.ndarray]] = {
    "black": lambda h, w: np.zeros((h, w, 3), np.uint8),
    "white": lambda h, w: np.full((h, w, 3), 255, np.uint8),
    "one colour": lambda h, w: np.full((h, w, 3), (200, 90, 160), np.uint8),
    "noise": lambda h, w: RNG.integers(0, 256, (h, w, 3), dtype=np.uint8),
    "black specks": lambda h, w: (RNG.random((h, w, 1)) < 0.5) * np.array([150, 60, 140], np.uint8),
}


@cache
def predictor() -> Predictor:
    """Made once; as an argument it would be written out beside every example that fails."""
    return toy_predictor(toy_bundle(), toy_trust())


def save(folder: Path, kind: str, image: np.ndarray, mpp: float) -> Path:
    path = folder / f"s.{kind.split(maxsplit=1)[0]}"
    if kind in {"png", "jpg"}:
        Image.fromarray(image).save(path)
    else:
        tile = {"tile": (16, 16), "compression": "deflate"} if "tiles" in kind else {}
        density = (1e4 / mpp, 1e4 / mpp)
        tifffile.imwrite(
            path, image, photometric="rgb", resolution=density, resolutionunit=3, **tile
        )  # type: ignore[arg-type]
    return path


def predicted(path: Path, out: Path, options: SlideOptions) -> str:
    """What is said of a slide that cannot be predicted; empty for one that is."""
    try:
        predict_slide(predictor(), SlideTask("s", path, options), out)
    except HESpotExError as error:
        return str(error)
    return ""


@pytest.mark.slow
@settings(max_examples=100)
@given(
    width=st.sampled_from(SIDES),
    height=st.sampled_from(SIDES),
    paint=st.sampled_from(sorted(PAINTS)),
    kind=st.sampled_from(["png", "jpg", "tif", "tif in tiles"]),
    mpp=st.sampled_from([0.5, 8.0]),
)
def test_any_small_picture_gives_a_result_or_one_line(
    width: int, height: int, paint: str, kind: str, mpp: float
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = save(folder, kind, PAINTS[paint](height, width), mpp)
        inspection = inspect_input(path)
        assert all("\n" not in str(f) and "Error" not in f.found for f in inspection.findings)
        assert any(
            f.found.startswith(f"s.{kind[:3]}: {width} x {height} px") for f in inspection.findings
        )
        said = predicted(path, folder / "out", SlideOptions(mpp=mpp, untested=True))
        assert not said or said.startswith("section s: expected "), said
        assert "\n" not in said
        with open_slide(path) as slide:
            assert whole(slide).shape == (height, width, 3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40), (33, 2)])
@pytest.mark.parametrize("paint", ["black", "noise"])
def test_a_small_picture_is_predicted_and_drawn_where_spots_are_given(
    tmp_path: Path, size: tuple[int, int], paint: str
) -> None:
    width, height = size
    path = save(tmp_path, "tif", PAINTS[paint](height, width), 8.0)
    (tmp_path / "spots.csv").write_text(f"x,y\n{width / 2},{height / 2}\n")
    options = SlideOptions(mpp=8.0, untested=True, spots=tmp_path / "spots.csv", pitch_um=100.0)
    assert predicted(path, tmp_path / "out", options) == ""
    assert (tmp_path / "out" / "predictions" / "s.h5ad").is_file()
    _write(inspect_input(path), tmp_path / "inspected")
    assert (tmp_path / "inspected" / "s.png").is_file()


def pages(path: Path, *sizes: tuple[int, int], reduced: bool = False) -> Path:
    """Grey pages without compression, by hand: libraries write none without pixels. Pages behind the first may be levels."""
    entries, at = [10 if reduced and i else 9 for i in range(len(sizes))], 8
    data = 8 + sum(2 + 12 * n + 4 for n in entries)
    content = struct.pack("<2sHI", b"II", 42, 8)
    for i, (width, height) in enumerate(sizes):
        tags = [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, data), (277, 3, 1, 1), (278, 4, 1, max(height, 1)), (279, 4, 1, width * height),
        ]  # fmt: skip
        if entries[i] == 10:
            tags.insert(0, (254, 4, 1, 1))
        at += 2 + 12 * entries[i] + 4
        content += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
        content += struct.pack("<I", at if i + 1 < len(sizes) else 0)
    path.write_bytes(content + noise(40, 30)[..., 0].tobytes())
    return path


@pytest.mark.parametrize("size", [(0, 0), (40, 0), (0, 30)])
def test_a_picture_without_pixels_is_refused_by_its_size(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = pages(tmp_path / "s.tif", size)
    with pytest.raises(
        SlideError, match=rf"no picture with pixels \({size[0]} x {size[1]} px\) in"
    ):
        open_slide(path)
    (finding,) = inspect_input(path).findings
    assert (finding.colour, "\n" in finding.found) == ("red", False)
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(3, *size[::-1]), chunks=(3, 8, 8), dtype="u1")
    axes = [{"name": name} for name in "cyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    with pytest.raises(SlideError, match=rf"with pixels, found one of {size[0]} x {size[1]} px"):
        open_slide(tmp_path / "s.zarr")


def test_a_picture_without_rows_as_a_library_writes_it_is_not_called_cut_short(
    tmp_path: Path,
) -> None:
    with pytest.warns(UserWarning, match="zero-size"):
        tifffile.imwrite(tmp_path / "s.tif", np.zeros((0, 200, 3), np.uint8))
    with pytest.raises(SlideError, match=r"no picture with pixels \(.*\) in .*s\.tif"):
        open_slide(tmp_path / "s.tif")


@pytest.mark.parametrize(
    ("sizes", "reduced"),
    [
        ([(40, 30), (0, 0)], False),
        ([(0, 0), (40, 30)], False),
        ([(40, 30), (0, 15)], True),
        ([(40, 30), (20, 0)], True),
    ],
    ids=str,
)
def test_pages_and_levels_without_pixels_are_passed_over(
    tmp_path: Path, sizes: list[tuple[int, int]], reduced: bool
) -> None:
    with open_slide(pages(tmp_path / "s.tif", *sizes, reduced=reduced)) as slide:
        assert slide.level_downsamples == (1.0,)
        np.testing.assert_array_equal(whole(slide)[..., 0], noise(40, 30)[..., 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
def test_floats_are_refused_whatever_they_hold(tmp_path: Path, value: float) -> None:
    image = np.full((40, 40, 3), value, np.float32)
    tifffile.imwrite(tmp_path / "s.tif", image, photometric="rgb")
    with pytest.raises(SlideError, match="expected colours of 8 or 16 bit, found float32"):
        open_slide(tmp_path / "s.tif")


def test_a_picture_of_almost_one_colour_has_no_tissue(tmp_path: Path) -> None:
    """Its range is finer than steps of numbers of 32 bits."""
    image = np.zeros((3, 3, 3), np.uint8)
    image[1] = (150, 60, 140)
    Image.fromarray(image).save(tmp_path / "s.png")
    with open_slide(tmp_path / "s.png") as slide:
        assert find_tissue(slide, 0.5).is_empty
