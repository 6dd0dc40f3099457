"""GeoJSON, Parquet and SpatialData: each is opened by the other tool's own library."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib import pyplot as plt
from pyarrow import parquet

from helpers.toy_prediction import (
    GENES,
    MARKED,
    MPP,
    toy_half_widths,
    toy_stored,
)
from hespotex.errors import GenePanelError, RunError
from hespotex.export.geojson import write_geojson
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.spatialdata import write_spatialdata
from hespotex.export.tables import chosen_columns, write_parquet
from hespotex.keys import UNIT_COMPOSITION


@pytest.fixture
def stored(tmp_path: Path) -> StoredPrediction:
    return toy_stored(tmp_path, measured=True, provenance={"model_id": "abc123"})


def test_the_best_graded_genes_are_chosen_first(stored: StoredPrediction) -> None:
    assert stored.genes[chosen_columns(stored, None, 3)].tolist() == ["ACTB", "FLAT-02", GENES[1]]
    ungraded = replace(stored, extras=replace(stored.extras, claims=None))
    most_abundant = np.argsort(-stored.log1p.mean(axis=0, dtype=np.float64))
    assert chosen_columns(ungraded, None, 3).tolist() == most_abundant[:3].tolist()
    assert chosen_columns(stored, ["TUM-01", "ACTB"]).tolist() == [4, 0]


def test_an_unknown_gene_is_named(stored: StoredPrediction, tmp_path: Path) -> None:
    with pytest.raises(
        GenePanelError, match=r"section S1: .*found unknown: ERBB2; names are those"
    ):
        write_parquet(tmp_path / "x.parquet", stored, genes=["ACTB", "ERBB2"])
    assert not (tmp_path / "x.parquet").exists()


def test_geojson_holds_circles_in_level_0_pixels_with_measurements(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    geopandas = pytest.importorskip("geopandas")
    write_geojson(tmp_path / "S1.geojson", stored, genes=["TUM-01"])
    collection = json.loads((tmp_path / "S1.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    # GDAL, as in QGIS and many viewers, agrees that it is GeoJSON.
    assert len(geopandas.read_file(tmp_path / "S1.geojson")) == len(stored.barcodes)
    frame = geopandas.GeoDataFrame.from_features(collection)
    centres = np.stack([frame.centroid.x, frame.centroid.y], axis=1)
    np.testing.assert_allclose(centres, stored.xy_px0, atol=0.01)
    np.testing.assert_allclose(frame.area, np.pi * 25.0**2, rtol=0.03)
    assert frame.geometry.is_valid.all()
    properties = collection["features"][MARKED]["properties"]
    assert properties["objectType"] == "detection"
    assert properties["name"] == stored.barcodes[MARKED]
    # Graded D: its name says that nothing was shown of it.
    assert properties["measurements"]["TUM-01 composition, not shown"] == pytest.approx(
        stored.composition[MARKED, 4], abs=1e-4
    )
    assert len({f["id"] for f in collection["features"]}) == len(stored.barcodes)


def test_geojson_leaves_out_what_has_no_value_and_shifts_by_the_bounds(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    unknown = replace(stored, depth=np.full(len(stored.barcodes), np.nan, np.float32))
    write_geojson(tmp_path / "a.geojson", unknown, bounds_offset_px0=(40.0, 10.0))
    first = json.loads((tmp_path / "a.geojson").read_text())["features"][0]
    assert "predicted depth" not in first["properties"]["measurements"]
    ring = np.array(first["geometry"]["coordinates"][0])
    np.testing.assert_array_equal(ring[0], ring[-1])
    np.testing.assert_allclose(ring[:-1].mean(axis=0), stored.xy_px0[0] - [40, 10], atol=0.01)


def test_parquet_opens_with_units(stored: StoredPrediction, tmp_path: Path) -> None:
    write_parquet(tmp_path / "S1.parquet", stored, genes=["TUM-01", "HLA-A"])
    table = parquet.read_table(tmp_path / "S1.parquet")
    frame = table.to_pandas()
    assert list(frame.columns) == [
        "spot", "x_px0", "y_px0", "x_um", "y_um", "predicted_depth", "ood_score", "TUM-01", "HLA-A",
    ]  # fmt: skip
    np.testing.assert_array_equal(frame["TUM-01"], stored.composition[:, 4])
    np.testing.assert_allclose(frame["x_um"], stored.xy_px0[:, 0] * MPP)
    about = json.loads(table.schema.metadata[b"hespotex"])
    assert about["units"]["genes"] == UNIT_COMPOSITION
    assert (about["shown"], about["n_genes_here"]) == ("composition", 2)
    assert about["model_id"] == "abc123"


# The libraries warn of their own dependencies' futures when imported and when they read.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_spatialdata_store_opens_in_spatialdata_and_lazyslide(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata
        import wsidata
    write_spatialdata(tmp_path / "S1.zarr", stored)
    store = spatialdata.read_zarr(tmp_path / "S1.zarr")
    boxes = store.shapes["spots"]
    centres = np.stack([boxes.centroid.x, boxes.centroid.y], axis=1)
    np.testing.assert_allclose(centres, stored.xy_px0)
    table = store.tables["hespotex_spots"]
    np.testing.assert_array_equal(table.X, stored.composition)
    np.testing.assert_array_equal(table.layers["log1p"], stored.log1p)
    assert table.uns["hespotex"]["units"]["X"] == UNIT_COMPOSITION
    assert table.uns["spatialdata_attrs"]["region"] == "spots"
    assert table.var["gene"].tolist() == list(GENES)
    np.testing.assert_array_equal(table.var["half_width_4"], toy_half_widths()[1])
    assert table.uns["hespotex"]["half_width_level"] == 0.9
    assert "natural log" in table.uns["hespotex"]["units"]["half_width_4"]
    assert tuple(store.images["wsi_thumbnail"].shape) == (3, 180, 200)

    slide = tmp_path / "slide.tif"
    white = np.full((720, 800, 3), 255, np.uint8)
    tifffile.imwrite(slide, white, tile=(256, 256), photometric="rgb", compression="zlib")
    wsi = wsidata.open_wsi(slide, store=str(tmp_path / "S1.zarr"), attach_thumbnail=False)
    features = wsi.fetch.features_anndata("hespotex", tile_key="spots")
    np.testing.assert_array_equal(features.X, stored.composition)
    np.testing.assert_allclose(features.obsm["spatial"], stored.xy_px0 - 25.0)
    assert wsi.tile_spec("spots").mpp == MPP

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lazyslide as zs
    # Squares of a heatmap need a square grid: on a hexagonal one LazySlide draws points.
    zs.pl.tiles(
        wsi,
        tile_key="spots",
        feature_key="hespotex",
        color="ACTB",
        style="scatter",
        show_image=False,
        show_contours=False,
    )
    places = [c.get_offsets() for axes in plt.gcf().axes for c in axes.collections]
    plt.close("all")
    drawn = np.concatenate([np.asarray(p) for p in places if len(p) == len(stored.barcodes)])
    np.testing.assert_allclose(drawn, stored.xy_px0, atol=1)
    wsi.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_spatialdata_replaces_a_store_and_nothing_else(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    for genes in (None, ["ACTB"]):
        write_spatialdata(tmp_path / "S1.zarr", stored, genes=genes)
    import spatialdata

    assert spatialdata.read_zarr(tmp_path / "S1.zarr").tables["hespotex_spots"].shape == (30, 1)
    assert not list(tmp_path.glob(".*.zarr"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(RunError, match=r"expected a free name or an older store at .*photos"):
        write_spatialdata(tmp_path / "photos", stored)
    assert (tmp_path / "photos" / "cat.jpg").exists()
