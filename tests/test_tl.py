"""The LazySlide-shaped call writes spots and their prediction into an open WSIData."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from helpers.toy_slide import graded, toy_bundle, toy_predictor
from hespotex import tl
from hespotex.errors import ModelFileError, SlideError
from hespotex.features.encode import encode_spots
from hespotex.models.bundle import write_model
from hespotex.models.predict import predict_expression
from hespotex.predicting import SlideOptions
from hespotex.slide import open_slide


@pytest.mark.slow
def test_the_calls_are_reached_from_the_package_alone() -> None:
    command = "import hespotex; print(callable(hespotex.tl.predict_expression))"
    said = subprocess.run(
        [sys.executable, "-c", command], check=True, capture_output=True, text=True
    )
    assert said.stdout.split() == ["True"]


@pytest.mark.slow
def test_prediction_is_added_to_the_open_slide(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = toy_predictor(toy_bundle())
    monkeypatch.setattr(tl, "open_predictor", lambda *_args: predictor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import geopandas
        import shapely
        from spatialdata.models import ShapesModel
        from wsidata import open_wsi

        wsi = open_wsi(str(shared_data / "wsi" / "CMU-1-Small-Region.svs"), store=None)
        box = geopandas.GeoDataFrame(geometry=[shapely.box(600, 500, 1600, 2500)])
        wsi.shapes["tissues"] = ShapesModel.parse(box)
        tl.predict_expression(
            wsi, "toy.hespotex", key_added="spots", options=SlideOptions(untested=True)
        )
    table = wsi.tables["spots_hespotex"]
    centres = np.asarray(table.obsm["spatial"])
    assert table.X.shape == (len(wsi.shapes["spots"]), len(predictor.bundle.genes))
    assert (centres > [600, 500]).all()
    assert (centres < [1600, 2500]).all()
    assert np.isfinite(table.X).all()
    np.testing.assert_allclose(
        np.stack([wsi.shapes["spots"].centroid.x, wsi.shapes["spots"].centroid.y], axis=1), centres
    )
    assert table.uns["spatialdata_attrs"]["region"] == "spots"


@pytest.mark.filterwarnings("ignore")  # the libraries announce changes of their own dependencies
def test_a_label_that_was_opened_in_place_of_the_slide_is_refused(tmp_path: Path) -> None:
    from wsidata import open_wsi

    with tifffile.TiffWriter(tmp_path / "s.tif") as tiff:
        for side in (64, 256):
            picture = np.full((side, 2 * side, 3), 200, np.uint8)
            tiff.write(picture, photometric="rgb", tile=(64, 64), metadata=None)
    wsi = open_wsi(str(tmp_path / "s.tif"), store=None)
    with pytest.raises(SlideError, match=r"slide of 512 x 256 px, .* found one of 128 x 64 px"):
        tl.predict_expression(wsi, "toy.hespotex")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the libraries announce changes of their own dependencies
def test_lazyslide_runs_a_registered_model_on_features_of_all_sides(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lazyslide as zs
    from lazyslide_models import MODEL_REGISTRY
    from wsidata import open_wsi

    bundle = toy_bundle()
    grades = {gene: "D" if gene == "G03" else "B" for gene in bundle.genes}
    predictor = toy_predictor(graded(bundle, grades))
    monkeypatch.setattr(tl, "open_predictor", lambda *_args: predictor)
    write_model(tmp_path / "toy.hespotex", predictor.bundle)
    wsi = open_wsi(str(shared_data / "wsi" / "CMU-1-Small-Region.svs"), store=None)
    zs.pp.find_tissues(wsi)
    zs.pp.tile_tissues(wsi, 200, mpp=0.5, background_filter=False)
    key = tl.register_model(tmp_path / "toy.hespotex")
    assert key in MODEL_REGISTRY
    tl.extract_features(wsi, tmp_path / "toy.hespotex")
    zs.tl.feature_prediction(wsi, key, pbar=False)
    table = wsi.tables[f"{key}_tiles"]
    assert "G03" not in table.var_names
    assert len(table.var_names) == len(predictor.bundle.genes) - 1

    # The same spots through our own reader, encoder and prediction.
    centres = wsi.shapes["tiles"].centroid
    xy_px0 = np.stack([centres.x, centres.y], axis=1)
    with open_slide(shared_data / "wsi" / "CMU-1-Small-Region.svs") as slide:
        assert slide.mpp is not None
        features, _ = encode_spots(
            slide, xy_px0, predictor.encoder, predictor.plan, slide.mpp, lambda _n: None
        )
        expected = predict_expression(predictor.bundle.model, features, xy_px0 * slide.mpp)
    columns = [predictor.bundle.genes.index(g) for g in table.var_names]
    np.testing.assert_allclose(table.X, expected.composition[:, columns], atol=1e-5)

    other = MODEL_REGISTRY[key]()
    with pytest.raises(ModelFileError, match=r"expected 2 x 12 features .*found \(7,\); make them"):
        other.predict(np.zeros((3, 7)), np.zeros((3, 2)))
    with pytest.raises(SlideError, match="expected tiles under the key 'absent'"):
        tl.extract_features(wsi, tmp_path / "toy.hespotex", tile_key="absent")
    del MODEL_REGISTRY[key]
