"""The level of a whole slide by the model's ridge: in its file, from the mean feature of the spots that could be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.broken_pixels import break_pixels
from helpers.toy_cohort import toy_cohort
from helpers.toy_slide import MPP
from hespotex.evaluation.level_ridge import LevelRidge, fit_level_ridge
from hespotex.genes.panel import GenePanel
from hespotex.models.fit import training_section
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide
from hespotex.predicting.store import FeatureChunk, FeatureStore

pytestmark = pytest.mark.usefixtures("blank_pictures", "small_chunks")


@pytest.mark.parametrize("broken", [False, True])
def test_it_is_the_ridge_on_the_mean_feature_of_the_readable_spots(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    panel = GenePanel(predictor.bundle.genes)
    arrays = fit_level_ridge([training_section(i, panel) for i in toy_cohort().items])
    bundle = replace(predictor.bundle, trust={**predictor.bundle.trust, **arrays})
    chunks: dict[int, FeatureChunk] = {}
    write = FeatureStore.write

    def noted(self: FeatureStore, number: int, chunk: FeatureChunk) -> None:
        chunks[number] = chunk
        write(self, number, chunk)

    monkeypatch.setattr(FeatureStore, "write", noted)
    if broken:
        break_pixels(monkeypatch, lambda y: y > 470)
    options = SlideOptions(mpp=MPP, all_genes=True, untested=True, max_bad_tiles=0.5)
    found = predict_slide(
        replace(predictor, bundle=bundle), SlideTask("s", slide, options), tmp_path
    )
    assert (found.n_bad > 0) == broken
    readable = np.concatenate([c.features[~c.bad] for c in chunks.values()])
    assert len(readable) == found.n_spots - found.n_bad > 16
    ridge = LevelRidge.from_tensors(arrays)
    assert ridge is not None
    told = ridge.predict(readable.mean(axis=0, dtype=np.float64).reshape(1, -1))[0]
    assert np.std(told) > 0.01
    var = anndata.read_h5ad(tmp_path / "predictions" / "s.h5ad").var
    expected = pd.Series(told, bundle.genes)[var.index]
    np.testing.assert_allclose(var.ridge_level, expected, rtol=1e-3, atol=1e-4)
