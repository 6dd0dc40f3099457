"""Contracts of what a user accepts against the preflight: explicit, narrow, and said in every output."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from helpers.inspected_sections import SIZE, shape, spots_on, write_legacy, write_manifest
from hespotex import pipeline
from hespotex.config import InputChoices, Machine, RunConfig
from hespotex.errors import ConfigError, HESpotExError
from hespotex.geometry import orient
from hespotex.inspection import inspect_input, read_checked
from hespotex.models.bundle import read_model
from hespotex.predicting import SlideOptions
from hespotex.progress import Silent
from hespotex.report.model_card import render_model_card
from hespotex.results.read import accepted_notes
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import Section, read_section
from hespotex.storage.run_record import RunRecord

pytestmark = pytest.mark.usefixtures("blank_pictures")

XY = spots_on(shape())
TURNED = orient(XY, "turned by 180 degrees", SIZE)


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    rows = [
        write_legacy(tmp_path, "A", TURNED, true_xy_px0=XY),
        write_legacy(tmp_path, "B", XY, seed=1),
    ]
    return write_manifest(tmp_path, rows)


def read(manifest: Path, *accept: str) -> dict[str, Section]:
    rows = read_manifest(manifest).rows
    return {s.section_id: s for s in read_checked(rows, InputChoices(accept), Silent())}


@pytest.mark.slow
@pytest.mark.parametrize("accept", ["position", "position:A"])
def test_a_red_position_is_passed_over_for_the_section_that_was_named(
    turned: Path, accept: str
) -> None:
    with pytest.raises(HESpotExError, match=r"section A: .*--accept position"):
        read(turned)
    sections = read(turned, accept)
    assert len(sections["A"].accepted) == 1
    assert sections["A"].accepted[0].startswith("position: ")
    assert "(turned by 180 degrees)" in sections["A"].accepted[0]
    assert sections["B"].accepted == ()


@pytest.mark.slow
def test_what_is_accepted_of_one_section_holds_for_no_other(turned: Path) -> None:
    with pytest.raises(HESpotExError, match=r"section A: "):
        read(turned, "position:B")
    with pytest.raises(HESpotExError, match=r"section A: "):
        read(turned, "mpp", "outside", "genes")


@pytest.mark.parametrize(
    ("accept", "message"),
    [
        ("content", r"expected CODE or CODE:SECTION .*found 'content'; codes are mpp \("),
        ("position:", r"found 'position:'"),
        ("position:X", r"expected sections of A, B with --accept, found X"),
    ],
)
def test_what_cannot_be_accepted_is_named(turned: Path, accept: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(turned, accept)


@pytest.mark.slow
def test_the_manifest_overrules_a_believable_but_wrong_tag(tmp_path: Path) -> None:
    from PIL import Image

    row = write_legacy(tmp_path, "A", XY) | {"mpp": "2.5"}
    slide = tmp_path / "A.png"
    with Image.open(slide) as image:
        image.save(slide, dpi=(25_400 / 0.5, 25_400 / 0.5))  # says 0.5 um per pixel
    manifest = write_manifest(tmp_path, [row])
    with pytest.raises(HESpotExError, match=r"PNG pHYs: 0\.5.*--accept mpp"):
        read(manifest)
    section = read(manifest, "mpp")["A"]
    assert section.geometry.mpp == 2.5
    assert list(section.geometry.mpp_sources) == [
        "manifest column mpp",
        "spot pitch (100 um = 40 px)",
    ]
    assert section.accepted == ("mpp: 2.5 as the manifest says, against slide tag PNG pHYs: 0.5",)
    # nothing is accepted where nothing contradicts, or where the manifest says nothing
    assert (
        read(write_manifest(tmp_path, [write_legacy(tmp_path, "B", XY)]), "mpp")["B"].accepted == ()
    )
    silent = write_manifest(tmp_path, [row | {"mpp": "", "spot_pitch_um": "100"}])
    with pytest.raises(HESpotExError, match=r"to agree within 3 %"):
        read(silent, "mpp")


def test_spots_outside_are_left_out_and_counted_only_where_accepted(tmp_path: Path) -> None:
    xy = XY.copy()
    xy[:2] -= 200  # two spots leave the image
    manifest = write_manifest(tmp_path, [write_legacy(tmp_path, "A", xy, true_xy_px0=XY)])
    with pytest.raises(HESpotExError, match=r"found 2 of 166 outside .*--accept outside"):
        read(manifest)
    (row,) = read_manifest(manifest).rows
    section = read_section(row, InputChoices(("outside",)))
    assert section.n_spots == len(XY) - 2
    np.testing.assert_array_equal(section.xy_px0, xy[2:])
    assert section.counts is not None
    assert section.counts.shape[0] == len(XY) - 2
    assert section.dropped == {"spots outside the image": 2}
    assert section.accepted == ("outside: 2 spots outside the image were left out",)


@pytest.mark.slow
def test_inspect_shows_in_yellow_what_is_accepted(turned: Path) -> None:
    assert inspect_input(turned).exit_code == 2
    inspection = inspect_input(turned, choices=InputChoices(("position:A",)))
    assert inspection.exit_code == 1
    (finding,) = [f for f in inspection.findings if f.colour == "yellow" and f.topic == "position"]
    assert finding.subject == "A"
    assert finding.found.startswith("accepted by the user: ")


@pytest.mark.slow
def test_inspect_says_where_accepting_an_mpp_does_nothing(tmp_path: Path) -> None:
    rows = [write_legacy(tmp_path, name, XY, seed=seed) for seed, name in enumerate("AB")]

    def silent(mpp: str, *accept: str) -> list[str]:
        manifest = write_manifest(tmp_path, [rows[0] | {"mpp": mpp}, rows[1] | {"mpp": ""}])
        findings = inspect_input(manifest, choices=InputChoices(accept)).findings
        said = [f for f in findings if "--accept mpp does nothing" in f.found]
        assert {f.colour for f in said} <= {"yellow"}
        return [f.subject for f in said]

    assert silent("", "mpp") == ["A", "B"]
    assert silent("", "mpp:A") == ["A"]
    assert silent("2.5", "mpp") == []
    assert silent("2.5", "mpp:B") == ["B"]
    assert silent("") == []


@pytest.mark.slow
def test_every_output_says_what_was_accepted(turned: Path, tmp_path: Path) -> None:
    config = RunConfig.from_values(
        {
            "model": {"epochs": 1, "ensemble": 1, "n_components": 4, "hidden": 8, "latent_size": 2},
            "panel": {"kind": "all"},
            "trust": {"calibrate": False},
            "patches": {"sides_um": [100.0]},
        }
    )
    machine, choices = (
        Machine(device="cpu", threads=1, cache=tmp_path / "cache"),
        InputChoices(("position:A",)),
    )
    model = pipeline.train(
        turned,
        tmp_path / "m.hespotex",
        config=config,
        validate=False,
        choices=choices,
        machine=machine,
    )
    bundle = read_model(model)
    (sentence,) = bundle.sections[0].accepted
    assert bundle.sections[1].accepted == ()
    assert sentence in render_model_card(bundle)
    with pytest.raises(HESpotExError, match=r"--accept position"):
        pipeline.predict(model, turned, tmp_path / "p", machine=machine)
    pipeline.predict(
        model, turned, tmp_path / "p", options=SlideOptions(choices=choices), machine=machine
    )
    record = json.loads((tmp_path / "p" / "run.json").read_text())
    assert record["identity"]["inputs"]["A"]["accepted"] == [sentence]
    assert "accepted" not in record["identity"]["inputs"]["B"]
    assert accepted_notes(RunRecord(**record)) == [
        f"Section A: accepted by the user against the preflight: {sentence}."
    ]
    written = {n: ad.read_h5ad(tmp_path / "p" / "predictions" / f"{n}.h5ad") for n in "AB"}
    assert list(written["A"].uns["hespotex"]["accepted"]) == [sentence]
    assert "accepted" not in written["B"].uns["hespotex"]


def test_accepting_without_need_changes_nothing(turned: Path) -> None:
    (_, row) = read_manifest(turned).rows
    plain = read_section(row)
    accepting = read_section(row, InputChoices(("mpp", "outside", "genes", "position"), True))
    assert accepting.accepted == ()
    assert accepting.geometry == plain.geometry
    assert accepting.expression_key() == plain.expression_key()
