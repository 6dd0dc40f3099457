"""Contracts of the Xenium reader; trees are made by hand, every value is known."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.made_sections import KNOWN, write_10x_h5, xenium
from hespotex.errors import SpotTableError
from hespotex.geometry import decide_geometry
from hespotex.spots.base import SpotSource
from hespotex.spots.xenium import read

# H&E x, y at 0.5 um -> morphology at 0.25 um, as in the tree that `xenium` writes
TO_MORPHOLOGY = np.array([[0.0, -2.0, 4000.0], [2.0, 0.0, 100.0], [0.0, 0.0, 1.0]])


def cells_to_he(um: np.ndarray) -> np.ndarray:
    x, y = (um / 0.25).T
    return np.column_stack([(y - 100) / 2, (4000 - x) / 2])


@pytest.fixture
def source(tmp_path: Path) -> SpotSource:
    return xenium(tmp_path / "xenium", KNOWN)


def test_cells_are_pooled_where_they_lie_on_the_image(source: SpotSource) -> None:
    table = read(source)
    assert table.counts is not None
    np.testing.assert_array_equal(table.counts.sum(axis=0).A1, KNOWN.counts.sum(axis=0))
    assert table.obs is not None
    assert table.obs["n_cells"].sum() == 30
    distance = np.hypot(*(KNOWN.xy_px0[:, None] - table.xy_px0[None]).transpose(2, 0, 1))
    own = distance.argmin(axis=1)
    assert distance.min(axis=1).max() <= 200 / np.sqrt(3) + 1e-6
    for spot in range(table.n_spots):
        np.testing.assert_array_equal(
            table.counts.toarray()[spot], KNOWN.counts[own == spot].sum(axis=0)
        )
    assert table.missing_genes == "unmeasured"


def test_the_alignment_gives_the_scale_and_the_grid_confirms_it(source: SpotSource) -> None:
    table = read(source)
    geometry = decide_geometry(table.xy_px0, table.hints)
    assert geometry.mpp == pytest.approx(0.5)
    assert len(geometry.mpp_sources) == 2
    assert geometry.spot_pitch_um == 100.0


def test_round_spots_of_a_diameter(source: SpotSource) -> None:
    table = read(replace(source, spot_diameter_um=30.0, spot_pitch_um=60.0))
    assert table.obs is not None
    assert table.obs["n_cells"].sum() + table.dropped["cells between the spots"] == 30


def test_without_the_alignment_it_is_refused_with_the_reason(source: SpotSource) -> None:
    with pytest.raises(
        SpotTableError, match=r"column alignment, .*not registered .*he_imagealignment\.csv lies"
    ):
        read(replace(source, alignment=None))


def test_without_a_pitch_it_is_refused(source: SpotSource) -> None:
    with pytest.raises(SpotTableError, match="expected spot_pitch_um in the manifest to pool"):
        read(replace(source, spot_pitch_um=None))


def test_cells_as_csv_equal_cells_as_parquet(source: SpotSource) -> None:
    expected = read(source)
    assert source.expression is not None
    path = source.expression / "cells.parquet"
    cells = pd.read_parquet(path)
    path.unlink()
    (source.expression / "cells.csv.gz").write_bytes(
        gzip.compress(cells.to_csv(index=False).encode())
    )
    found = read(source)
    np.testing.assert_allclose(found.xy_px0, expected.xy_px0)
    assert found.counts is not None
    assert (found.counts != expected.counts).nnz == 0


def test_cells_and_counts_are_joined_by_id(source: SpotSource) -> None:
    assert source.expression is not None
    fewer = replace(KNOWN, counts=KNOWN.counts[5:], barcodes=[*KNOWN.barcodes[6:], "zzz"])
    write_10x_h5(source.expression / "cell_feature_matrix.h5", fewer)
    table = read(source)
    assert table.dropped == {"counts without a cell": 1, "cells without counts": 6}
    other = replace(KNOWN, barcodes=[f"q{i}" for i in range(30)])
    write_10x_h5(source.expression / "cell_feature_matrix.h5", other)
    with pytest.raises(SpotTableError, match=r"none in common .*q0.*ACGT0000-1"):
        read(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("1,0,0\n0,1,0\n", r"expected 3 x 3 numbers in .*found \(2, 3\)"),
        ("1,0,a\n0,1,0\n0,0,1\n", "expected 3 x 3 numbers .*'a'"),
        ("1,0,0\n0,1\n0,0,1\n", "expected 3 x 3 numbers"),
        ("1,0,0\n0,1,0\n0,1,1\n", "0, 0, 1 as last row .*0.0, 1.0, 1.0"),
        ("0,0,5\n0,0,5\n0,0,1\n", "an invertible matrix .*determinant 0"),
        ("nan,0,5\n0,1,5\n0,0,1\n", "expected 3 x 3 numbers"),
    ],
)
def test_broken_alignments_are_named(source: SpotSource, text: str, message: str) -> None:
    assert source.alignment is not None
    source.alignment.write_text(text)
    with pytest.raises(SpotTableError, match=message):
        read(source)


def test_missing_or_broken_parts_are_named(source: SpotSource) -> None:
    folder = source.expression
    assert folder is not None
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0}))
    with pytest.raises(SpotTableError, match=r"pixel_size above 0 in .*found 0"):
        read(source)
    (folder / "experiment.xenium").unlink()
    with pytest.raises(SpotTableError, match=r"expected experiment\.xenium in"):
        read(source)
    path = folder / "cells.parquet"
    cells = pd.read_parquet(path)
    cells.assign(x_centroid=np.nan).to_parquet(path)
    with pytest.raises(SpotTableError, match=r"numbers in column x_centroid of .*found 'nan'"):
        read(source)
    cells.drop(columns="y_centroid").to_parquet(path)
    with pytest.raises(SpotTableError, match=r"cell_id, x_centroid, y_centroid in .*found cell_id"):
        read(source)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(SpotTableError, match="a whole parquet file at"):
        read(source)
    path.unlink()
    with pytest.raises(SpotTableError, match=r"cells\.parquet or cells\.csv\.gz .*found neither"):
        read(source)
    (folder / "cell_feature_matrix.h5").unlink()
    with pytest.raises(SpotTableError, match=r"expected cell_feature_matrix\.h5 in"):
        read(source)


def test_positions_agree_with_the_matrix_written_out() -> None:
    he = np.array([[100.0, 50.0]])
    morphology = he @ TO_MORPHOLOGY[:2, :2].T + TO_MORPHOLOGY[:2, 2]
    assert morphology.tolist() == [[3900.0, 300.0]]
    np.testing.assert_allclose(cells_to_he(morphology * 0.25), he)
