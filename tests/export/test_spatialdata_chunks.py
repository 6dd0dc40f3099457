"""A fine map's SpatialData store is written piece by piece, is that of one piece, and is read by spatialdata and squidpy."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from hespotex.errors import RunError
from hespotex.export import spatialdata_chunks
from hespotex.export.h5ad import StoredPrediction, Thumbnail
from hespotex.export.spatialdata import build_spatialdata, write_spatialdata

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries' own dependencies


def fine_map(side: int = 20, n_genes: int = 20) -> StoredPrediction:
    """A square lattice of places 16 um apart, float16 composition with a hole."""
    row, column = np.divmod(np.arange(side**2), side)
    values = np.random.default_rng(0).normal(size=(side**2, n_genes)).astype(np.float16)
    values[7] = np.nan
    return StoredPrediction(
        section_id="S", patient_id="P", genes=np.array([f"G/{j}" for j in range(n_genes)]),
        barcodes=np.array([f"{x}x{y}" for x, y in zip(column, row, strict=True)]),
        xy_px0=(np.column_stack([column, row]) + 0.5) * 32.0, mpp=0.5, spot_diameter_um=16.0,
        log1p=None, composition=values, depth=np.arange(side**2, dtype=np.float32),
        measured=None, measured_counts=None, measured_depth=None,
        thumbnail=Thumbnail(np.zeros((20, 20, 3), np.uint8), 32.0),
        record={"spot_pitch_um": 16.0},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spatialdata_chunks, "ROW_GROUP", 150)


@pytest.mark.slow
def test_a_store_in_pieces_is_the_store_of_one_piece_in_half_precision(tmp_path: Path) -> None:
    import pandas as pd
    import spatialdata
    import zarr
    from geopandas.testing import assert_geodataframe_equal
    from pyarrow import parquet

    section, genes = fine_map(), ["G/3", "G/19", "G/0"]
    write_spatialdata(tmp_path / "S.zarr", section, genes=genes)
    found = spatialdata.read_zarr(tmp_path / "S.zarr")
    whole = build_spatialdata(section, genes)
    assert_geodataframe_equal(found.shapes["spots"], whole.shapes["spots"])
    np.testing.assert_array_equal(found.shapes["spots"].total_bounds, [0, 0, 640, 640])
    table, expected = found.tables["hespotex_spots"], whole.tables["hespotex_spots"]
    assert table.X.dtype == np.float16
    np.testing.assert_array_equal(table.X, section.composition[:, [3, 19, 0]])
    pd.testing.assert_frame_equal(table.obs, expected.obs)
    pd.testing.assert_frame_equal(table.var, expected.var)
    np.testing.assert_array_equal(table.obsm["spatial"], section.xy_px0)
    assert table.uns["hespotex"]["units"]["X"] == expected.uns["hespotex"]["units"]["X"]
    file = parquet.ParquetFile(tmp_path / "S.zarr" / "shapes" / "spots" / "shapes.parquet")
    assert file.num_row_groups == 3
    stored = zarr.open_group(tmp_path / "S.zarr", mode="r")["tables/hespotex_spots/X"]
    assert stored.chunks == (150, 3)


@pytest.mark.slow
def test_squidpy_draws_a_store_in_pieces(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib as mpl
        import spatialdata
        import squidpy

        mpl.use("agg")
    section = fine_map()
    write_spatialdata(tmp_path / "S.zarr", section)
    found = spatialdata.read_zarr(tmp_path / "S.zarr")
    table = found.tables["hespotex_spots"]
    squidpy.pl.spatial_scatter(table, color=table.var_names[3], shape=None)
    drawn = np.asarray(mpl.pyplot.gcf().axes[0].collections[0].get_array(), np.float32)
    mpl.pyplot.close("all")
    expected = section.composition[:, 3].astype(np.float32)
    np.testing.assert_array_equal(
        np.sort(drawn[np.isfinite(drawn)]), np.sort(expected[np.isfinite(expected)])
    )


def test_a_store_that_cannot_be_finished_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hespotex.export.spatialdata.fill_values", full)
    with pytest.raises(RunError, match=r"expected to write .*S\.zarr, .*(space|full)"):
        write_spatialdata(tmp_path / "S.zarr", fine_map())
    assert list(tmp_path.iterdir()) == []
