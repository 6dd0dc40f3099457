"""A file or folder is recognised by the formats themselves, those of other packages among them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.installed import install
from helpers.made_sections import BUILDERS, KNOWN
from hespotex.inspection.inputs import resolve_input
from hespotex.registry import PluginWarning, Registry
from hespotex.spots.base import Reader
from hespotex.spots.registry import READERS, recognise

GROUP = "hespotex.readers"
LAB = """
from hespotex.spots.base import Reader, Recognised

def recognise(path):
    return {found}

READER = Reader(None, columns=("expression",), recognise=recognise)
"""
POSITIONS = "spot,x,y\na,1,2\nb,3,4\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages, and a table of readers that has not looked for any yet."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    fresh = Registry("reader", Reader, READERS.own, GROUP)
    monkeypatch.setattr("hespotex.spots.registry.READERS", fresh)
    monkeypatch.setattr("hespotex.inspection.inputs.READERS", fresh)
    yield folder
    for name in [name for name in sys.modules if name.startswith("lab_")]:
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore")  # spatialdata and its libraries warn of each other
@pytest.mark.parametrize("name", BUILDERS)
def test_every_format_but_legacy_st_recognises_what_it_reads(name: str, tmp_path: Path) -> None:
    path = BUILDERS[name](tmp_path / "data", KNOWN).expression
    assert path is not None
    found = recognise(path)
    assert (found and found[0]) == (None if name == "legacy_st" else name)


def test_nothing_is_recognised_in_an_empty_folder_or_a_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "sections.csv"
    manifest.write_text("section_id,patient_id,slide\nA,P,a.tif\n")
    assert recognise(tmp_path) is None
    assert recognise(manifest) is None


def test_the_format_of_another_package_goes_before_our_own(site: Path, tmp_path: Path) -> None:
    table = tmp_path / "spots.csv"
    table.write_text(POSITIONS)
    found = "Recognised({'spot_pitch_um': 7.0}, ('as the lab does',)) if path.suffix == '.csv' else None"
    install(
        site, "lab-csv", {"lab_csv.py": LAB.format(found=found)}, {GROUP: {"lab": "lab_csv:READER"}}
    )
    (row,) = resolve_input(table).rows
    assert (row.format, row.expression, row.spots, row.spot_pitch_um) == ("lab", table, None, 7.0)
    assert resolve_input(table).notes == ("as the lab does",)


def test_a_package_that_cannot_tell_is_left_out_with_one_warning(
    site: Path, tmp_path: Path
) -> None:
    table = tmp_path / "spots.csv"
    table.write_text(POSITIONS)
    install(
        site,
        "lab-bad",
        {"lab_bad.py": LAB.format(found="1 / 0")},
        {GROUP: {"lab": "lab_bad:READER"}},
    )
    with pytest.warns(PluginWarning, match=r"reader 'lab' of package lab-bad is left out: ZeroDiv"):
        assert resolve_input(table).rows[0].format == "positions"
    assert resolve_input(table).rows[0].format == "positions"
