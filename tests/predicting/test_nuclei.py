"""Nuclei on slides without spots: the same as on a section, in both modes; refused, resumed, without effect."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import shapely

from helpers.heard import Heard
from helpers.toy_cohort import toy_cohort
from helpers.toy_slide import MPP, ToyEncoder, toy_predictor
from hespotex.config import Machine, NucleiConfig, RunConfig
from hespotex.errors import ConfigError, ModelFileError, NucleiError
from hespotex.features.encode import encode_section
from hespotex.models.bundle import Bundle
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_expression
from hespotex.nuclei import NucleiOrigin, count_nuclei, count_section, counting
from hespotex.nuclei.factor import nuclei_factor
from hespotex.nuclei.outlines import OutlineLabels
from hespotex.nuclei.stage import (
    configured,
    find_nuclei,
    for_prediction,
    say_of_nuclei,
    with_masks,
)
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide
from hespotex.predicting import one_slide as run
from hespotex.sections.section import Geometry, Section
from hespotex.slide.decoded import DecodedImage

pytestmark = pytest.mark.usefixtures("blank_pictures")

VALUES = {
    "panel": {"kind": "all"},
    "model": {"epochs": 2, "ensemble": 1, "n_components": 8, "landmarks": 32},
    "published": {"gate_steps": 2, "epochs": 2},
}


def _bundle(profile: str, mode: str, source: str = "mask") -> Bundle:
    """A model with nuclei that follow depth."""
    cohort = toy_cohort()
    rng = np.random.default_rng(1)
    items = tuple(
        replace(item, nuclei=rng.uniform(1, 2, item.section.n_spots)) for item in cohort.items
    )
    nuclei = {"mode": mode, "source": source, "side_um": 60.0}
    config = RunConfig.from_values({**VALUES, "profile": profile, "nuclei": nuclei})
    config = config.model_copy(update={"panel": RunConfig.from_values(VALUES).panel})
    return fit_bundle(replace(cohort, items=items), config)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Nuclei of 3 px, more of them to the right, on the painted slide of 700 x 600 px."""
    rng = np.random.default_rng(3)
    labels = np.zeros((600, 700), np.int32)
    x = (700 * rng.random(4000) ** 0.5).astype(int)
    for number, (column, row) in enumerate(zip(x, rng.integers(0, 597, 4000), strict=True), 1):
        labels[row : row + 3, column : column + 3] = number
    np.save(tmp_path / "s.npy", labels)
    return tmp_path / "s.npy"


def _section(slide: Path, xy: npt.NDArray[np.float64], mask: Path | None = None) -> Section:
    return Section(
        section_id="s",
        patient_id="p",
        slide=slide,
        geometry=Geometry(MPP, 100.0, 55.0),
        barcodes=np.array([f"b{i}" for i in range(len(xy))]),
        xy_px0=xy,
        counts=None,
        genes=None,
        nuclei_file=mask,
    )


def _spots(tmp_path: Path) -> tuple[npt.NDArray[np.float64], Path]:
    xy = np.random.default_rng(4).uniform(60, 540, size=(70, 2)).round(2)
    table = pd.DataFrame({"spot": [f"b{i}" for i in range(70)], "x": xy[:, 0], "y": xy[:, 1]})
    table.to_csv(tmp_path / "spots.csv", index=False)
    return xy, tmp_path / "spots.csv"


def _task(slide: Path, spots: Path, **options: object) -> SlideTask:
    chosen = SlideOptions(mpp=MPP, spots=spots, pitch_um=100.0, all_genes=True)
    return SlideTask("s", slide, replace(chosen, **options))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("mode", ["published", "density"])
@pytest.mark.parametrize("profile", ["default", "published"])
def test_bare_slide_with_nuclei_equals_the_section(
    slide: Path, mask: Path, tmp_path: Path, profile: str, mode: str
) -> None:
    bundle = _bundle(profile, mode)
    predictor = toy_predictor(bundle)
    xy, spots = _spots(tmp_path)
    section = _section(slide, xy, mask)
    counts = count_section(section, bundle.config.nuclei, cache_dir=tmp_path / "c")
    factor = nuclei_factor(counts, bundle.config.nuclei.mode)
    assert factor is not None
    assert np.ptp(factor) > 0.1
    encoded = encode_section(section, ToyEncoder(), predictor.plan, cache_dir=tmp_path / "c")
    whole = predict_expression(bundle.model, encoded.values, section.xy_um, factor, spread=False)
    predict_slide(predictor, _task(slide, spots, nuclei=f"mask:{mask}"), tmp_path / "out")
    found = anndata.read_h5ad(tmp_path / "out" / "predictions" / "s.h5ad")[list(section.barcodes)]
    np.testing.assert_allclose(found.X, whole.log1p, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.layers["composition"], whole.composition, atol=1e-4)
    np.testing.assert_array_equal(found.obs["nuclei"], counts.nuclei)
    np.testing.assert_allclose(found.obs["nuclei_per_mm2"], counts.per_mm2)
    plain = predict_expression(bundle.model, encoded.values, section.xy_um, np.ones(70) * 1.5)
    assert np.abs(plain.log1p - whole.log1p).max() > 1e-3


