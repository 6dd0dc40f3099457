"""Contracts of the Visium HD reader; trees are made by hand, every value is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.made_sections import KNOWN, Known, positions, write_10x_h5, write_scale
from hespotex.errors import GeometryError, SpotTableError
from hespotex.geometry import decide_geometry
from hespotex.spots.base import SpotSource
from hespotex.spots.outlines import read_outlines
from hespotex.spots.visium_hd import read

BIN_PX = 16.0  # 8 um at 0.5 um per pixel


def bins(side: int = 12) -> Known:
    """Bins of 8 um on a grid that is turned by 3 degrees against the image."""
    array_xy = np.array([[x, y] for y in range(side) for x in range(side)])
    turn = np.radians(3.0)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    counts = np.random.default_rng(0).poisson(0.5, (side * side, 4))
    return replace(
        KNOWN,
        counts=counts,
        genes=list("abcd"),
        array_xy=array_xy,
        xy_px0=(array_xy + 0.5) * BIN_PX @ rotation + [200.0, 100.0],
        barcodes=[f"s_008um_{y:05d}_{x:05d}-1" for x, y in array_xy],
    )


def write(outs: Path, known: Known, folder: str = "square_008um", **scale: float) -> Path:
    place = outs / "binned_outputs" / folder
    (place / "spatial").mkdir(parents=True)
    write_10x_h5(place / "filtered_feature_bc_matrix.h5", known)
    positions(known, outside=0).to_parquet(place / "spatial" / "tissue_positions.parquet")
    stated = {"bin_size_um": 8.0, "microns_per_pixel": 0.5, "spot_diameter_fullres": BIN_PX}
    write_scale(place / "spatial" / "scalefactors_json.json", **(stated | scale))
    return place


def test_bins_are_spots_and_three_sources_agree_on_the_scale(tmp_path: Path) -> None:
    known = bins()
    write(tmp_path, known)
    table = read(SpotSource(expression=tmp_path, bin_um=8.0))
    np.testing.assert_allclose(table.xy_px0, known.xy_px0)
    assert table.counts is not None
    np.testing.assert_array_equal(table.counts.toarray(), known.counts)
    geometry = decide_geometry(table.xy_px0, table.hints)
    assert geometry.mpp == 0.5
    assert len(geometry.mpp_sources) == 3
    assert geometry.spot_diameter_um == 8.0


def test_the_built_in_check_of_the_scale(tmp_path: Path) -> None:
    write(tmp_path, bins(), microns_per_pixel=0.25)
    table = read(SpotSource(expression=tmp_path))
    with pytest.raises(GeometryError, match=r"microns_per_pixel of Visium HD: 0\.25, bin of 8 um"):
        decide_geometry(table.xy_px0, table.hints)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_whole_bins_are_summed_into_squares(tmp_path: Path, factor: int) -> None:
    known = bins()
    write(tmp_path, known)
    table = read(SpotSource(expression=tmp_path, spot_diameter_um=8.0 * factor))
    members = known.array_xy // factor
    assert table.n_spots == (12 // factor) ** 2
    assert table.array_xy is not None
    assert table.counts is not None
    for row in range(table.n_spots):
        own = (members == table.array_xy[row]).all(axis=1)
        assert own.sum() == factor**2
        np.testing.assert_array_equal(table.counts.toarray()[row], known.counts[own].sum(axis=0))
        np.testing.assert_allclose(table.xy_px0[row], known.xy_px0[own].mean(axis=0))
    geometry = decide_geometry(table.xy_px0, table.hints)
    assert geometry.spot_pitch_um == geometry.spot_diameter_um == 8.0 * factor


def test_round_spots_apart_leave_bins_out_and_count_them(tmp_path: Path) -> None:
    write(tmp_path, bins(25))
    table = read(SpotSource(expression=tmp_path, spot_diameter_um=55.0, spot_pitch_um=100.0))
    assert table.n_spots == 4
    assert table.obs is not None
    inside = table.obs["n_bins"].to_numpy()
    assert inside.sum() + table.dropped["bins between the spots"] == 625
    np.testing.assert_allclose(inside * 64, np.pi * 27.5**2, rtol=0.1)


def test_the_bin_size_is_chosen_never_guessed(tmp_path: Path) -> None:
    write(tmp_path, bins())
    write(tmp_path, bins(), "square_016um")
    with pytest.raises(SpotTableError, match=r"bin_um to be one of 8, 16 .*found none"):
        read(SpotSource(expression=tmp_path))
    with pytest.raises(SpotTableError, match=r"bin_um to be one of 8, 16 .*found 2"):
        read(SpotSource(expression=tmp_path, bin_um=2.0))
    with pytest.raises(SpotTableError, match=r"bins of 16 um in .*found bin_size_um 8"):
        read(SpotSource(expression=tmp_path, bin_um=16.0))
    own = tmp_path / "binned_outputs" / "square_008um"
    assert read(SpotSource(expression=own)).n_spots == 144


@pytest.mark.parametrize("missing", ["bin_size_um", "microns_per_pixel"])
def test_missing_scale_is_named(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path, bins()) / "spatial" / "scalefactors_json.json"
    values = json.loads(path.read_text())
    del values[missing]
    path.write_text(json.dumps(values))
    with pytest.raises(SpotTableError, match=f"expected {missing} in"):
        read(SpotSource(expression=tmp_path))
    path.unlink()
    with pytest.raises(SpotTableError, match=r"expected scalefactors_json\.json in"):
        read(SpotSource(expression=tmp_path))


def square(x: float, y: float, side: float = 10.0) -> list[list[list[float]]]:
    return [[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]]


def write_cells(outs: Path, polygons: list[object]) -> Path:
    folder = outs / "segmented_outputs"
    (folder / "spatial").mkdir(parents=True)
    known = replace(
        KNOWN,
        counts=np.array([[1, 0], [2, 0], [0, 4], [0, 8]]),
        genes=["a", "b"],
        barcodes=[f"cellid_{i:09d}-1" for i in (1, 2, 3, 9)],
    )
    write_10x_h5(folder / "filtered_feature_cell_matrix.h5", known)
    write_scale(folder / "spatial" / "scalefactors_json.json", microns_per_pixel=0.5)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": polygon},
            "properties": {"cell_id": number},
        }
        for number, polygon in zip((1, 2, 3), polygons, strict=True)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    (folder / "cell_segmentations.geojson").write_text(json.dumps(collection))
    return folder


def test_segmented_cells_are_pooled(tmp_path: Path) -> None:
    folder = write_cells(tmp_path, [square(1000, 1000), square(1020, 1000), square(3000, 1000)])
    assert read_outlines(folder / "cell_segmentations.geojson")[1] == (1005.0, 1005.0)
    table = read(SpotSource(expression=folder, spot_pitch_um=100.0))
    assert table.counts is not None
    assert sorted(table.counts.toarray().tolist()) == [[0, 4], [3, 0]]
    assert table.dropped == {"cells without an outline": 1}
    assert table.hints.mpp == {"microns_per_pixel of Visium HD": 0.5}
    two = table.xy_px0[table.counts.toarray()[:, 0] == 3][0]
    assert np.hypot(*(two - [1015, 1005])) <= 100 / 0.5 / np.sqrt(3)


def test_broken_cells_are_named(tmp_path: Path) -> None:
    folder = write_cells(tmp_path, [square(0, 0), square(20, 0), square(40, 0)])
    with pytest.raises(SpotTableError, match="expected spot_pitch_um in the manifest to pool"):
        read(SpotSource(expression=folder))
    outlines = folder / "cell_segmentations.geojson"
    outlines.write_text('{"features": [{"properties": {"cell_id": 1}, "geometry": null}]}')
    with pytest.raises(SpotTableError, match=r"cell_id and a polygon in feature 0 of"):
        read(SpotSource(expression=folder, spot_pitch_um=100.0))
    outlines.write_text("{}")
    with pytest.raises(SpotTableError, match="a GeoJSON FeatureCollection"):
        read(SpotSource(expression=folder, spot_pitch_um=100.0))


def test_an_outs_folder_with_segmented_cells_alone_is_read(tmp_path: Path) -> None:
    from hespotex.inspection.inputs import resolve_input

    folder = write_cells(tmp_path, [square(0, 0), square(20, 0), square(40, 0)])
    given = read(SpotSource(expression=folder, spot_pitch_um=100.0))
    found = read(SpotSource(expression=folder.parent, spot_pitch_um=100.0, grid="hexagonal"))
    assert found.counts is not None
    assert given.counts is not None
    np.testing.assert_array_equal(found.counts.toarray(), given.counts.toarray())
    (row,) = resolve_input(folder.parent).rows
    assert (row.format, row.spot_pitch_um) == ("visium_hd", 100.0)
