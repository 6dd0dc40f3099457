"""A corrected input is no longer the run or the model that was made of the uncorrected one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

from helpers.toy_slide import toy_bundle
from hespotex.config import RunConfig
from hespotex.errors import ModelFileError, NucleiError
from hespotex.evaluation.patients import patient_of
from hespotex.models.bundle import Bundle, TrainedOn, read_model, write_model
from hespotex.models.same_model import check_same_model
from hespotex.models.trained_on import with_inputs
from hespotex.models.types import EncoderRecord, FittedModel
from hespotex.results.identity import run_identity
from hespotex.sections.section import Geometry, Section

CONFIG = RunConfig()


def picture(path: Path, colour: int) -> Path:
    Image.new("RGB", (8, 8), (colour, 90, 120)).save(path)
    return path


@pytest.fixture
def section(tmp_path: Path) -> Section:
    barcodes = np.array(["a", "b", "c"])
    return Section(
        "S1",
        "P1",
        picture(tmp_path / "s.png", 200),
        Geometry(0.5, 100.0, 55.0),
        barcodes,
        np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        sparse.csr_matrix(np.array([[1, 0], [2, 3], [0, 1]], dtype=np.int32)),
        np.array(["G1", "G2"]),
        obs=pd.DataFrame({"label": ["tumour", "stroma", None], "x_age": 50}, index=barcodes),
        nuclei_file=picture(tmp_path / "mask.png", 1),
    )


def bundle(section: Section) -> Bundle:
    trained = TrainedOn(section.section_id, section.patient_id, section.expression_key(), 3, 0.5)
    return Bundle(
        config=CONFIG,
        genes=("G1", "G2"),
        training_totals=(3.0, 4.0),
        encoder=EncoderRecord("toy", "k", 3, 16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        sides_um=(50.0,),
        spot_pitch_um=100.0,
        spot_diameter_um=55.0,
        sections=(trained,),
        model=FittedModel("default", {"w": np.zeros(2, np.float32)}),
    )


Change = Callable[[Section, Path], Section]
SEEN_BY_A_FIT = [
    pytest.param(lambda s, _: replace(s, geometry=Geometry(0.6, 100.0, 55.0)), "mpp", id="mpp"),
    pytest.param(
        lambda s, _: replace(s, geometry=Geometry(0.5, 110.0, 55.0)), "spot_pitch_um", id="pitch"
    ),
    pytest.param(
        lambda s, _: replace(s, geometry=Geometry(0.5, 100.0, 65.0)),
        "spot_diameter_um",
        id="diameter",
    ),
    pytest.param(lambda s, p: replace(s, slide=picture(p / "t.png", 10)), "slide", id="slide"),
    pytest.param(
        lambda s, p: replace(s, nuclei_file=picture(p / "n.png", 9)), "nuclei", id="nuclei"
    ),
    pytest.param(
        lambda s, _: replace(s, missing_genes="unmeasured"), "missing_genes", id="missing genes"
    ),
    pytest.param(lambda s, _: replace(s, patient_id="P2"), "patient_id", id="patient"),
]
CARRIED = [
    pytest.param(
        lambda s, _: replace(s, obs=s.obs.assign(label="stroma")),  # type: ignore[union-attr]
        id="label",
    ),
    pytest.param(
        lambda s, _: replace(s, obs=s.obs.assign(x_age=51)),  # type: ignore[union-attr]
        id="x_ column",
    ),
    pytest.param(lambda s, _: replace(s, obs=None), id="no obs"),
    pytest.param(lambda s, _: replace(s, barcodes=np.array(["a", "b", "d"])), id="name of a spot"),
]


@pytest.mark.parametrize(("change", "name"), SEEN_BY_A_FIT)
def test_model_of_an_input_that_was_corrected_since_is_another_model(
    section: Section, tmp_path: Path, change: Change, name: str
) -> None:
    path = tmp_path / "m.hespotex"
    write_model(path, with_inputs(bundle(section), [section]))
    check_same_model(path, read_model(path), CONFIG, [section])
    with pytest.raises(ModelFileError, match=rf"another model: sections\.S1\.{name}: .* there"):
        check_same_model(path, read_model(path), CONFIG, [change(section, tmp_path)])


def test_model_does_not_depend_on_what_is_only_carried_along(
    section: Section, tmp_path: Path
) -> None:
    there = with_inputs(bundle(section), [section])
    carried = replace(section, obs=None)
    assert carried.carried_key() != section.carried_key()
    assert there.sections == with_inputs(bundle(section), [carried]).sections
    check_same_model(tmp_path / "m", there, CONFIG, [carried])


def test_model_file_without_its_inputs_is_known_by_its_spots(
    section: Section, tmp_path: Path
) -> None:
    path = tmp_path / "m.hespotex"
    write_model(path, bundle(section))
    there = read_model(path)
    check_same_model(path, there, CONFIG, [replace(section, geometry=Geometry(0.6, 100.0, 55.0))])
    moved = replace(section, xy_px0=section.xy_px0 + 1)
    with pytest.raises(ModelFileError, match=r"another model: sections\.S1: '\w+' there, '\w+'"):
        check_same_model(path, there, CONFIG, [moved])


@pytest.mark.parametrize(
    "change", [*(pytest.param(p.values[0], id=p.id) for p in SEEN_BY_A_FIT), *CARRIED]
)
def test_run_of_an_input_that_was_corrected_since_is_another_run(
    section: Section, tmp_path: Path, change: Change
) -> None:
    before = run_identity("predict", CONFIG, [section])
    assert run_identity("predict", CONFIG, [replace(section)]) == before
    assert run_identity("predict", CONFIG, [change(section, tmp_path)]) != before


def test_mask_that_is_gone_is_named(section: Section, tmp_path: Path) -> None:
    gone = replace(section, nuclei_file=tmp_path / "gone.tif")
    with pytest.raises(NucleiError, match=r"readable nuclei mask, found: No such file.*gone\.tif"):
        run_identity("predict", CONFIG, [gone])


def test_a_patient_is_of_the_training_by_the_users_word_alone() -> None:
    bundle = toy_bundle()  # of patients A and B
    assert patient_of(bundle, "A") == "new"
    assert patient_of(bundle, " a", same_patient=True) == "same"
    assert patient_of(bundle, "Z", same_patient=True) == "new"
    assert patient_of(bundle, "Unknown", same_patient=True) == patient_of(bundle, "") == "unknown"
