"""A bare slide on a fine lattice: composition alone, in half precision, of few genes, shown as an image."""

from __future__ import annotations

import shutil
import warnings
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import tifffile

from helpers.heard import Heard
from helpers.toy_report import data_of, page_of
from helpers.toy_slide import MPP, graded, toy_bundle, toy_predictor, toy_trust
from hespotex import PredictionFile, keys
from hespotex.errors import ConfigError, HESpotExError, RunError
from hespotex.export import geojson, tables
from hespotex.export.h5ad import read_prediction
from hespotex.genes.gene_sets import GeneSet
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide
from hespotex.storage.run_folder import RunDir

PITCH_UM = 16.0
GRADES = {"G03": "A", "G07": "B", "G11": "C", "G20": "D"}
SETS = (GeneSet("first", ("G00", "G01", "G02", "G03", "G04")),)


@pytest.fixture(scope="module")
def fine() -> Predictor:
    """A model with grades and a gene set whose check takes the painted slide for a usual one."""
    bundle = replace(graded(toy_bundle(), GRADES), gene_sets=SETS)
    return toy_predictor(bundle, replace(toy_trust(), ood=None))


def task(slide: Path, **options: object) -> SlideTask:
    return SlideTask("s", slide, SlideOptions(mpp=MPP, pitch_um=PITCH_UM, **options))


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from helpers.toy_slide import paint_tissue, write_slide

    image = paint_tissue(260, 220, centre=(130, 110), radius=90)
    return write_slide(tmp_path_factory.mktemp("fine") / "small.tif", image)


