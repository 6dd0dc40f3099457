"""`predict --keep-features`: the features that predicted a slide or a section, bit for bit, and when they are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.heard import Heard
from helpers.toy_slide import MPP, ToyEncoder, paint_tissue, write_slide
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.features.encode import encode_section
from hespotex.features.kept import Kept, kept_beside
from hespotex.geometry import Geometry
from hespotex.predicting import Predictor, SlideOptions, SlideTask, one_slide, predict_slide
from hespotex.predicting import encode as encoding
from hespotex.sections.section import Section

pytestmark = pytest.mark.usefixtures("blank_pictures", "small_chunks")

OPTIONS = SlideOptions(mpp=MPP, pitch_um=100.0, all_genes=True)


def _task(slide: Path, *, keep: bool) -> SlideTask:
    return SlideTask("s", slide, replace(OPTIONS, keep_features=keep))


def _section(file: PredictionFile, slide: Path) -> Section:
    spots = file.spots
    return Section(
        section_id="s", patient_id="p", slide=slide, geometry=Geometry(MPP, 100.0, 55.0), barcodes=spots.barcodes,
        xy_px0=spots.xy_px0, counts=None, genes=None,
    )  # fmt: skip


def test_features_of_a_slide_are_kept_as_they_were_encoded_and_their_size_is_said(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    heard = Heard()
    outcome = predict_slide(predictor, _task(slide, keep=True), tmp_path, reporter=heard)
    file = PredictionFile(tmp_path / "predictions" / "s.h5ad")
    kept = Kept.open(kept_beside(file.path))
    assert outcome.paths["features"] == kept_beside(file.path)
    assert kept.lies_at(file.spots.xy_px0)
    section = _section(file, slide)
    alone = encode_section(section, ToyEncoder(), predictor.plan, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(kept.read(), alone.values.reshape(file.n_spots, -1))
    assert kept.made_by.key == file.spots.record["encoder_key"]
    assert kept.made_by.sides_um == predictor.plan.sides_um
    width = len(predictor.plan.sides_um) * ToyEncoder.dim
    (line,) = [s for s in heard.said if "features are kept" in s]
    assert line.startswith(f"s: features are kept: {file.n_spots} spots x {width} numbers, ")
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


def test_features_asked_for_later_are_made_and_the_prediction_stays_as_it_was(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_slide(predictor, _task(slide, keep=False), tmp_path)
    path = tmp_path / "predictions" / "s.h5ad"
    assert not kept_beside(path).exists()
    before = PredictionFile(path)
    values = np.concatenate([v for _, v in before.rows()])
    assert predict_slide(predictor, _task(slide, keep=True), tmp_path).status == "done"
    kept = kept_beside(path).read_bytes()
    np.testing.assert_array_equal(
        np.concatenate([v for _, v in PredictionFile(path).rows()]), values
    )

    def refuse(*_args: object, **_more: object) -> None:
        pytest.fail("nothing is encoded twice")

    monkeypatch.setattr(encoding, "encode_batches", refuse)
    for keep in (True, False):
        assert predict_slide(predictor, _task(slide, keep=keep), tmp_path).status == "skipped"
    assert kept_beside(path).read_bytes() == kept


def test_a_call_that_ends_while_files_are_written_leaves_no_work_behind_once_it_is_done(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_slide(predictor, _task(slide, keep=False), tmp_path)

    def end(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(one_slide, "write_outputs", end)
        with pytest.raises(KeyboardInterrupt):
            predict_slide(predictor, _task(slide, keep=True), tmp_path)
    assert list((tmp_path / "work").iterdir())
    predict_slide(predictor, _task(slide, keep=True), tmp_path)
    assert kept_beside(tmp_path / "predictions" / "s.h5ad").exists()
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


def test_features_of_another_slide_under_the_name_are_replaced(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    predict_slide(predictor, _task(slide, keep=True), tmp_path)
    first = Kept.open(kept_beside(tmp_path / "predictions" / "s.h5ad"))
    seen = first.read()
    other = write_slide(tmp_path / "other.tif", paint_tissue(radius=200))
    predict_slide(predictor, _task(other, keep=True), tmp_path)
    second = Kept.open(first.path)
    assert second.prediction_key != first.prediction_key
    assert second.read().shape != seen.shape
