"""Contracts of the readers of h5ad files and of the HEST-1k layout; anndata writes the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from hespotex.errors import SpotTableError
from hespotex.spots import h5ad, hest
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots

N, G = 12, 5
COUNTS = np.random.default_rng(0).poisson(2.0, (N, G)).astype(np.float32)
XY = np.column_stack([np.arange(N) * 10.0, np.arange(N) * 3.0 + 1])


def make(**parts: Any) -> ad.AnnData:
    defaults: dict[str, Any] = {
        "X": sparse.csr_matrix(COUNTS),
        "obs": pd.DataFrame(index=[f"s{i}" for i in range(N)]),
        "var": pd.DataFrame(index=[f"g{i}" for i in range(G)]),
        "obsm": {"spatial": XY},
    }
    return ad.AnnData(**(defaults | parts))


def read(data: ad.AnnData, folder: Path) -> Any:
    path = folder / "section.h5ad"
    data.write_h5ad(path)
    return h5ad.read(SpotSource(expression=path))


@pytest.mark.parametrize("store", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_reads_back_what_anndata_wrote(tmp_path: Path, store: Any) -> None:
    table = read(make(X=store(COUNTS)), tmp_path)
    np.testing.assert_array_equal(table.counts.toarray(), COUNTS)
    np.testing.assert_array_equal(table.xy_px0, XY)
    assert table.barcodes.tolist() == [f"s{i}" for i in range(N)]
    assert table.genes.tolist() == [f"g{i}" for i in range(G)]
    assert table.array_xy is None
    assert table.dropped == {}


def test_the_counts_layer_comes_first(tmp_path: Path) -> None:
    data = make(X=np.log1p(COUNTS), layers={"counts": sparse.csr_matrix(COUNTS)})
    np.testing.assert_array_equal(read(data, tmp_path).counts.toarray(), COUNTS)


def test_raw_is_taken_where_x_is_logged_as_scanpy_leaves_it(tmp_path: Path) -> None:
    data = make()
    data.raw = data
    data.X = sparse.csr_matrix(np.log1p(COUNTS))
    table = read(data[:, :3].copy(), tmp_path)
    np.testing.assert_array_equal(table.counts.toarray(), COUNTS)
    assert len(table.genes) == G


def test_spots_outside_the_tissue_are_left_out_and_counted(tmp_path: Path) -> None:
    obs = pd.DataFrame(
        {
            "in_tissue": [0, 0] + [1] * (N - 2),
            "array_row": range(N),
            "array_col": range(0, 2 * N, 2),
        },
        index=[f"s{i}" for i in range(N)],
    )
    table = read(make(obs=obs), tmp_path)
    assert table.n_spots == N - 2
    np.testing.assert_array_equal(table.counts.toarray(), COUNTS[2:])
    assert table.dropped == {"spots outside the tissue (in_tissue = 0)": 2}
    assert table.array_xy[0].tolist() == [4, 2]


@pytest.mark.parametrize(
    "pair", ["FT", "ny", ("0.00", "1.00"), ("no", "YES"), (False, True), (0.0, np.nan)]
)
@pytest.mark.parametrize("categories", [False, True])
def test_in_tissue_may_be_any_truth_value(tmp_path: Path, pair: tuple, categories: bool) -> None:
    column = pd.Series([pair[0]] * 2 + [pair[1]] * (N - 2), index=[f"s{i}" for i in range(N)])
    obs = pd.DataFrame({"in_tissue": column.astype("category") if categories else column})
    table = read(make(obs=obs), tmp_path)
    np.testing.assert_array_equal(table.counts.toarray(), COUNTS[2:])


def test_in_tissue_that_is_no_truth_value_is_refused_by_its_values(tmp_path: Path) -> None:
    obs = pd.DataFrame({"in_tissue": ["out"] * 2 + ["in"] * (N - 2)}, index=[*map(str, range(N))])
    message = (
        rf"0 or 1 in obs\['in_tissue'\] of .*, found in, out in {N} of {N} spots; write 0 and 1"
    )
    with pytest.raises(SpotTableError, match=message):
        read(make(obs=obs), tmp_path)


def test_blanks_around_gene_names_are_cut_off_and_said(tmp_path: Path) -> None:
    made = make()
    plain = list(made.var_names)
    made.var_names = [f"{name} " if k % 2 else name for k, name in enumerate(plain)]
    made.write_h5ad(tmp_path / "t.h5ad")
    source = SpotSource(expression=tmp_path / "t.h5ad")
    found = read_spots("h5ad", source)
    assert found.genes.tolist() == plain
    said = "gene names had blanks around them (cut off, kept)"
    assert found.dropped[said] == len(plain) // 2
    made.var_names = [plain[0], f" {plain[0]}", *plain[2:]]
    made.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(SpotTableError, match=f"1 gene names more than once .{plain[0]}"):
        read_spots("h5ad", source)


def test_positions_alone_where_nothing_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "positions.h5ad"
    make().write_h5ad(path)
    assert h5ad.read(SpotSource(spots=path)).counts is None
    empty = ad.AnnData(obs=pd.DataFrame(index=[f"s{i}" for i in range(N)]), obsm={"spatial": XY})
    assert read(empty, tmp_path).counts is None


def test_space_rangers_spot_diameter_stands_for_65_um(tmp_path: Path) -> None:
    library = {
        "images": {"hires": np.zeros((4, 5, 3))},
        "scalefactors": {"spot_diameter_fullres": 130.0, "tissue_hires_scalef": 0.25},
        "metadata": {"software_version": "spaceranger-1.3.0"},
    }
    table = read(make(uns={"spatial": {"lib": library}}), tmp_path)
    assert table.hints.mpp == {}
    assert table.hints.rough_mpp["spot diameter of library lib (65 um)"].likely == 0.5
    assert table.hints.spot_pitch_um == 100.0  # the printed array of Visium
    assert table.hints.image_scales == {"hires": 0.25}
    assert table.hints.full_size_px0 == (20.0, 16.0)
    del library["metadata"]
    without = read(make(uns={"spatial": {"lib": library}}), tmp_path).hints
    assert (without.mpp, without.rough_mpp, without.spot_pitch_um) == ({}, {}, None)


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({"bin_size_um": 8.0}, {"bin of library lib (8 um)": 0.25}),
        (
            {"bin_size_um": 8.0, "microns_per_pixel": 0.25},
            {"microns_per_pixel of library lib": 0.25},
        ),
    ],
    ids=["bin", "microns per pixel"],
)
def test_diameter_of_visium_hd_stands_for_its_bin(
    tmp_path: Path, factors: dict[str, float], expected: dict[str, float]
) -> None:
    library = {
        "scalefactors": {"spot_diameter_fullres": 32.0, **factors},
        "metadata": {"software_version": "spaceranger-3.0.0"},
    }
    assert read(make(uns={"spatial": {"lib": library}}), tmp_path).hints.mpp == expected


@pytest.mark.parametrize("value", [0.0, np.nan, "wide"])
def test_factor_that_is_no_length_is_named(tmp_path: Path, value: float | str) -> None:
    library = {
        "scalefactors": {"spot_diameter_fullres": value},
        "metadata": {"software_version": "spaceranger-1.3.0"},
    }
    with pytest.raises(SpotTableError, match=r"spot_diameter_fullres above 0 .*library lib, found"):
        read(make(uns={"spatial": {"lib": library}}), tmp_path)


BROKEN = [
    pytest.param({"obsm": {}}, r"obsm\['spatial'\] .*found none", id="no positions"),
    pytest.param(
        {"obsm": {"spatial": np.column_stack([XY, XY])}}, "found 4 columns", id="four columns"
    ),
    pytest.param(
        {"obsm": {"spatial": np.where(XY > 50, np.nan, XY)}}, "found 6 spots without", id="NaN"
    ),
    pytest.param(
        {"X": np.log1p(COUNTS)}, r"layers\['counts'\], X or raw.X .*X has already logged", id="log"
    ),
    pytest.param(
        {"layers": {"counts": np.log1p(COUNTS)}},
        "layers/counts has already logged",
        id="logged layer beside raw X",
    ),
    pytest.param(
        {"var": pd.DataFrame(index=["g0", "g0", "g1", "g2", "g3"])},
        r"every gene once .*\(g0\)",
        id="doubled genes",
        marks=pytest.mark.filterwarnings("ignore:Variable names are not unique"),
    ),
    pytest.param(
        {"obs": pd.DataFrame(index=["s"] * 2 + [f"s{i}" for i in range(2, N)])},
        r"every spot once .*\(s\)",
        id="doubled spots",
        marks=pytest.mark.filterwarnings("ignore:Observation names are not unique"),
    ),
    pytest.param({"X": -COUNTS}, "negative values", id="negative"),
    pytest.param({"X": None}, "none of the three", id="no matrix"),
]


@pytest.mark.parametrize(("parts", "message"), BROKEN)
def test_broken_files_are_named(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(SpotTableError, match=message):
        read(make(**parts), tmp_path)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "section.h5ad"
    make().write_h5ad(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SpotTableError, match=r"whole h5ad file at .*section\.h5ad.*again"):
        h5ad.read(SpotSource(expression=path))


def test_foreign_files_are_named(tmp_path: Path) -> None:
    import h5py

    text = tmp_path / "text.h5ad"
    text.write_text("no HDF5")
    with pytest.raises(SpotTableError, match="whole h5ad file"):
        h5ad.read(SpotSource(expression=text))
    foreign = tmp_path / "foreign.h5ad"
    with h5py.File(foreign, "w") as file:
        file["matrix"] = [1]
    with pytest.raises(SpotTableError, match=r"without obs and var \(it holds matrix\)"):
        h5ad.read(SpotSource(expression=foreign))
    with pytest.raises(SpotTableError, match="found a folder"):
        h5ad.read(SpotSource(expression=tmp_path))


def hest_tree(folder: Path, metadata: str) -> SpotSource:
    for name in ("st", "metadata"):
        (folder / name).mkdir()
    path = folder / "st" / "TENX1.h5ad"
    library = {"images": {"downscaled_fullres": np.zeros((2, 2, 3))}, "scalefactors": {}}
    make(uns={"spatial": {"ST": library}}).write_h5ad(path)
    if metadata:
        (folder / "metadata" / "TENX1.json").write_text(metadata)
    return SpotSource(expression=path)


def test_hest_takes_its_scale_from_the_metadata(tmp_path: Path) -> None:
    values = {
        "pixel_size_um_estimated": 0.5,
        "pixel_size_um_embedded": 5.0,
        "inter_spot_dist": 100.0,
        "spot_diameter": 55.0,
        "st_technology": "Visium",
    }
    table = hest.read(hest_tree(tmp_path, json.dumps(values)))
    assert table.hints.mpp == {"pixel_size_um_estimated of HEST": 0.5}
    assert (table.hints.spot_pitch_um, table.hints.spot_diameter_um) == (100.0, 55.0)
    assert not table.hints.trust_slide_mpp
    assert table.missing_genes == "zero"
    np.testing.assert_array_equal(table.counts.toarray(), COUNTS)


def test_a_targeted_panel_of_hest_did_not_look_for_other_genes(tmp_path: Path) -> None:
    values = {"pixel_size_um_estimated": 0.5, "st_technology": "Xenium"}
    assert hest.read(hest_tree(tmp_path, json.dumps(values))).missing_genes == "unmeasured"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("", r"HEST's metadata at .*TENX1\.json, found nothing; keep the folders"),
        ("{", "expected JSON in"),
        ("[]", "a JSON object .*found list"),
        ("{}", "pixel_size_um_estimated in .*found nothing"),
        ('{"pixel_size_um_estimated": "0.5"}', "pixel_size_um_estimated above 0 .*'0.5'"),
        ('{"pixel_size_um_estimated": -1}', "pixel_size_um_estimated above 0 .*-1"),
    ],
)
def test_broken_hest_metadata_are_named(tmp_path: Path, metadata: str, message: str) -> None:
    with pytest.raises(SpotTableError, match=message):
        hest.read(hest_tree(tmp_path, metadata))