@pytest.fixture(scope="module")
def predicted(
    fine: Predictor, slide_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("fine-out")
    formats = ("ome-tiff", "parquet", "spatialdata", "geojson")
    return dict(predict_slide(fine, task(slide_file, formats=formats), out).paths)


@pytest.fixture(scope="module")
def everything(
    fine: Predictor, slide_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> anndata.AnnData:
    """The same spots with all layers and all genes in full precision."""
    out = tmp_path_factory.mktemp("fine-all")
    options = task(slide_file, layers="all", all_genes=True)
    return anndata.read_h5ad(predict_slide(fine, options, out).paths["prediction"])


def test_a_fine_map_holds_composition_of_the_graded_genes_in_half_precision(
    predicted: dict[str, Path], everything: anndata.AnnData
) -> None:
    table = anndata.read_h5ad(predicted["prediction"])
    assert table.var_names.tolist() == ["G03", "G07", "G11"]
    assert list(table.layers) == [keys.COMPOSITION]
    composition = table.layers[keys.COMPOSITION]
    assert composition.dtype == np.float16
    np.testing.assert_array_equal(table.X, composition)
    units = table.uns[keys.UNS]["units"]
    assert (
        table.uns[keys.UNS]["spot_diameter_um"] == PITCH_UM
    )  # spots of 55 um would lie on each other
    assert units["X"] == units[keys.COMPOSITION] == keys.UNIT_COMPOSITION
    exact = everything[:, table.var_names].layers[keys.COMPOSITION]
    assert exact.dtype == np.float32
    assert np.ptp(exact) > 0.01
    np.testing.assert_allclose(composition, exact, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        table.obs[keys.PREDICTED_DEPTH], everything.obs[keys.PREDICTED_DEPTH], rtol=1e-5
    )
    np.testing.assert_allclose(
        table.obsm[keys.GENE_SETS], everything.obsm[keys.GENE_SETS], rtol=1e-3, atol=1e-5
    )
    with h5py.File(predicted["prediction"]) as file:
        assert file["X"].id.get_offset() == file["layers/composition"].id.get_offset()


def test_readers_know_the_unit_of_a_fine_map(
    predicted: dict[str, Path], everything: anndata.AnnData
) -> None:
    whole = read_prediction(predicted["prediction"])
    assert whole.log1p is None
    assert whole.composition.dtype == np.float32
    file = PredictionFile(predicted["prediction"])
    some = file.read(["G11", "G03"])
    assert some.log1p is None
    exact = everything[:, ["G11", "G03"]].layers[keys.COMPOSITION]
    np.testing.assert_allclose(some.composition, exact, rtol=1e-3, atol=1e-5)
    rows = np.concatenate([values for _, values in file.rows()])
    np.testing.assert_array_equal(rows, whole.composition)
    assert file.claims.grade.tolist() == ["A", "B", "C"]


def test_a_square_lattice_is_an_image_of_one_pixel_a_spot(predicted: dict[str, Path]) -> None:
    table = anndata.read_h5ad(predicted["prediction"])
    column, row = (table.obs[name].to_numpy() for name in (keys.ARRAY_COL, keys.ARRAY_ROW))
    with tifffile.TiffFile(predicted["ome-tiff"]) as file:
        image, levels = file.asarray(), file.series[0].levels
        assert 'PhysicalSizeX="16.0"' in file.ome_metadata
        assert len(levels) == 1
    assert image.shape == (3, -(-220 // 8), -(-260 // 8))
    np.testing.assert_array_equal(image[:, row, column].T, table.X.astype(np.float32))
    assert np.isfinite(image).sum() == table.X.size


def test_other_formats_hold_the_same_values(predicted: dict[str, Path]) -> None:
    import pandas as pd
    import spatialdata

    table = anndata.read_h5ad(predicted["prediction"])
    frame = pd.read_parquet(predicted["parquet"])
    np.testing.assert_array_equal(frame["G07"], table[:, "G07"].X[:, 0].astype(np.float32))
    store = spatialdata.read_zarr(predicted["spatialdata"])
    kept = store.tables["hespotex_spots"]
    assert list(kept.layers) == []
    assert kept.uns[keys.UNS]["units"]["X"] == keys.UNIT_COMPOSITION
    np.testing.assert_array_equal(np.asarray(kept[:, "G07"].X), table[:, "G07"].X)
    assert len(store.shapes["spots"]) == table.n_obs


def test_most_genes_keeps_the_best_graded(
    fine: Predictor, slide_file: Path, tmp_path: Path
) -> None:
    heard = Heard()
    found = predict_slide(fine, task(slide_file, most_genes=2), tmp_path, reporter=heard)
    assert anndata.read_h5ad(found.paths["prediction"]).var_names.tolist() == ["G03", "G07"]
    assert any(
        "Of 3 genes the 2 best graded are written; --most-genes" in said for said in heard.said
    )


def test_a_slide_unlike_the_training_keeps_no_gene(
    fine: Predictor, slide_file: Path, tmp_path: Path
) -> None:
    strict = replace(fine, trust=toy_trust())
    found = predict_slide(strict, task(slide_file), tmp_path)
    assert found.verdict.startswith("unlike")
    table = anndata.read_h5ad(found.paths["prediction"])
    assert table.n_vars == 0
    assert table.obs[keys.OOD].all()


def test_size_and_extrapolation_are_said_before_the_work_and_noted(
    fine: Predictor, slide_file: Path, tmp_path: Path
) -> None:
    heard = Heard()
    found = predict_slide(fine, task(slide_file), tmp_path, reporter=heard)
    assert any(
        f"{found.n_spots:,} spots, composition of 3 genes in half precision: the h5ad takes" in s
        for s in heard.said
    )
    (wide,) = (record for record in heard.said if "the h5ad takes" in record)
    assert "MB, work files" in wide
    sentence = "a map every 16 um of a model of 55 um spots extrapolates"
    assert any(sentence in said for said in heard.said)
    record = anndata.read_h5ad(found.paths["prediction"]).uns[keys.UNS]
    assert any(sentence in note for note in record["notes"])


def test_a_disk_without_room_is_refused_before_the_first_spot(
    fine: Predictor, slide_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    free = [1000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 0, free[0]))
    with pytest.raises(RunError, match=r"expected .* kB free on the disk of .*--most-genes"):
        predict_slide(fine, task(slide_file), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
    free[0] = 10**9
    assert predict_slide(fine, task(slide_file), tmp_path).status == "done"


def test_what_composition_alone_lacks_is_refused_in_one_line(
    fine: Predictor, slide_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(HESpotExError, match=r"--show composition where .* add --layers all"):
        predict_slide(fine, task(slide_file, show="log1p"), tmp_path)
    assert predict_slide(fine, task(slide_file, show="log1p", layers="all"), tmp_path / "all")
    for wrong in ({"layers": "some"}, {"most_genes": 0}):
        with pytest.raises(ConfigError, match="expected --"):
            SlideOptions(**wrong)


def test_a_coarse_lattice_stays_as_it_was_and_may_be_asked_to_be_compact(
    fine: Predictor, slide_file: Path, tmp_path: Path
) -> None:
    usual = replace(task(slide_file), options=SlideOptions(mpp=MPP))
    table = anndata.read_h5ad(predict_slide(fine, usual, tmp_path / "a").paths["prediction"])
    assert keys.LOWER in table.layers
    assert (table.obs[keys.ARRAY_COL] % 2 == table.obs[keys.ARRAY_ROW] % 2).all()  # hexagonal
    asked = replace(usual, options=SlideOptions(mpp=MPP, layers="composition"))
    small = anndata.read_h5ad(predict_slide(fine, asked, tmp_path / "b").paths["prediction"])
    assert small.layers[keys.COMPOSITION].dtype == np.float16


@pytest.mark.slow
def test_scanpy_and_squidpy_draw_a_fine_map(predicted: dict[str, Path]) -> None:
    table = anndata.read_h5ad(predicted["prediction"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of these tools' own imports
        import matplotlib as mpl
        import scanpy
        import squidpy

        mpl.use("agg")
        axes = scanpy.pl.spatial(table, color=["G03", keys.PREDICTED_DEPTH], show=False)
        scanpy.pl.spatial(table, color="G03", layer=keys.COMPOSITION, show=False)
        squidpy.pl.spatial_scatter(table, color="G03", layer=keys.COMPOSITION)
    drawn = np.asarray(axes[0].collections[0].get_array(), np.float32)
    np.testing.assert_array_equal(np.sort(drawn), np.sort(table[:, "G03"].X[:, 0]))


def test_log1p_of_a_finished_fine_map_is_refused_and_its_files_stay(
    fine: Predictor, slide_file: Path, tmp_path: Path
) -> None:
    predict_slide(fine, task(slide_file), tmp_path)
    overview = tmp_path / "figures" / "s_overview.png"
    before = overview.read_bytes()
    with pytest.raises(HESpotExError, match=r"log1p.* found composition alone.* --layers all"):
        predict_slide(fine, task(slide_file, show="log1p"), tmp_path)
    assert overview.read_bytes() == before


def test_tables_in_row_groups_equal_one_table(
    predicted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd
    from pyarrow import parquet

    stored = read_prediction(predicted["prediction"])
    tables.write_parquet(tmp_path / "one.parquet", stored)
    geojson.write_geojson(tmp_path / "one.geojson", stored)
    for module in (tables, geojson):
        monkeypatch.setattr(module, "ROW_GROUP", 100)
    tables.write_parquet(tmp_path / "many.parquet", stored)
    geojson.write_geojson(tmp_path / "many.geojson", stored)
    n = len(stored.barcodes)
    assert parquet.ParquetFile(tmp_path / "many.parquet").num_row_groups == -(-n // 100) > 1
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "many.parquet"), pd.read_parquet(tmp_path / "one.parquet")
    )
    assert (tmp_path / "many.geojson").read_bytes() == (tmp_path / "one.geojson").read_bytes()


def test_the_report_of_a_fine_map_draws_composition_as_squares(
    predicted: dict[str, Path], tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    run.predictions.mkdir(parents=True)
    shutil.copy(predicted["prediction"], run.predictions / "s.h5ad")
    run.finish({"verb": "predict"}, {})
    page = data_of(page_of(run))
    (section,) = page["sections"]
    assert section["kinds"] == ["predicted_composition"]
    assert list(section["limits"]) == ["composition"]
    assert section["cell"] == pytest.approx(PITCH_UM / section["side_um"])
    assert len(section["genes"]) == 3
    (scale, *_) = section["scales"]
    assert scale.startswith("a value every 16 um; graded at 55 um; inside squares of 55 um")
