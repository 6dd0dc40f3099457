"""What geometry says of a scale becomes findings by its fields, never by its text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.inspected_sections import make_section, shape, spots_on
from hespotex.geometry import ScaleNote
from hespotex.inspection.checks import scale_findings

SECTION = make_section(None, spots_on(shape())[:20])


@pytest.mark.parametrize(
    ("note", "level", "found", "remedy"),
    [
        (ScaleNote("a.tif; old: 2 is assumed"), "info", "a.tif; old: 2 is assumed", ""),
        (ScaleNote("a; b", "do c"), "info", "a; b; do c", ""),
        (ScaleNote("a; b", "do c", doubtful=True), "warning", "a; b", "do c"),
        (ScaleNote("a; b", doubtful=True), "warning", "a; b", "look at the overlay"),
    ],
)
def test_a_note_is_a_warning_where_it_is_doubtful_and_is_cut_nowhere(
    note: ScaleNote, level: str, found: str, remedy: str
) -> None:
    section = replace(SECTION, geometry=replace(SECTION.geometry, notes=(note,)))
    _, finding = scale_findings(section)
    assert (finding.level, finding.found, finding.remedy) == (level, found, remedy)


def test_a_doubt_of_a_weak_source_follows_the_notes() -> None:
    doubt = ScaleNote("the circles are large", "look at them", doubtful=True)
    geometry = replace(SECTION.geometry, notes=(ScaleNote("measured"),), doubts=(doubt,))
    found = scale_findings(replace(SECTION, geometry=geometry))
    assert [f.found for f in found[1:]] == ["measured", "the circles are large"]
    assert (found[2].level, found[2].remedy) == ("warning", "look at them")
