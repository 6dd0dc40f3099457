"""Files for other tools that a bare slide's prediction leaves, opened as these tools open them."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
import tifffile

from helpers.toy_slide import MPP
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide
from hespotex.slide import open_slide
from hespotex.slide.decoded import DecodedImage

BOUNDS_PX0 = (40.0, 10.0)

pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_gene_maps_lie_where_the_spots_are(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    options = SlideOptions(untested=True, mpp=MPP, formats=("ome-tiff",), genes=("G01", "G00"))
    result = predict_slide(predictor, SlideTask("slide", slide, options), tmp_path)
    table = anndata.read_h5ad(result.paths["prediction"])
    assert result.paths["ome-tiff"].name == "slide.ome.tif"
    with tifffile.TiffFile(result.paths["ome-tiff"]) as file, open_slide(slide) as opened:
        image = file.asarray()
        downsample = 4  # 50 px a pitch, so that a spot is at least 8 pixels wide
        assert image.shape[1:] == (
            -(-opened.height_px0 // downsample),
            -(-opened.width_px0 // downsample),
        )
    x, y = (table.obsm["spatial"] / downsample).astype(int).T
    np.testing.assert_array_equal(image[0, y, x], table[:, "G01"].layers["composition"][:, 0])
    np.testing.assert_array_equal(image[1, y, x], table[:, "G00"].layers["composition"][:, 0])


def test_coordinates_for_and_from_qupath_start_at_the_bounds(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DecodedImage, "bounds_px0", BOUNDS_PX0)
    corner = [[150, 150], [350, 150], [350, 350], [150, 350], [150, 150]]
    outline = {"type": "Polygon", "coordinates": [corner]}
    (tmp_path / "drawn.geojson").write_text(json.dumps(outline))
    options = SlideOptions(
        mpp=MPP, tissue=tmp_path / "drawn.geojson", formats=("geojson",), bounds_offset=True
    )
    result = predict_slide(predictor, SlideTask("slide", slide, options), tmp_path)
    xy_px0 = np.asarray(anndata.read_h5ad(result.paths["prediction"]).obsm["spatial"])
    assert (xy_px0 >= np.add(BOUNDS_PX0, 150)).all()
    assert (xy_px0 <= np.add(BOUNDS_PX0, 350)).all()
    features = json.loads(result.paths["geojson"].read_text())["features"]
    rings = np.array([f["geometry"]["coordinates"][0][:-1] for f in features])
    np.testing.assert_allclose(rings.mean(axis=1), xy_px0 - BOUNDS_PX0, atol=0.01)