@pytest.mark.slow
def test_a_killed_count_goes_on(
    slide: Path, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = toy_predictor(_bundle("default", "density"))
    _, spots = _spots(tmp_path)
    task = _task(slide, spots, nuclei=f"mask:{mask}")
    predict_slide(predictor, task, tmp_path / "whole")
    monkeypatch.setattr(counting, "_SAVED_TILES", 1)
    monkeypatch.setattr(counting, "TILE_UM", 200.0)
    count_tile, done = counting._count_tile, 0

    def killed(*arguments: object) -> None:
        nonlocal done
        if done == 5:
            raise KeyboardInterrupt
        done += 1
        count_tile(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(counting, "_count_tile", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_slide(predictor, task, tmp_path / "out")
    assert (tmp_path / "out" / "work" / "s" / "nuclei.safetensors").exists()
    done = -1000
    predict_slide(predictor, task, tmp_path / "out")
    a, b = (anndata.read_h5ad(tmp_path / d / "predictions" / "s.h5ad") for d in ("whole", "out"))
    np.testing.assert_array_equal(a.X, b.X)
    np.testing.assert_array_equal(a.obs["nuclei"], b.obs["nuclei"])


@pytest.mark.slow
def test_counts_follow_a_diameter_that_changes_after_a_kill(
    slide: Path, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = _bundle("default", "density")
    nuclei = bundle.config.nuclei.model_copy(update={"side_um": None})
    config = bundle.config.model_copy(update={"nuclei": nuclei})
    predictor = toy_predictor(replace(bundle, config=config))
    _, spots = _spots(tmp_path)
    small = _task(slide, spots, nuclei=f"mask:{mask}", diameter_um=40.0)
    large = _task(slide, spots, nuclei=f"mask:{mask}", diameter_um=90.0)
    predict_slide(predictor, large, tmp_path / "whole")

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "write_outputs", killed)
        with pytest.raises(KeyboardInterrupt):
            predict_slide(predictor, small, tmp_path / "out")
    assert (tmp_path / "out" / "work" / "s" / "nuclei.safetensors").exists()
    predict_slide(predictor, large, tmp_path / "out")
    a, b = (anndata.read_h5ad(tmp_path / d / "predictions" / "s.h5ad") for d in ("whole", "out"))
    np.testing.assert_array_equal(a.obs["nuclei"], b.obs["nuclei"])
    np.testing.assert_array_equal(a.X, b.X)


def test_outlines_from_qupath_start_at_the_bounds_where_it_is_said(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DecodedImage, "bounds_px0", (40.0, 10.0))
    xy, spots = _spots(tmp_path)
    boxes = [shapely.box(x - 42, y - 12, x - 38, y - 8) for x, y in xy]  # around each spot
    outlines = [{"type": "Feature", "geometry": shapely.geometry.mapping(b)} for b in boxes]
    (tmp_path / "s.geojson").write_text(json.dumps(outlines))
    bundle = _bundle("default", "density")
    asked = for_prediction(bundle, NucleiOrigin.parse("mask"), bounds_offset=True)
    labels = OutlineLabels(tmp_path / "s.geojson", (700, 600), MPP, (40.0, 10.0))
    expected = count_nuclei(labels, xy, 60.0, MPP, (700, 600)).nuclei
    assert expected.min() >= 1
    section = _section(slide, xy, tmp_path / "s.geojson")
    counts = count_section(section, asked, cache_dir=tmp_path / "c")
    np.testing.assert_array_equal(counts.nuclei, expected)
    task = _task(slide, spots, nuclei=f"mask:{tmp_path / 's.geojson'}", bounds_offset=True)
    predict_slide(toy_predictor(bundle), task, tmp_path / "out")
    found = anndata.read_h5ad(tmp_path / "out" / "predictions" / "s.h5ad")[list(section.barcodes)]
    np.testing.assert_array_equal(found.obs["nuclei"], expected)


def test_a_model_with_nuclei_refuses_to_predict_without(slide: Path, tmp_path: Path) -> None:
    _, spots = _spots(tmp_path)
    by_mask = toy_predictor(_bundle("default", "density"))
    with pytest.raises(
        ConfigError, match=r"section s: expected a nuclei mask .* give --nuclei mask:PATH"
    ):
        predict_slide(by_mask, _task(slide, spots), tmp_path)
    seen = toy_predictor(_bundle("default", "density", "classical"))
    with pytest.raises(
        NucleiError, match=r"section s: expected a slide of at most 1 um per pixel .* found 2"
    ):
        predict_slide(seen, _task(slide, spots), tmp_path)
    assert not (tmp_path / "work").exists()  # said before anything was encoded
    foreign = replace(seen.bundle, sections=())
    with pytest.raises(ModelFileError, match=r"trained with nuclei elsewhere, .* give --nuclei"):
        for_prediction(foreign, None)
    assert for_prediction(foreign, NucleiOrigin.parse("instanseg")).source == "instanseg"


def test_what_nuclei_cannot_change_is_said(predictor: Predictor) -> None:
    heard, asked = Heard(), NucleiOrigin.parse("classical")
    assert for_prediction(predictor.bundle, asked).mode == "off"
    say_of_nuclei(predictor.bundle, asked, heard)
    assert heard.warned == [
        "the model was trained without nuclei: --nuclei classical has no effect"
    ]
    heard, bundle = Heard(), _bundle("default", "density")
    chosen = for_prediction(bundle, asked)
    say_of_nuclei(bundle, asked, heard)
    assert (chosen.mode, chosen.source) == ("density", "classical")
    assert "trained with nuclei from mask; classical may count otherwise" in heard.warned[0]


def test_the_option_makes_nuclei_part_of_what_is_trained() -> None:
    assert configured(RunConfig(), None).nuclei.mode == "off"
    assert configured(RunConfig(), NucleiOrigin.parse("classical")).nuclei == NucleiConfig(
        mode="density"
    )
    published = RunConfig(profile="published")
    assert configured(published, NucleiOrigin.parse("cellpose")).nuclei.mode == "published"
    stated = RunConfig.from_values({"nuclei": {"mode": "published", "side_um": 30.0}})
    assert configured(stated, NucleiOrigin.parse("mask")).nuclei == NucleiConfig(
        mode="published", source="mask", side_um=30.0
    )
    with pytest.raises(ConfigError, match=r"beside nuclei\.mode = off"):
        configured(RunConfig.from_values({}, ["nuclei.mode=off"]), NucleiOrigin.parse("classical"))


def test_masks_are_handed_out_by_section(slide: Path, mask: Path) -> None:
    config = NucleiConfig(mode="density", source="mask")
    sections = [_section(slide, np.zeros((1, 2))), _section(slide, np.zeros((1, 2)), mask)]
    with pytest.raises(
        ConfigError, match="expected a folder of masks, one a section, for 2 sections"
    ):
        with_masks(sections, config, NucleiOrigin.parse(f"mask:{mask}"))
    of_folder = NucleiOrigin.parse(f"mask:{mask.parent}")
    assert [s.nuclei_file for s in with_masks(sections, config, of_folder)] == [mask] * 2
    assert [s.nuclei_file for s in with_masks(sections, NucleiConfig(), None)] == [None] * 2
    with pytest.raises(
        ConfigError, match="section s: expected a nuclei mask in the manifest's column"
    ):
        with_masks(sections, config, None)


def test_a_slide_too_coarse_for_a_segmenter_is_named_before_the_work(slide: Path) -> None:
    sections = [_section(slide, np.zeros((1, 2)))]
    with pytest.raises(NucleiError, match="section s: expected a slide of at most 1 um per pixel"):
        with_masks(sections, NucleiConfig(mode="density"), None)
    assert with_masks(sections, NucleiConfig(), None) == tuple(sections)


def test_features_without_a_slide_have_no_nuclei() -> None:
    config = NucleiConfig(mode="density")
    with pytest.raises(NucleiError, match="section A1: expected a slide to find nuclei on"):
        find_nuclei(toy_cohort(), config, Machine(device="cpu"), Heard())


def test_statistics_of_nuclei_are_those_of_the_whole_slide() -> None:
    from hespotex.models.preprocessing import nuclei_stats, with_nuclei

    factor = np.random.default_rng(0).uniform(1, 2, 20)
    whole = with_nuclei(np.zeros((20, 1), np.float32), factor)
    part = with_nuclei(np.zeros((4, 1), np.float32), factor[5:9], nuclei_stats(factor))
    np.testing.assert_allclose(part, whole[5:9], atol=1e-6)
