"""The LazySlide-shaped call writes spots and their prediction into an open WSIData."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from hespotex import tl
from toy_slide import toy_bundle, toy_predictor


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
        tl.predict_expression(wsi, "toy.hespotex", key_added="spots")
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
