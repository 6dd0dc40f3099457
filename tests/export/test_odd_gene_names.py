"""Genes and gene sets of any name reach every format, each under a name of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import tifffile
from pyarrow import parquet

from helpers.toy_prediction import toy_stored
from hespotex.export.geojson import write_geojson
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.pyramid import write_ome_tiff
from hespotex.export.spatialdata import write_spatialdata
from hespotex.export.tables import write_parquet
from hespotex.genes.gene_sets import SetScores
from hespotex.plots.gene_pictures import write_gene_pictures

ODD = ["spot", "X_um", "A/B", "A_B", "L" * 300, "$x^{<&>"]


@pytest.fixture
def stored(tmp_path: Path) -> StoredPrediction:
    made = toy_stored(tmp_path)
    scores = SetScores(
        ("a/b", "a_b"),
        ("A", "A"),
        np.array([3, 3]),
        np.array([3, 3]),
        np.zeros((len(made.barcodes), 2), np.float32),
    )
    extras = replace(made.extras, gene_sets=scores)
    return replace(made, genes=np.array(ODD), extras=extras)


def test_parquet_tells_a_gene_from_a_column_of_its_name(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "p.parquet", stored, genes=ODD)
    frame = parquet.read_table(tmp_path / "p.parquet").to_pandas()
    assert frame["spot"].tolist() == stored.barcodes.tolist()
    np.testing.assert_array_equal(frame["gene spot"], stored.composition[:, 0])
    np.testing.assert_array_equal(frame["gene X_um"], stored.composition[:, 1])
    np.testing.assert_array_equal(frame["A/B"], stored.composition[:, 2])
    assert {"gene set a/b", "gene set a_b"} <= set(frame)


def test_every_gene_is_a_measurement_and_a_channel_of_its_own(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    write_geojson(tmp_path / "p.geojson", stored, genes=ODD)
    first = json.loads((tmp_path / "p.geojson").read_text())["features"][0]
    named = [k for k in first["properties"]["measurements"] if " composition" in k]
    assert len(named) == len(ODD)
    write_ome_tiff(tmp_path / "p.ome.tif", stored, genes=ODD)
    with tifffile.TiffFile(tmp_path / "p.ome.tif") as file:
        channels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
    assert [c["Name"].partition(",")[0] for c in channels] == ODD


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries' own imports
def test_a_store_keeps_the_name_as_given_beside_a_legal_one(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    import spatialdata

    write_spatialdata(tmp_path / "p.zarr", stored, genes=ODD)
    table = spatialdata.read_zarr(tmp_path / "p.zarr").tables["hespotex_spots"]
    assert table.var["gene"].tolist() == ODD
    assert table.var_names.is_unique
    assert table.uns["hespotex"]["gene_sets"].index.tolist() == ["a/b", "a_b"]


@pytest.mark.slow
def test_pictures_have_names_of_their_own_that_keep_what_is_claimed(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    write_gene_pictures(tmp_path / "pictures", stored, genes=ODD[2:5])
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert len({name.casefold() for name in names}) == 3
    assert any(name.startswith("LLL") and name.endswith("_not_shown.png") for name in names)


def test_an_h5ad_has_them_as_they_are(stored: StoredPrediction, tmp_path: Path) -> None:
    table = ad.read_h5ad(tmp_path / "S1.h5ad")
    table.var_names = ODD
    table.write_h5ad(tmp_path / "odd.h5ad")
    assert ad.read_h5ad(tmp_path / "odd.h5ad").var_names.tolist() == ODD
