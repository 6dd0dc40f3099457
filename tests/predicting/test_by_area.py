"""A model that reads by area: sections and bare slides, whole and interrupted, give the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest

from helpers.area_encoder import AreaColour
from helpers.toy_cohort import SIDES_UM
from helpers.toy_slide import MPP
from hespotex import pipeline
from hespotex.config import EncoderConfig, Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.features import area
from hespotex.features.patches import PatchPlan
from hespotex.models.bundle import read_model
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide


@pytest.fixture
def by_area(predictor: Predictor) -> Predictor:
    plan = PatchPlan(SIDES_UM, AreaColour.size_px, "area")
    return replace(predictor, encoder=AreaColour(dim=12), plan=plan)


def predicted(predictor: Predictor, slide: Path, out: Path) -> bytes:
    predict_slide(predictor, SlideTask("s", slide, SlideOptions(mpp=MPP)), out)
    return (out / "predictions" / "s.h5ad").read_bytes()


@pytest.mark.slow
def test_an_interrupted_slide_goes_on_and_equals_the_whole(
    by_area: Predictor,
    slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_chunks: int,
) -> None:
    whole = predicted(by_area, slide, tmp_path / "whole")
    read, calls = area.AreaReader._read, []

    def interrupted(self: area.AreaReader, scales: object, rows: slice, tell: object) -> object:
        calls.append(rows.stop - rows.start)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return read(self, scales, rows, tell)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(area.AreaReader, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predicted(by_area, slide, tmp_path / "cut")
    assert calls[:3] == [small_chunks] * 3
    assert predicted(by_area, slide, tmp_path / "cut") == whole


@pytest.mark.slow
def test_a_model_keeps_its_reading_and_predicts_its_own_section_and_a_bare_slide_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))
    config = RunConfig.from_values(
        {
            "encoder": {"reading": "area"},
            "patches": {"sides_um": [154.5]},
            "model": {"epochs": 1, "ensemble": 1},
        }
    )
    assert config.encoder == EncoderConfig(reading="area")
    cohort = make_cohort(tmp_path / "cohort", n_patients=2, n_genes=60, side_um=800.0)
    machine = Machine(device="cpu", threads=1, cache=tmp_path / "cache")
    model = pipeline.train(
        cohort, tmp_path / "m.hespotex", config=config, validate=False, machine=machine
    )
    assert read_model(model).config.encoder.reading == "area"

    def no_patches(*_: object) -> None:
        raise AssertionError("a patch was cut")

    monkeypatch.setattr("hespotex.features.encode.crop_patches", no_patches)
    options = SlideOptions(untested=True)
    pipeline.predict(model, cohort, tmp_path / "sections", options=options, machine=machine)
    slides = sorted(cohort.parent.rglob("*S1.*"))
    image = next(p for p in slides if p.suffix in {".png", ".jpg", ".tif", ".tiff"})
    options = SlideOptions(mpp=1.0, untested=True)
    pipeline.predict(model, image, tmp_path / "bare", options=options, machine=machine)
    (bare,) = (tmp_path / "bare" / "predictions").glob("*.h5ad")
    table = anndata.read_h5ad(bare)
    assert table.n_obs > 10
    assert np.isfinite(table.X[:]).all()
