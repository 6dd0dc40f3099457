"""Contracts of slides and features in Zarr: what other libraries write is read at its own place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from hespotex.errors import ManifestError, SlideError
from hespotex.features.foreign_h5 import read_features_file
from hespotex.inspection import inspect_input
from hespotex.inspection.inputs import resolve_input
from hespotex.predicting import SlideOptions
from hespotex.predicting.plan import plan_input
from hespotex.sections.manifest import read_manifest
from hespotex.slide import open_slide, slide_key

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # spatialdata and its libraries warn of each other

IMAGE = np.random.default_rng(3).integers(0, 255, (300, 400, 3), dtype=np.uint8)


def half(image: np.ndarray) -> np.ndarray:
    return image.reshape(150, 2, 200, 2, 3).mean(axis=(1, 3)).astype(np.uint8)


def ome_zarr(
    path: Path,
    *,
    version: str = "0.5",
    unit: str | None = "micrometer",
    mpp: float = 0.5,
    zoomed: float = 1.0,
) -> Path:
    """By hand: two levels, channel first, one z plane; attributes as the specification has them."""
    v3 = version == "0.5"
    group = zarr.open_group(path, mode="w", zarr_format=3 if v3 else 2)
    datasets = []
    for level, image in enumerate((IMAGE, half(IMAGE))):
        values = image.transpose(2, 0, 1)[:, None]
        array = group.create_array(
            str(level), shape=values.shape, chunks=(3, 1, 64, 64), dtype="u1"
        )
        array[:] = values
        scale = [1.0, 1.0, mpp * 2**level / zoomed, mpp * 2**level / zoomed]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
    for name in "zyx":
        axes.append({"name": name, "type": "space"} | ({"unit": unit} if unit else {}))
    image_attributes: dict[str, Any] = {"axes": axes, "datasets": datasets}
    if zoomed != 1:
        image_attributes["coordinateTransformations"] = [
            {"type": "scale", "scale": [1.0, 1.0, zoomed, zoomed]}
        ]
    multiscales = {"version": version, "multiscales": [image_attributes]}
    group.attrs.update({"ome": multiscales} if v3 else multiscales)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_gives_its_own_pixels_and_scale(tmp_path: Path, version: str) -> None:
    with open_slide(ome_zarr(tmp_path / "s.zarr", version=version)) as slide:
        assert (slide.width_px0, slide.height_px0, slide.reader) == (400, 300, "zarr")
        assert slide.level_downsamples == (1.0, 2.0)
        assert slide.mpp == 0.5
        np.testing.assert_array_equal(slide.read_region(0, 0, 400, 300, 400, 300), IMAGE)
        np.testing.assert_array_equal(slide.read_region(70, 30, 5, 9, 5, 9), IMAGE[30:39, 70:75])
        np.testing.assert_array_equal(slide.read_region(0, 0, 400, 300, 200, 150), half(IMAGE))


@pytest.mark.parametrize(
    ("unit", "mpp", "found"),
    [("nanometer", 250.0, 0.25), ("millimeter", 5e-4, 0.5), (None, 0.5, None)],
)
def test_a_scale_needs_a_unit_of_length(
    tmp_path: Path, unit: str | None, mpp: float, found: float | None
) -> None:
    with open_slide(ome_zarr(tmp_path / "s.zarr", unit=unit, mpp=mpp)) as slide:
        assert slide.mpp == pytest.approx(found)


def test_the_scale_of_the_whole_pyramid_counts_too(tmp_path: Path) -> None:
    with open_slide(ome_zarr(tmp_path / "s.zarr", zoomed=4.0)) as slide:
        assert slide.mpp == pytest.approx(0.5)


def test_a_zipped_store_is_read_as_it_is(tmp_path: Path) -> None:
    folder = ome_zarr(tmp_path / "s.zarr")
    packed = shutil.make_archive(str(tmp_path / "z.zarr"), "zip", folder)
    with open_slide(packed) as slide:
        np.testing.assert_array_equal(slide.read_region(9, 8, 50, 40, 50, 40), IMAGE[8:48, 9:59])


def test_ome_zarr_of_its_own_library_is_read(tmp_path: Path) -> None:
    from ome_zarr.writer import write_image

    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2)
    write_image(IMAGE.transpose(2, 0, 1), group, axes="cyx", scaler=None)
    with open_slide(tmp_path / "s.zarr") as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 400, 300, 400, 300), IMAGE)


def test_the_key_follows_the_content_not_the_name(tmp_path: Path) -> None:
    one = ome_zarr(tmp_path / "one.zarr")
    two = shutil.copytree(one, tmp_path / "two.zarr")
    assert slide_key(one) == slide_key(two)
    zarr.open_group(two, mode="r+")["0"][0, 0, 5, 5] ^= 1  # type: ignore[index]
    assert slide_key(one) != slide_key(two)


def _attributes(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        group = zarr.open_group(path, mode="r+")
        values = dict(group.attrs)
        change(values["ome"]["multiscales"][0])
        group.attrs.put(values)

    return apply


def _replace(shape: tuple[int, ...], dtype: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        group = zarr.open_group(path, mode="r+")
        del group["0"]
        group.create_array("0", shape=shape, chunks=shape, dtype=dtype)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda p: zarr.open_group(p, mode="r+").attrs.clear(),
            r"multiscales.*found 0, 1; give the",
        ),
        (lambda p: (p / "zarr.json").write_text("{"), r"found one that cannot be read"),
        (lambda p: shutil.rmtree(p / "0"), r"found one that cannot be read \(KeyError"),
        (_replace((7, 1, 300, 400), "u1"), r"1, 3 or 4 channels .*found 7 .*fluorescence"),
        (_replace((3, 5, 300, 400), "u1"), r"one flat colour image, found axes"),
        (_replace((3, 1, 300, 400), "f4"), r"8 or 16 bit, found float32"),
    ],
)
def test_what_is_no_slide_is_named(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    path = ome_zarr(tmp_path / "s.zarr")
    damage(path)
    with pytest.raises(SlideError, match=message):
        open_slide(path)


def test_damaged_pixels_are_an_error_where_they_are_read(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "s.zarr")
    (path / "0" / "c" / "0" / "0" / "0" / "0").write_bytes(b"broken")
    with (
        open_slide(path) as slide,
        pytest.raises(SlideError, match=r"pixels at x 0, y 0 of level 0"),
    ):
        slide.read_region(0, 0, 40, 40, 40, 40)


# ------------------------------------------------------------------------ SpatialData, LazySlide


def spatialdata_store(path: Path, images: dict[str, np.ndarray]) -> Path:
    """Written by the library: shapes in microns, images of half a micron per pixel, a table of counts."""
    import anndata as ad
    import geopandas
    import spatialdata as sd
    from shapely import Point
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    grid = np.array([[x, y] for x in range(20, 200, 40) for y in range(20, 150, 40)], dtype=float)
    names = [f"b{i}" for i in range(len(grid))]
    circles = geopandas.GeoDataFrame(
        {"radius": 10.0, "geometry": [Point(*p) for p in grid]}, index=names
    )
    table = ad.AnnData(
        np.random.default_rng(0).poisson(3, (len(grid), 5)).astype(np.float32),
        obs=pd.DataFrame(
            {"region": pd.Categorical(["spots"] * len(grid)), "id": names}, index=names
        ),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(5)]),
    )
    parsed = {
        name: Image2DModel.parse(
            image.transpose(2, 0, 1),
            dims=("c", "y", "x"),
            scale_factors=[2],
            transformations={"um": Scale([200 / image.shape[1]] * 2, axes=("x", "y"))},
        )
        for name, image in images.items()
    }
    sd.SpatialData(
        images=parsed,
        shapes={"spots": ShapesModel.parse(circles, transformations={"um": Identity()})},
        tables={
            "t": TableModel.parse(table, region="spots", region_key="region", instance_key="id")
        },
    ).write(path)
    return path


@pytest.mark.slow
def test_an_image_of_a_store_is_the_slide_of_its_spots(tmp_path: Path) -> None:
    store = spatialdata_store(tmp_path / "s.zarr", {"full": IMAGE, "small": half(IMAGE)})
    manifest = tmp_path / "m.csv"
    header = "section_id,patient_id,slide,expression,format,image_element,spot_pitch_um\n"
    manifest.write_text(f"{header}A,P,s.zarr,s.zarr,spatialdata,full,40\n")
    (row,) = read_manifest(manifest).rows
    assert row.slide == store / "images" / "full"
    from hespotex.sections.section import read_section

    section = read_section(row)
    assert section.geometry.mpp == pytest.approx(0.5)
    assert section.xy_px0[0].tolist() == [40.0, 40.0]
    assert row.slide is not None
    with open_slide(row.slide) as slide:
        np.testing.assert_array_equal(
            slide.read_region(30, 20, 40, 30, 40, 30), IMAGE[20:50, 30:70]
        )
    manifest.write_text(f"{header}A,P,s.zarr,s.zarr,spatialdata,,40\n")
    with pytest.raises(
        ManifestError, match=r"column slide: expected one image .*found full, small"
    ):
        read_manifest(manifest)
    manifest.write_text(f"{header}A,P,s.zarr,s.zarr,spatialdata,none,40\n")
    with pytest.raises(ManifestError, match=r"the image none in .*found full, small"):
        read_manifest(manifest)


def listed(folder: Path) -> list[str]:
    """Slides that `predict` and `inspect` find in a folder: the same."""
    tasks = plan_input(folder, SlideOptions()).tasks
    assert [row.slide for row in resolve_input(folder).rows] == [task.slide for task in tasks]
    return [task.slide.name for task in tasks]


@pytest.mark.slow
def test_of_the_stores_in_a_folder_those_with_an_image_are_slides(tmp_path: Path) -> None:
    import spatialdata as sd

    ome_zarr(tmp_path / "new.zarr")
    ome_zarr(tmp_path / "old.zarr", version="0.4")
    shutil.make_archive(str(tmp_path / "packed.zarr"), "zip", tmp_path / "new.zarr")
    raw = zarr.open_group(tmp_path / "raw.zarr", mode="w", zarr_format=2)
    raw.attrs["bioformats2raw.layout"] = 3
    shutil.copytree(tmp_path / "old.zarr", tmp_path / "raw.zarr" / "0")
    spatialdata_store(tmp_path / "store.zarr", {"full": IMAGE})
    (tmp_path / "damaged.zarr").mkdir()
    (tmp_path / "damaged.zarr" / "zarr.json").write_text("{")
    whole = sd.read_zarr(tmp_path / "store.zarr")
    sd.SpatialData(shapes={"tissues": whole.shapes["spots"]}).write(tmp_path / "shapes.zarr")
    zarr.open_group(tmp_path / "empty.zarr", mode="w", zarr_format=2)
    assert listed(tmp_path) == [
        "damaged.zarr", "new.zarr", "old.zarr", "packed.zarr.zip", "raw.zarr", "store.zarr",
    ]  # fmt: skip


@pytest.mark.slow
def test_folder_that_lazyslide_worked_in_has_its_slides_alone(
    shared_data: Path, tmp_path: Path
) -> None:
    import lazyslide
    import wsidata

    shutil.copy(shared_data / "wsi" / "CMU-1-Small-Region.svs", tmp_path / "a.svs")
    wsi = wsidata.open_wsi(str(tmp_path / "a.svs"))
    lazyslide.pp.find_tissues(wsi)
    wsi.write()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.svs", "a.zarr"]
    assert listed(tmp_path) == ["a.svs"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_folder_without_permission_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o000)
    for read in (resolve_input, lambda path: plan_input(path, SlideOptions())):
        with pytest.raises(SlideError, match=r"readable folder, found: Permission denied .*locked"):
            read(folder)


@pytest.mark.slow
def test_a_bare_store_is_inspected_on_its_largest_image(tmp_path: Path) -> None:
    store = spatialdata_store(tmp_path / "s.zarr", {"full": IMAGE, "small": half(IMAGE)})
    inspection = inspect_input(store)
    assert inspection.kind == "spots"
    (item,) = inspection.items
    assert item.facts["slide"]["width_px0"] == 400
    assert any("took the image full of the store as slide" in f.found for f in inspection.together)


def test_a_bare_image_is_a_slide_for_inspect_and_predict(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "s.zarr")
    assert inspect_input(path).kind == "slide"
    assert inspect_input(tmp_path).kind == "folder of slides"
    tasks = plan_input(path, SlideOptions()).tasks
    assert [t.section_id for t in tasks] == ["s"]
    assert plan_input(tmp_path, SlideOptions()).tasks


def tiles(names: tuple[str, ...], path: Path) -> Path:
    """A store as wsidata writes it: shapes `tiles` in level-0 pixels, a table `{model}_tiles` each."""
    import anndata as ad
    import geopandas
    import spatialdata as sd
    from shapely import box
    from spatialdata.models import ShapesModel, TableModel

    corners = [(x, y) for y in range(0, 300, 100) for x in range(0, 400, 100)]
    shapes = geopandas.GeoDataFrame(
        {
            "tile_id": range(len(corners)),
            "geometry": [box(x, y, x + 100, y + 100) for x, y in corners],
        }
    )
    tables = {}
    for name in names:
        order = np.random.default_rng(1).permutation(len(corners))
        table = ad.AnnData(
            np.array([[*corners[i], i] for i in order], dtype=np.float32),
            obs=pd.DataFrame(
                {"tile_id": order, "library_id": pd.Categorical(["tiles"] * len(order))},
                index=[str(i) for i in order],
            ),
        )
        tables[name] = TableModel.parse(
            table, region="tiles", region_key="library_id", instance_key="tile_id"
        )
    sd.SpatialData(shapes={"tiles": ShapesModel.parse(shapes)}, tables=tables).write(path)
    return path


def test_features_of_a_lazyslide_store_are_those_of_the_tile_around_a_spot(tmp_path: Path) -> None:
    store = tiles(("uni_tiles",), tmp_path / "s.zarr")
    xy = np.array([[150.0, 250.0], [49.0, 51.0]])
    values, side, key = read_features_file(store, xy)
    assert values.tolist() == [[100.0, 200.0, 9.0], [0.0, 0.0, 0.0]]
    assert side == 100.0
    assert key == read_features_file(store / "tables" / "uni_tiles", xy)[2]


@pytest.mark.slow
def test_one_of_several_tables_is_chosen_by_its_path(tmp_path: Path) -> None:
    store = tiles(("uni_tiles", "conch_tiles"), tmp_path / "s.zarr")
    xy = np.array([[150.0, 250.0]])
    with pytest.raises(SlideError, match=r"one table .*conch_tiles.*give s\.zarr/tables/NAME"):
        read_features_file(store, xy)
    assert read_features_file(store / "tables" / "uni_tiles", xy)[0].tolist() == [[100, 200, 9]]
    manifest = tmp_path / "m.csv"
    manifest.write_text("section_id,patient_id,slide,features\nA,P,,s.zarr/tables/uni_tiles\n")
    assert read_manifest(manifest).rows[0].features == store / "tables" / "uni_tiles"


@pytest.mark.slow
def test_a_store_that_wsidata_wrote_is_read(tmp_path: Path, shared_data: Path) -> None:
    import lazyslide as zs
    from wsidata import open_wsi

    wsi = open_wsi(
        str(shared_data / "wsi" / "CMU-1-Small-Region.svs"), store=str(tmp_path / "s.zarr")
    )
    zs.pp.find_tissues(wsi)
    zs.pp.tile_tissues(wsi, 256, mpp=0.5)
    from wsidata.io import add_features

    frame = wsi.shapes["tiles"]
    bounds = frame.geometry.bounds.to_numpy()
    add_features(wsi, "model_tiles", "tiles", bounds[:, :2].astype(np.float32))
    wsi.write()
    xy = (bounds[:, :2] + bounds[:, 2:]) / 2
    values, side, _ = read_features_file(tmp_path / "s.zarr", xy)
    np.testing.assert_array_equal(values, bounds[:, :2].astype(np.float32))
    assert side == pytest.approx(bounds[0, 2] - bounds[0, 0])
