"""The reading that `auto` becomes, what is said of it, and what a model file keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from helpers.area_encoder import AreaColour
from helpers.heard import Heard
from helpers.stored_model import MODEL
from helpers.toy_cohort import encoded_section, toy_cohort
from helpers.toy_slide import ToyEncoder
from hespotex.config import Machine, RunConfig
from hespotex.encoders import offline
from hespotex.encoders.base import Encoder
from hespotex.errors import ModelFileError
from hespotex.models import reading
from hespotex.models.bundle import read_model, write_model
from hespotex.models.fit import fit_bundle
from hespotex.models.reading import cheaper_reading, chosen_reading, reading_of, switched
from hespotex.models.same_model import check_same_model
from hespotex.report.model_card import render_model_card
from hespotex.sections.section import Section

AUTO = RunConfig()
MACHINE = Machine(device="cpu", threads=1)


def section(pitch_um: float, n_side: int = 40) -> Section:
    """A square lattice of so many spots a side."""
    made = encoded_section("A1", "A", 0, n_side=n_side).section
    return replace(made, xy_px0=made.xy_px0 * pitch_um / 100.0)


def loading(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "load_encoder", lambda _name, _machine: encoder)


def test_auto_reads_a_usual_lattice_by_patches_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(*_: object) -> Encoder:
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr(reading, "load_encoder", none)
    heard = Heard()
    found = chosen_reading(AUTO, [section(100.0)], MACHINE, heard)
    assert found.config.encoder.reading == "patches"
    assert found.config == AUTO.model_copy(update={"encoder": found.config.encoder})
    assert found.why.startswith("by patches: the training sections take about 38 core-s, by area")
    assert not heard.said


def test_auto_reads_a_fine_lattice_by_area_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = AreaColour()
    encoder.own_tiles = offline.TILES
    loading(encoder, monkeypatch)
    heard = Heard()
    found = chosen_reading(AUTO, [section(16.0, 100)], MACHINE, heard)
    assert found.config.encoder.reading == "area"
    assert found.why.startswith("by area: the training sections take about")
    assert heard.said == [f"encoder.reading=auto: {found.why}"]


def test_auto_keeps_patches_for_an_encoder_that_reads_nothing_else_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loading(ToyEncoder(), monkeypatch)
    heard = Heard()
    found = chosen_reading(AUTO, [section(16.0)], MACHINE, heard)
    assert found.config.encoder.reading == "patches"
    assert len(heard.said) == 1
    assert "reads patches alone: it is no convolutional network" in heard.said[0]


def test_a_stated_reading_stays_and_given_features_need_none(tmp_path: Path) -> None:
    for stated in ("patches", "area"):
        config = RunConfig.from_values({"encoder": {"reading": stated}})
        found = chosen_reading(config, [section(16.0)], MACHINE, Heard())
        assert found.config == config
        assert found.why == f"by {stated}, as asked for"
    given = replace(section(16.0), features_file=tmp_path / "f.h5")
    found = chosen_reading(AUTO, [given], MACHINE, Heard())
    assert (found.config.encoder.reading, found.why) == ("patches", "none: features are given")


def test_squares_of_a_held_out_section_count_as_all_others_do() -> None:
    """Both kinds of lattice in one set: the sums decide, whatever the order."""
    both = [section(100.0, 60), section(30.0, 12)]
    found = chosen_reading(AUTO, both, MACHINE, Heard())
    assert found == chosen_reading(AUTO, both[::-1], MACHINE, Heard())
    assert found.config.encoder.reading == "patches"


def test_a_model_keeps_the_resolved_reading_and_its_reason(tmp_path: Path) -> None:
    config = RunConfig.from_values({"model": {"epochs": 1, "ensemble": 1, "n_components": 4}})
    bundle = replace(fit_bundle(toy_cohort(n_side=6), config), reading="by patches: so it was")
    assert bundle.config.encoder.reading == "patches"
    write_model(tmp_path / "m.hespotex", bundle)
    kept = read_model(tmp_path / "m.hespotex")
    assert (kept.config.encoder.reading, kept.reading) == ("patches", "by patches: so it was")
    assert "* Reading: by patches: so it was.\n" in render_model_card(kept)
    sections = [item.section for item in toy_cohort(n_side=6).items]
    chosen = chosen_reading(config, sections, MACHINE, Heard()).config
    check_same_model(tmp_path / "m.hespotex", kept, chosen, sections)
    area = config.model_copy(
        update={"encoder": config.encoder.model_copy(update={"reading": "area"})}
    )
    with pytest.raises(ModelFileError, match=r"encoder\.reading: 'patches' there, 'area' now"):
        check_same_model(tmp_path / "m.hespotex", kept, area, sections)


def test_a_file_of_before_there_was_a_choice_reads_patches(tmp_path: Path) -> None:
    with safe_open(MODEL, framework="numpy") as handle:
        metadata, names = dict(handle.metadata()), list(handle.keys())
        tensors = {name: handle.get_tensor(name) for name in names}
    header = json.loads(metadata["header"])
    header["config"]["encoder"].pop("reading", None)
    header.pop("reading", None)
    metadata["header"] = json.dumps(header, sort_keys=True)
    metadata.pop("content_key", None)
    save_file({k: np.array(v, order="C") for k, v in tensors.items()}, tmp_path / "old", metadata)
    old = read_model(tmp_path / "old")
    assert old.config.encoder.reading == "patches"
    assert old.reading == ""
    assert "Reading:" not in render_model_card(old)
    assert reading_of(old, None) == "by patches, as in the model's training"


def test_another_reading_than_the_model_s_is_named() -> None:
    bundle = read_model(MODEL)
    assert switched(bundle, None) == switched(bundle, "patches") == ""
    assert "read by area, the model was fitted by patches" in switched(bundle, "area")
    assert reading_of(bundle, "area") == "by area, as asked for; the model was fitted by patches"


def test_the_cheaper_reading_is_named_unless_one_was_asked_for() -> None:
    found = reading.Price(patches=4000.0, area=90.0)
    line = cheaper_reading(found, "patches", None)
    assert (
        "by patches, as in the model's training, take about 1.1 core-h, by area about 1.5 core-min"
        in line
    )
    assert "--reading area does it" in line
    assert "--reading patches does it" in cheaper_reading(reading.Price(9.0, 90.0), "area", None)
    assert cheaper_reading(found, "patches", "patches") == ""
    assert cheaper_reading(found, "area", None) == ""
    assert (
        cheaper_reading(reading.Price(9.0, 1.0), "patches", None) == ""
    )  # seconds are not worth a line
