"""Contracts of the SpatialData reader; spatialdata writes the stores."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.made_sections import KNOWN, spatialdata
from hespotex.errors import SpotTableError
from hespotex.spots.base import SpotSource
from hespotex.spots.spatialdata import read

pytestmark = pytest.mark.filterwarnings("ignore")  # its libraries warn of each other


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = spatialdata(tmp_path_factory.mktemp("stores"), KNOWN)
    assert source.expression is not None
    return source.expression


@pytest.fixture
def store(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "store.zarr")
    return tmp_path / "store.zarr"


def change(path: Path, edit: Any) -> SpotSource:
    import spatialdata as sd

    data = sd.read_zarr(path)
    edit(data)
    other = path.with_name("changed.zarr")
    data.write(other)
    return SpotSource(expression=other)


def test_transformations_bring_the_spots_into_pixels(store: Path) -> None:
    table = read(SpotSource(expression=store))
    order = np.argsort(table.barcodes)
    np.testing.assert_allclose(table.xy_px0[order], KNOWN.xy_px0)
    assert table.hints.spot_diameter_px0 == pytest.approx(55 / KNOWN.mpp)
    assert table.obs is not None
    assert set(table.obs) == {"array_col", "array_row"}
    np.testing.assert_array_equal(table.array_xy, table.obs[["array_col", "array_row"]])


def test_elements_are_chosen_by_name(store: Path) -> None:
    source = SpotSource(expression=store, image_element="he", table_element="table")
    assert read(source).n_spots == 30
    with pytest.raises(SpotTableError, match=r"the table other in .*found table"):
        read(replace(source, table_element="other"))
    with pytest.raises(SpotTableError, match=r"the image other in .*found he"):
        read(replace(source, image_element="other"))


@pytest.mark.slow
def test_spots_outside_the_tissue_are_left_out_and_counted(store: Path) -> None:
    def mark(data: Any) -> None:
        obs = data.tables["table"].obs
        obs["in_tissue"] = np.where(np.arange(len(obs)) < 4, 0, 1)

    whole, table = read(SpotSource(expression=store)), read(change(store, mark))
    assert table.barcodes.tolist() == whole.barcodes[4:].tolist()
    np.testing.assert_array_equal(table.xy_px0, whole.xy_px0[4:])
    assert whole.counts is not None
    assert table.counts is not None
    np.testing.assert_array_equal(table.counts.toarray(), whole.counts.toarray()[4:])
    assert dict(table.dropped) == {"spots outside the tissue (in_tissue = 0)": 4}


@pytest.mark.slow
def test_several_images_are_not_guessed(store: Path) -> None:
    def add(data: Any) -> None:
        data.images["second"] = data.images["he"]

    source = change(store, add)
    with pytest.raises(SpotTableError, match=r"one image in .*he, second; .*column image_element"):
        read(source)
    assert read(replace(source, image_element="second")).n_spots == 30


@pytest.mark.slow
def test_without_an_image_the_global_system_counts(store: Path) -> None:
    from spatialdata.transformations import Scale, set_transformation

    def to_global(data: Any) -> None:
        del data.images["he"]
        scale = Scale([2.0, 2.0], axes=("x", "y"))
        set_transformation(data.shapes["spots"], {"global": scale}, set_all=True)

    table = read(change(store, to_global))
    np.testing.assert_allclose(table.xy_px0[np.argsort(table.barcodes)], KNOWN.xy_px0)


@pytest.mark.slow
def test_without_a_common_system_it_is_refused(store: Path) -> None:
    from spatialdata.transformations import Identity, set_transformation

    def part(data: Any) -> None:
        set_transformation(data.images["he"], {"elsewhere": Identity()}, set_all=True)

    with pytest.raises(SpotTableError, match=r"shapes and image of .*in one coordinate system"):
        read(change(store, part))

    def alone(data: Any) -> None:
        del data.images["he"]

    shutil.rmtree(store.with_name("changed.zarr"))
    with pytest.raises(SpotTableError, match=r"the coordinate system global in .*found um"):
        read(change(store, alone))


@pytest.mark.slow
def test_counts_that_are_not_raw_are_named(store: Path) -> None:
    def log(data: Any) -> None:
        data.tables["table"].X = np.log1p(data.tables["table"].X.toarray())

    with pytest.raises(SpotTableError, match=r"table table of .*X has already logged"):
        read(change(store, log))


def test_a_layer_of_counts_comes_first(store: Path) -> None:
    def log(data: Any) -> None:
        table = data.tables["table"]
        table.layers["counts"] = table.X.copy()
        table.X = np.log1p(table.X.toarray())

    table = read(change(store, log))
    assert table.counts is not None
    order = np.argsort(table.barcodes)
    np.testing.assert_array_equal(table.counts.toarray()[order], KNOWN.counts)


def test_spots_without_shapes_are_counted(store: Path) -> None:
    def fewer(data: Any) -> None:
        data.shapes["spots"] = data.shapes["spots"].iloc[2:]

    table = read(change(store, fewer))
    assert table.n_spots == 28
    assert table.dropped == {"counts without a shape": 2}


def test_a_damaged_store_is_named(store: Path, tmp_path: Path) -> None:
    (store / "shapes" / "spots" / "shapes.parquet").write_bytes(b"cut")
    with pytest.raises(SpotTableError, match=r"a whole SpatialData store at .*again"):
        read(SpotSource(expression=store))
    file = tmp_path / "file.zarr"
    file.write_text("x")
    with pytest.raises(SpotTableError, match="found a file"):
        read(SpotSource(expression=file))
