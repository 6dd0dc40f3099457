"""An image is a copy of the full one only where both of its sides are a stated scale of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.made_sections import KNOWN, space_ranger
from hespotex.config import InputChoices
from hespotex.errors import SlideError
from hespotex.geometry import fit_to_image
from hespotex.sections.section import ManifestRow, read_section
from hespotex.spots.base import ScaleHints, SpotTable

FULL = (16_000, 13_000)
SCALES = {"hires": 0.125, "lowres": 0.0375}


class Size:
    """What `fit_to_image` asks of a slide."""

    def __init__(self, width: float, height: float) -> None:
        self.width_px0, self.height_px0 = round(width), round(height)
        self.mpp_sources: dict[str, float] = {}


def spots(reach: float = 0.9, *, known: bool = True) -> SpotTable:
    xy = np.random.default_rng(0).uniform(0.2, reach, (50, 2)) * FULL
    xy[0] = np.array(FULL) * reach
    hints = ScaleHints(
        mpp={"stated": 0.5},
        image_scales=SCALES,
        full_size_px0=(FULL[0] * 1.0005, FULL[1] * 0.9995) if known else None,
    )
    return SpotTable("t", np.array([f"s{i}" for i in range(50)]), xy, None, None, hints=hints)


def fitted(table: SpotTable, image: Size, name: str = "a.png") -> float:
    found = fit_to_image(table, image, Path(name), allow_hires=True)
    return float((found.xy_px0 / table.xy_px0).mean())


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("scale", list(SCALES.values()))
def test_a_copy_of_a_stated_scale_is_known(known: bool, scale: float) -> None:
    image = Size(FULL[0] * scale, FULL[1] * scale)
    assert fitted(spots(known=known), image) == pytest.approx(scale)
    with pytest.raises(SlideError, match=rf"which fits the (hires|lowres) copy \({scale:g} of"):
        fit_to_image(spots(known=known), image, Path("a.png"), allow_hires=False)


def test_the_full_image_is_taken_as_it_is() -> None:
    assert fitted(spots(), Size(*FULL)) == 1.0


@pytest.mark.parametrize(
    ("width", "height", "said"),
    [
        (4800, 3900, r"0\.299\d of the full width \(16008 px\) and 0\.300\d of the full height"),
        (2000, 1300, r"0\.1249 of the full width .* and 0\.1001 of the full height"),
        (1625, 2000, r"0\.1015 of the full width .* and 0\.1539 of the full height"),
        (2050, 1666, r"0\.1281 of the full width .* and 0\.1282 of the full height"),
    ],
    ids=["another scale", "another aspect", "turned", "off by 2.5 %"],
)
@pytest.mark.parametrize("allow_hires", [True, False])
def test_an_image_of_another_scale_or_aspect_is_refused_with_both(
    width: int, height: int, said: str, allow_hires: bool
) -> None:
    with pytest.raises(SlideError, match=rf"stated scale \(hires 0\.125, lowres 0\.0375\).*{said}"):
        fit_to_image(spots(), Size(width, height), Path("a.png"), allow_hires=allow_hires)


def test_without_the_full_size_spots_have_to_reach_the_far_end() -> None:
    """An image of 0.3 of the full size holds the spots of the lowres copy in a corner."""
    image = Size(0.3 * FULL[0], 0.3 * FULL[1])
    with pytest.raises(SlideError, match=r"as the hires copy its spots would end at 0\.38 of the"):
        fitted(spots(known=False), image)
    small = Size(FULL[0] * SCALES["hires"], FULL[1] * SCALES["hires"])
    assert fitted(spots(0.5, known=False), small, "A_tissue_hires_image.png") == 0.125


def test_a_copy_of_another_section_tells_nothing_of_the_full_size() -> None:
    table = spots()
    object.__setattr__(table.hints, "full_size_px0", (4000.0, 3000.0))
    image = Size(FULL[0] * SCALES["hires"], FULL[1] * SCALES["hires"])
    assert fitted(table, image) == 0.125


def test_spots_beside_the_full_image_are_no_sign_of_a_copy() -> None:
    table = spots()
    table.xy_px0[0] = (FULL[0] + 3, 10)
    assert fitted(table, Size(*FULL)) == 1.0


def outs(folder: Path, *, copies: dict[str, tuple[int, int]]) -> ManifestRow:
    """Space Ranger's folder of an image of 1,400 x 1,100 px, with copies beside the spots."""
    source = space_ranger(folder, KNOWN)
    for name, size in copies.items():
        Image.new("RGB", size, "white").save(folder / "spatial" / name)
    return ManifestRow(
        "S", "P", folder / "spatial" / "cytassist_image.tiff", source.expression, "space_ranger"
    )


def test_the_image_of_cytassist_is_no_copy_and_is_named_so(tmp_path: Path) -> None:
    row = outs(
        tmp_path / "outs",
        copies={"tissue_lowres_image.png": (105, 82), "cytassist_image.tiff": (420, 330)},
    )
    for choices in (InputChoices(), InputChoices(allow_hires=True)):
        with pytest.raises(
            SlideError, match=r"found .*cytassist_image\.tiff of 420 x 330 px: 0\.3 of"
        ):
            read_section(row, choices)


def test_the_image_of_cytassist_is_the_full_one_where_it_was_given_alone(tmp_path: Path) -> None:
    row = outs(
        tmp_path / "outs",
        copies={"tissue_lowres_image.png": (105, 82), "cytassist_image.tiff": (1400, 1100)},
    )
    np.testing.assert_array_equal(read_section(row).xy_px0, KNOWN.xy_px0)


def test_a_copy_under_any_name_is_taken_on_request(tmp_path: Path) -> None:
    row = outs(
        tmp_path / "outs",
        copies={"tissue_lowres_image.png": (105, 82), "cytassist_image.tiff": (350, 275)},
    )
    section = read_section(row, InputChoices(allow_hires=True))
    np.testing.assert_allclose(section.xy_px0, 0.25 * KNOWN.xy_px0)
    assert "hires copy" in section.accepted[0]
