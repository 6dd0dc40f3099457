"""Pixels in which no cell can be seen are said before a run, and named as the reason where a slide is unlike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from helpers.inspected_sections import paint, shape
from helpers.toy_slide import (
    MPP,
    graded,
    paint_tissue,
    toy_bundle,
    toy_predictor,
    toy_trust,
    write_slide,
)
from hespotex.evaluation.out_of_distribution import fit_ood
from hespotex.evaluation.trust import bundle_trust
from hespotex.inspection import inspect_input
from hespotex.predicting import SlideOptions, SlideTask, predict_slide
from hespotex.predicting.layout import lay_out
from hespotex.slide import open_slide


def tiff(path: Path, mpp: float) -> Path:
    density = (1e4 / mpp, 1e4 / mpp)
    tifffile.imwrite(path, paint(shape()), photometric="rgb", resolution=density, resolutionunit=3)
    return path


@pytest.mark.parametrize("mpp", [1.5, 2.76, 3.0])
def test_pixels_in_which_cells_can_be_seen_stay_green(tmp_path: Path, mpp: float) -> None:
    assert inspect_input(tiff(tmp_path / "s.tif", mpp)).verdict == "green"


def test_pixels_in_which_no_cell_can_be_seen_are_yellow(tmp_path: Path) -> None:
    inspection = inspect_input(tiff(tmp_path / "s.tif", 3.2))
    assert inspection.verdict == "yellow"
    (finding,) = [f for f in inspection.findings if f.colour == "yellow"]
    assert finding.found == "cells cannot be seen at 3.2 um per pixel (above 3)"
    assert finding.remedy.startswith("give the slide itself")


@pytest.mark.slow
def test_real_slides_of_the_bulb_stay_green(shared_data: Path) -> None:
    inspection = inspect_input(shared_data / "mob" / "sections.csv", sections=["MOB9"])
    assert inspection.verdict == "green"


def test_a_prediction_keeps_the_note(tmp_path: Path) -> None:
    path = tiff(tmp_path / "s.tif", 3.2)
    with open_slide(path) as slide:
        layout = lay_out(slide, SlideTask("s", path, SlideOptions()), toy_bundle())
    assert layout.notes == ("cells cannot be seen at 3.2 um per pixel (above 3)",)


def features(seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(120, 12)) + shift).astype(np.float32)


XY = np.stack(np.meshgrid(np.arange(12.0), np.arange(10.0)), -1).reshape(-1, 2) * 100


@pytest.mark.parametrize(
    ("shift", "coarser", "verdict"),
    [
        (6.0, 4.6, "unlike: resolution"),
        (6.0, 2.0, "unlike: tissue"),
        (6.0, 0.2, "unlike: tissue"),
        (0.0, 4.6, "like the training slides"),
    ],
)
def test_much_larger_pixels_are_named_where_a_slide_is_unlike(
    shift: float, coarser: float, verdict: str
) -> None:
    model = fit_ood([features(i) for i in range(3)], [XY] * 3)
    assert model.report(features(9, shift), coarser=coarser).verdict == verdict


@pytest.mark.slow
def test_predict_compares_with_the_pixels_of_the_training(tmp_path: Path) -> None:
    """The toy's training sections have 0.5 um per pixel, its trust calls anything painted unlike."""
    bundle = graded(toy_bundle(), {"G01": "A"})
    assert bundle_trust(bundle).training_mpp == 0.5
    trust = toy_trust()
    assert trust.ood is not None
    strict = replace(trust.ood.features, slide_limit=1e-6)
    of_features = replace(trust.ood, features=strict, colours=None)
    predictor = toy_predictor(bundle, replace(trust, ood=of_features, training_mpp=0.5))
    path = write_slide(tmp_path / "s.png", paint_tissue())
    said = []
    for mpp in (MPP, 0.9):
        options = SlideOptions(mpp=mpp, pitch_um=60.0)
        said.append(predict_slide(predictor, SlideTask("s", path, options), tmp_path / f"{mpp}"))
    assert said[0].verdict == "unlike: resolution"
    assert said[1].verdict == "unlike: tissue"
