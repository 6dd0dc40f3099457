"""Samples of 16 bits that a camera of fewer filled: a tag or the user says so, or the run stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from helpers.inspected_sections import paint, shape
from helpers.pictures import Picture, noise, whole
from hespotex.config import InputChoices
from hespotex.errors import ConfigError, ManifestError, SlideError
from hespotex.inspection import inspect_input
from hespotex.inspection.inspect import inspect_row
from hespotex.predicting import SlideOptions
from hespotex.predicting.plan import plan_input
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import ManifestRow
from hespotex.slide import open_slide, slide_key

NOISE = noise()
NOISE[0, :3] = 255  # some pixel is as bright as can be


def deep(bits: int, picture: Picture = NOISE) -> np.ndarray:
    """The picture as a camera of so many bits writes it into samples of 16."""
    return (picture.astype(np.uint16) * 257) >> (16 - bits)


def write(path: Path, values: np.ndarray, *tags: tuple[Any, ...], **more: Any) -> Path:
    tifffile.imwrite(path, values, photometric="rgb", extratags=tags, metadata=None, **more)
    return path


@pytest.mark.parametrize("layout", [{"rowsperstrip": 64}, {"tile": (128, 128)}], ids=str)
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_a_range_that_nothing_tells_stops_and_names_what_was_found(
    tmp_path: Path, bits: int, layout: dict[str, Any]
) -> None:
    path = write(tmp_path / "s.tif", deep(bits), **layout)
    found = rf"found none above {2**bits - 1} in .*s\.tif: a camera of {bits} bits\?; give --bits {bits} "
    with pytest.raises(SlideError, match=found):
        open_slide(path)
    with open_slide(path, bits=bits) as slide:
        np.testing.assert_array_equal(whole(slide), NOISE)
        assert slide.bits == bits
    with open_slide(path, bits=16) as slide:  # as dark as that, if the user says so
        assert whole(slide).max() < 64


@pytest.mark.parametrize("dark", [1.0, 0.5, 0.3])
def test_honest_16_bits_go_on_as_they_are(tmp_path: Path, dark: float) -> None:
    values = (deep(16) * dark).astype(np.uint16)
    with open_slide(write(tmp_path / "s.tif", values)) as slide:
        np.testing.assert_array_equal(whole(slide), values >> 8)
    black = write(tmp_path / "black.tif", np.zeros((90, 80, 3), np.uint16))
    with open_slide(black) as slide:
        assert not whole(slide).any()


@pytest.mark.parametrize(
    "tag",
    [
        (281, "H", 3, (4095,) * 3, True),
        (281, "H", 3, (4001, 3990, 4012), True),  # the largest that occurs
        (341, "H", 3, (4095,) * 3, True),
        (532, "2I", 6, (0, 1, 4095, 1) * 3, True),
    ],
    ids=["MaxSampleValue", "MaxSampleValue that occurs", "SMaxSampleValue", "ReferenceBlackWhite"],
)
def test_a_tag_tells_the_range(tmp_path: Path, tag: tuple[Any, ...]) -> None:
    with open_slide(write(tmp_path / "s.tif", deep(12), tag)) as slide:
        np.testing.assert_allclose(whole(slide).astype(int), NOISE, atol=1)
        assert slide.bits == 12


def test_a_tag_that_is_contradicted_by_the_pixels_stops(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tif", deep(16), (281, "H", 3, (4095,) * 3, True))
    with pytest.raises(SlideError, match=r"below 4096 .*the tag MaxSampleValue says .*found 65535"):
        open_slide(path)
    with pytest.raises(SlideError, match=r"below 1024 .*--bits .*found 4095; give --bits 12 or"):
        open_slide(write(tmp_path / "t.tif", deep(12)), bits=10)
    with pytest.raises(SlideError, match=r"of at most 8, as samples of .*found 12; leave it out"):
        open_slide(write(tmp_path / "u.tif", NOISE), bits=12)


def test_ome_tells_significant_bits(tmp_path: Path) -> None:
    metadata = {"axes": "YXS", "SignificantBits": 12}
    tifffile.imwrite(tmp_path / "s.ome.tif", deep(12), photometric="rgb", metadata=metadata)
    with open_slide(tmp_path / "s.ome.tif") as slide:
        np.testing.assert_array_equal(whole(slide), NOISE)


def test_the_coarsest_level_is_enough_to_tell(tmp_path: Path) -> None:
    levels = [deep(12), deep(12)[::4, ::4]]
    with tifffile.TiffWriter(tmp_path / "s.ome.tif") as tiff:
        tiff.write(levels[0], subifds=1, tile=(64, 64), photometric="rgb", metadata={"axes": "YXS"})
        tiff.write(levels[1], subfiletype=1, tile=(64, 64), photometric="rgb")
    with pytest.raises(SlideError, match="a camera of 12 bits"):
        open_slide(tmp_path / "s.ome.tif")


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_16_bits_is_asked_too(tmp_path: Path, channels: int) -> None:
    import imagecodecs

    values = deep(12)[..., [0, 1, 2, 0][:channels]].copy()
    if channels in {2, 4}:
        values[..., -1] = 4095
    (tmp_path / "s.png").write_bytes(imagecodecs.png_encode(values.squeeze()))
    with pytest.raises(SlideError, match=r"s\.png: a camera of 12 bits\?"):
        open_slide(tmp_path / "s.png")
    expected = NOISE if channels > 2 else np.repeat(NOISE[..., :1], 3, axis=2)
    with open_slide(tmp_path / "s.png", bits=12) as slide:
        np.testing.assert_array_equal(whole(slide), expected)
    (tmp_path / "h.png").write_bytes(imagecodecs.png_encode((values << 4 | 15).squeeze()))
    with open_slide(tmp_path / "h.png") as slide:
        np.testing.assert_array_equal(whole(slide), expected)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_jpeg_2000_of_16_bits_is_asked_too(tmp_path: Path, channels: int) -> None:
    import imagecodecs

    values = deep(12)[..., [0, 1, 2, 0][:channels]].copy()
    if channels in {2, 4}:
        values[..., -1] = 4095

    def jp2(name: str, samples: np.ndarray, bits: int) -> Path:
        content = imagecodecs.jpeg2k_encode(samples.squeeze(), level=0, bitspersample=bits)
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    twelve = jp2("s.jp2", values, 16)
    with pytest.raises(SlideError, match=r"s\.jp2: a camera of 12 bits\?"):
        open_slide(twelve)
    expected = NOISE if channels > 2 else np.repeat(NOISE[..., :1], 3, axis=2)
    stated = {"h.jp2": (values << 4 | 15, 16), "t.jp2": (values, 12), "u.jp2": (values >> 4, 8)}
    for name, (samples, bits) in stated.items():  # the file itself says what its samples fill
        stored = samples.astype(np.uint8 if bits == 8 else np.uint16)
        with open_slide(jp2(name, stored, bits)) as slide:
            np.testing.assert_array_equal(whole(slide), expected)
            assert slide.bits == bits
    with open_slide(twelve, bits=12) as slide:
        np.testing.assert_array_equal(whole(slide), expected)
    twelve.write_bytes(twelve.read_bytes()[:2000])
    with pytest.raises(SlideError, match=r"in .*s\.jp2; copy or export it again"):
        open_slide(twelve)


@pytest.mark.parametrize(("bits", "likely"), [(16, 16), (20, 20), (12, 12)])
def test_samples_of_32_bits_that_hold_fewer_are_asked(
    tmp_path: Path, bits: int, likely: int
) -> None:
    values = NOISE.astype(np.uint32) << (bits - 8)
    path = write(tmp_path / "s.tif", values)
    with pytest.raises(
        SlideError, match=rf"a camera of {likely} bits\?; give --bits {likely} .*or 32 "
    ):
        open_slide(path)
    with open_slide(path, bits=bits) as slide:
        np.testing.assert_array_equal(whole(slide), NOISE)


@pytest.mark.parametrize("kind", [np.uint64, np.float32])
def test_samples_that_no_camera_writes_are_refused(tmp_path: Path, kind: type) -> None:
    path = write(tmp_path / "s.tif", NOISE.astype(kind))
    with pytest.raises(SlideError, match=rf"found {np.dtype(kind)} in .*s\.tif; export the image"):
        open_slide(path)


@pytest.mark.parametrize("window", [None, 4095])
def test_a_zarr_of_16_bits_is_asked_too(tmp_path: Path, window: int | None) -> None:
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=deep(12).transpose(2, 0, 1), chunks=(3, 64, 64))
    axes = [{"name": name} for name in "cyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    if window is None:
        with pytest.raises(SlideError, match="a camera of 12 bits"):
            open_slide(tmp_path / "s.zarr")
    else:
        group.attrs["omero"] = {"channels": [{"window": {"max": window}}] * 3}
    with open_slide(tmp_path / "s.zarr", bits=None if window else 12) as slide:
        np.testing.assert_array_equal(whole(slide), NOISE)


# ------------------------------------------------------------------ what a user states


def test_inspect_and_manifest_take_the_bits(tmp_path: Path) -> None:
    picture = paint(shape())
    path = write(tmp_path / "s.tif", deep(12, picture), resolution=(4000, 4000), resolutionunit=3)
    red = inspect_input(path)
    assert (red.exit_code, red.findings[0].remedy.split(",")[0]) == (
        2,
        "give --bits 12 (or the manifest's column bits)",
    )
    green = inspect_input(path, bits=12)
    assert green.verdict == "green"
    assert "colours of 12 bits" in green.findings[0].found
    (tmp_path / "m.csv").write_text(
        "section_id,patient_id,slide,expression,format,bits\nA,P,s.tif,,,12\n"
    )
    assert inspect_input(tmp_path / "m.csv").verdict == "green"
    tasks = plan_input(tmp_path / "m.csv", SlideOptions(bits=10)).tasks
    assert tasks[0].options.bits == 12
    assert slide_key(path) != slide_key(path, 12) != slide_key(path, 14)


@pytest.mark.parametrize("text", ["7", "33", "12.5", "twelve", "-12"])
def test_bits_are_whole_numbers(tmp_path: Path, text: str) -> None:
    write(tmp_path / "s.tif", NOISE)
    (tmp_path / "m.csv").write_text(
        f"section_id,patient_id,slide,expression,format,bits\nA,P,s.tif,,,{text}\n"
    )
    with pytest.raises(ManifestError, match="column bits: expected a whole number of 8 to 32"):
        read_manifest(tmp_path / "m.csv")


def test_options_refuse_other_bits() -> None:
    with pytest.raises(ConfigError, match=r"expected --bits as a whole number of 8 to 32, found 4"):
        SlideOptions(bits=4)


def test_facts_for_machines_are_json(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tif", deep(12, paint(shape())))
    item, _ = inspect_row(ManifestRow("A", "P", path, bits=12), InputChoices())
    assert json.dumps(item.facts, default=float)
    assert item.picture is not None
    assert item.picture.bits == 12


def test_eight_bits_in_a_plain_image_are_untouched(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "s.png")
    with open_slide(tmp_path / "s.png") as slide:
        assert slide.bits == 8
        np.testing.assert_array_equal(whole(slide), NOISE)
    with pytest.raises(SlideError, match="of at most 8"):
        open_slide(tmp_path / "s.png", bits=12)
