"""Below 90 % of the spots on tissue a section is looked at; real sections have more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.inspected_sections import PITCH_PX0, SIZE, make_section, paint, save, shape, spots_on
from hespotex.inspection.checks import check_section
from hespotex.inspection.findings import Finding
from hespotex.inspection.placement import place_section, placement_findings
from hespotex.inspection.slides import SlideView, view_slide
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import read_section


def with_spots_beside(share: float) -> np.ndarray:
    """The spots of the tissue, and so many more around it that this share lies on it."""
    on = shape()
    inside, all_spots = spots_on(on), spots_on(np.ones(SIZE[::-1], bool))
    grown = np.zeros_like(on)
    for dx in range(-3, 4):
        for dy in range(-3, 4):
            grown |= np.roll(on, (dy * int(PITCH_PX0), dx * int(PITCH_PX0)), (0, 1))
    at = tuple(all_spots[:, ::-1].astype(int).T)
    beside = all_spots[grown[at] & ~on[at]]
    return np.concatenate([inside, beside[: round(len(inside) * (1 / share - 1))]])


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> SlideView:
    """The slide, looked at once."""
    return view_slide(save(paint(shape()), tmp_path_factory.mktemp("slide") / "s.png"))


def position(share: float, view: SlideView) -> Finding:
    found, _ = check_section(make_section(view.path, with_spots_beside(share)), view)
    return next(f for f in found if f.topic == "position")


@pytest.mark.parametrize("share", [0.6, 0.74, 0.87])
def test_spots_beside_the_tissue_are_yellow(share: float, view: SlideView) -> None:
    found = position(share, view)
    assert found.colour == "yellow"
    assert found.remedy == "look at the overlay: are these the spots of this image?"
    assert f"{100 * share:.0f} % of spots lie on tissue as given" in found.found


@pytest.mark.parametrize("share", [0.93, 0.97, 1.0])
def test_a_few_beside_it_are_green(share: float, view: SlideView) -> None:
    assert position(share, view).colour == "green"


@pytest.mark.slow
def test_real_sections_are_above_the_limit(shared_data: Path) -> None:
    row = read_manifest(shared_data / "mob" / "sections.csv", ["MOB9"]).rows[0]
    section = read_section(row)
    assert row.slide is not None
    placement = place_section(view_slide(row.slide, section.geometry.mpp), section)
    assert placement.evidence.given.on_tissue > 0.99
    assert [f.colour for f in placement_findings("MOB9", placement)] == ["green"]
