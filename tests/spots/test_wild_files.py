"""Contracts of readers on what files of the wild have and tidy ones lack."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from helpers.made_sections import (
    KNOWN,
    Known,
    h5ad,
    hest,
    legacy_st,
    positions,
    space_ranger,
    write_10x_h5,
    write_mtx,
    write_scale,
    xenium,
)
from hespotex.errors import SpotTableError
from hespotex.spots.base import SpotSource, SpotTable
from hespotex.spots.legacy_st import read as read_legacy
from hespotex.spots.outlines import read_outlines
from hespotex.spots.registry import read_spots
from hespotex.spots.sparse_reading import read_compressed, read_matrix_market, smallest_exact
from hespotex.storage.text_files import Packed


def differences(table: SpotTable, known: Known = KNOWN, genes: slice = slice(None)) -> list[str]:
    """What of the table is not as it was written."""
    counts = None if table.counts is None else table.counts.toarray()
    same = {
        "genes": table.genes is not None and table.genes.tolist() == known.genes[genes],
        "counts": np.array_equal(counts, known.counts[:, genes]),
        "positions": table.xy_px0.shape == known.xy_px0.shape
        and np.allclose(table.xy_px0, known.xy_px0, rtol=1e-7, atol=0),
    }
    return [name for name, as_written in same.items() if not as_written]


# -------------------------------------------------------------------------------- Space Ranger


def test_antibodies_and_control_probes_are_left_out_and_counted(tmp_path: Path) -> None:
    source = space_ranger(tmp_path / "outs", KNOWN)
    kinds = ["Gene Expression"] * 5 + ["Antibody Capture", "Negative Control Probe"]
    write_10x_h5(tmp_path / "outs" / "filtered_feature_bc_matrix.h5", KNOWN, kinds=kinds)
    table = read_spots("space_ranger", source)
    assert differences(table, genes=slice(5)) == []
    assert table.dropped["features that are no genes"] == 2


def test_files_that_newer_versions_add_do_no_harm(tmp_path: Path) -> None:
    source = space_ranger(tmp_path / "outs", KNOWN)
    for name in ("probe_set.csv", "molecule_info.h5", "web_summary.html", "metrics_summary.csv"):
        (tmp_path / "outs" / name).write_text("x")
    for name in ("detected_tissue_image.jpg", "cytassist_image.tiff", "spatial_enrichment.csv"):
        (tmp_path / "outs" / "spatial" / name).write_text("x")
    factors = tmp_path / "outs" / "spatial" / "scalefactors_json.json"
    write_scale(factors, regist_target_img_scalef=0.2)
    assert differences(read_spots("space_ranger", source)) == []


def test_one_of_several_samples_in_a_folder_is_told_by_its_matrix(tmp_path: Path) -> None:
    other = replace(KNOWN, xy_px0=KNOWN.xy_px0 + 7)
    for name, known in (("GSM1_A_", KNOWN), ("GSM2_B_", other)):
        write_10x_h5(tmp_path / f"{name}filtered_feature_bc_matrix.h5", known)
        positions(known).to_csv(
            tmp_path / f"{name}tissue_positions_list.csv.gz", index=False, header=False
        )
        write_scale(tmp_path / f"{name}scalefactors_json.json")
    for name, known in (("GSM1_A_", KNOWN), ("GSM2_B_", other)):
        path = tmp_path / f"{name}filtered_feature_bc_matrix.h5"
        assert differences(read_spots("space_ranger", SpotSource(expression=path)), known) == []


def test_one_of_several_archives_in_a_folder_is_told_by_its_matrix(tmp_path: Path) -> None:
    for name, shift in (("GSM1_", 0), ("GSM2_", 7)):
        known = replace(KNOWN, xy_px0=KNOWN.xy_px0 + shift)
        outs = tmp_path / "made" / name
        space_ranger(outs, known)
        shutil.move(
            outs / "filtered_feature_bc_matrix.h5",
            tmp_path / f"{name}filtered_feature_bc_matrix.h5",
        )
        with tarfile.open(tmp_path / f"{name}spatial.tar.gz", "w:gz") as tar:
            tar.add(outs / "spatial", arcname="spatial")
    shutil.rmtree(tmp_path / "made")
    path = tmp_path / "GSM2_filtered_feature_bc_matrix.h5"
    table = read_spots("space_ranger", SpotSource(expression=path))
    assert differences(table, replace(KNOWN, xy_px0=KNOWN.xy_px0 + 7)) == []


# ----------------------------------------------------------------------------------- matrices


def test_a_matrix_in_any_order_of_entries_reads_the_same(tmp_path: Path) -> None:
    folder = write_mtx(tmp_path / "m", KNOWN, packed=False)
    matrix = read_matrix_market(folder / "matrix.mtx")
    np.testing.assert_array_equal(matrix.toarray(), KNOWN.counts)
    lines = (folder / "matrix.mtx").read_text().splitlines()
    head = [line for line in lines if line.startswith("%")]
    body = lines[len(head) + 1 :]
    shuffled = [body[i] for i in np.random.default_rng(0).permutation(len(body))]
    (folder / "matrix.mtx").write_text(
        "\n".join([*head, "%a remark", lines[len(head)], *shuffled]) + "\n"
    )
    np.testing.assert_array_equal(read_matrix_market(folder / "matrix.mtx").toarray(), KNOWN.counts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[: len(t) // 2], r"entries where its head says"),
        (lambda t: t + "1 1 1\n", r"more than .* entries where its head says"),
        (lambda t: t.replace("coordinate", "array"), r"a whole MatrixMarket file .*correct it"),
        (
            lambda t: t.replace("integer", "pattern"),
            r"field pattern, which says where .*not how many",
        ),
        (lambda t: t.replace("\n7 30 ", "\n3 30 "), r"outside of its"),
        (lambda t: "\n".join([*t.splitlines()[:-1], "1 x 2\n"]), r"a whole MatrixMarket file"),
    ],
)
def test_broken_matrices_are_named(
    tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "matrix.mtx"
    mmwrite(path, sparse.coo_matrix(KNOWN.counts.T))
    path.write_text(change(path.read_text()))
    with pytest.raises(SpotTableError, match=message):
        read_matrix_market(path)


@pytest.mark.parametrize("dtype", ["i1", "u4", "i8", "f4", "f8"])
def test_values_of_any_kind_keep_what_they_are(dtype: str) -> None:
    values = np.array([0, 1, 100], dtype=dtype)
    assert smallest_exact(values).dtype == np.int32
    assert smallest_exact(np.array([1.5, 2.0])).dtype == np.float32
    assert smallest_exact(np.array([0.1, np.nan])).dtype == np.float64
    np.testing.assert_array_equal(smallest_exact(np.array([1e300, 3])), [1e300, 3])
    np.testing.assert_array_equal(smallest_exact(np.array([2**40, 3])), [2**40, 3])


@pytest.mark.parametrize("by_column", [False, True])
def test_compressed_matrices_read_back_equal(by_column: bool) -> None:
    kind = sparse.csc_matrix if by_column else sparse.csr_matrix
    stored = kind(KNOWN.counts.astype(float))
    read = read_compressed(
        stored.data, stored.indices, stored.indptr, stored.shape, by_column=by_column
    )
    np.testing.assert_array_equal(read.toarray(), KNOWN.counts)
    assert read.dtype == np.int32


# --------------------------------------------------------------------------------------- h5ad


def changed(folder: Path, change: Callable[[Any], object]) -> SpotSource:
    source = h5ad(folder, KNOWN)
    assert source.expression is not None
    data = ad.read_h5ad(source.expression)
    change(data)
    data.write_h5ad(source.expression)
    return source


def _normalised_with(place: str) -> Callable[[Any], object]:
    def change(data: Any) -> None:
        raw = data.copy()
        data.X = np.log1p(data.X.toarray())
        if place == "raw":
            data.raw = raw
        else:
            data.layers[place] = raw.X

    return change


@pytest.mark.parametrize("place", ["raw", "counts", "raw_counts"])
def test_raw_counts_are_found_where_tools_keep_them(tmp_path: Path, place: str) -> None:
    assert differences(read_spots("h5ad", changed(tmp_path, _normalised_with(place)))) == []


@pytest.mark.parametrize("kind", ["csc", "dense", "float64"])
def test_every_way_to_store_a_matrix_reads_the_same(tmp_path: Path, kind: str) -> None:
    def change(data: Any) -> None:
        whole = data.X.toarray()
        stored = {
            "csc": sparse.csc_matrix(whole),
            "dense": whole,
            "float64": sparse.csr_matrix(whole.astype(float)),
        }
        data.X = stored[kind]

    assert differences(read_spots("h5ad", changed(tmp_path, change))) == []


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_symbols_that_stand_twice_give_way_to_the_ids_beside_them(tmp_path: Path) -> None:
    def change(data: Any) -> None:
        data.var["gene_ids"] = [f"ENSG{i}" for i in range(7)]
        data.var_names = ["A", "B", "A", "D", "E", "F", "G"]

    table = read_spots("h5ad", changed(tmp_path, change))
    assert table.genes is not None
    assert table.genes.tolist() == ["ENSG0", "B", "ENSG2", "D", "E", "F", "G"]
    with pytest.raises(SpotTableError, match=r"every gene once .*\(A\)"):
        read_spots("h5ad", changed(tmp_path, lambda a: (change(a), a.var.pop("gene_ids"))))


@pytest.mark.parametrize(
    "values", [["0"] * 3 + ["1"] * 27, [False] * 3 + [True] * 27, ["False"] * 3 + ["True"] * 27]
)
def test_in_tissue_is_understood_however_it_is_written(tmp_path: Path, values: list[Any]) -> None:
    source = changed(tmp_path, lambda a: a.obs.insert(0, "in_tissue", pd.Categorical(values)))
    table = read_spots("h5ad", source)
    assert table.n_spots == 27
    assert table.dropped == {"spots outside the tissue (in_tissue = 0)": 3}


def _libraries(data: Any) -> None:
    data.uns["spatial"] = {
        name: {
            "scalefactors": {"tissue_hires_scalef": 0.25, "spot_diameter_fullres": diameter},
            "metadata": {"software_version": "spaceranger-2.0.0"},
        }
        for name, diameter in (("one", 130.0), ("two", 260.0))
    }


def test_of_several_libraries_that_of_the_spots_counts(tmp_path: Path) -> None:
    def change(data: Any) -> None:
        _libraries(data)
        data.obs["library_id"] = pd.Categorical(["one"] * 30)

    hints = read_spots("h5ad", changed(tmp_path, change)).hints
    assert hints.rough_mpp["spot diameter of library one (65 um)"].likely == 0.5
    assert hints.image_scales == {"hires": 0.25}


def test_sections_of_two_slides_in_one_file_are_refused(tmp_path: Path) -> None:
    def change(data: Any) -> None:
        _libraries(data)
        data.obs["library_id"] = pd.Categorical(["one"] * 10 + ["two"] * 20)

    with pytest.raises(
        SpotTableError, match=r"one section in .*2 libraries in obs\['library_id'\]"
    ):
        read_spots("h5ad", changed(tmp_path, change))


def test_control_probes_in_a_table_are_left_out_and_counted(tmp_path: Path) -> None:
    names = [*KNOWN.genes[:4], "BLANK_0001", "NegControlProbe_00042", "UnassignedCodeword_0001"]
    table = read_spots("h5ad", changed(tmp_path, lambda a: setattr(a, "var_names", names)))
    assert differences(table, genes=slice(4)) == []
    assert table.dropped == {"features that are no genes": 3}


# ------------------------------------------------------------------- HEST, Xenium, legacy ST, HD


def test_what_hest_leaves_empty_is_not_stated(tmp_path: Path) -> None:
    source = hest(tmp_path, KNOWN)
    path = tmp_path / "metadata" / "X.json"
    path.write_text(
        json.dumps(
            {"pixel_size_um_estimated": 0.5, "inter_spot_dist": float("nan"), "spot_diameter": None}
        )
    )
    hints = read_spots("hest", source).hints
    assert (hints.spot_pitch_um, hints.spot_diameter_um) == (None, None)
    path.write_text(json.dumps({"pixel_size_um_estimated": float("nan")}))
    with pytest.raises(SpotTableError, match=r"expected pixel_size_um_estimated in"):
        read_spots("hest", source)


def test_xeniums_controls_of_every_version_are_left_out(tmp_path: Path) -> None:
    source = xenium(tmp_path / "x", KNOWN)
    kinds = ["Gene Expression"] * 3
    kinds += [
        "Negative Control Codeword",
        "Blank Codeword",
        "Unassigned Codeword",
        "Genomic Control",
    ]
    write_10x_h5(tmp_path / "x" / "cell_feature_matrix.h5", KNOWN, kinds=kinds)
    table = read_spots("xenium", source)
    assert table.genes is not None
    assert table.genes.tolist() == KNOWN.genes[:3]
    assert table.dropped["features that are no genes"] == 4
    assert table.missing_genes == "unmeasured"


def test_xenium_pools_on_the_grid_that_was_asked_for(tmp_path: Path) -> None:
    source = replace(xenium(tmp_path / "x", KNOWN), spot_pitch_um=200.0)
    square = read_spots("xenium", replace(source, grid="square"))
    hexagonal_spots = read_spots("xenium", source)
    for table, kind in ((square, "square"), (hexagonal_spots, "hexagonal")):
        assert table.counts is not None
        assert table.counts.sum() == KNOWN.counts.sum()
        from hespotex.geometry import fit_lattice

        lattice = fit_lattice(table.xy_px0)
        assert lattice is not None
        assert lattice.kind == kind
        assert lattice.pitch_px == pytest.approx(400.0)


def test_counts_named_by_adjusted_positions_are_joined(tmp_path: Path) -> None:
    source = legacy_st(tmp_path, KNOWN)
    assert source.spots is not None
    assert source.expression is not None
    spots = pd.read_csv(source.spots, sep="\t")
    adjusted = KNOWN.array_xy + np.random.default_rng(0).uniform(0.011, 0.2, KNOWN.array_xy.shape)
    spots[["new_x", "new_y"]] = adjusted
    spots.to_csv(source.spots, sep="\t", index=False)
    counts = pd.read_csv(source.expression, sep="\t", index_col=0)
    counts.index = pd.Index([f"{x:.3f}x{y:.3f}" for x, y in adjusted])
    counts.to_csv(source.expression, sep="\t")
    assert differences(read_legacy(source)) == []


def test_further_columns_and_reads_of_no_gene_do_no_harm(tmp_path: Path) -> None:
    source = legacy_st(tmp_path, KNOWN)
    assert source.spots is not None
    assert source.expression is not None
    spots = pd.read_csv(source.spots, sep="\t")
    spots.assign(new_x=spots.x, new_y=spots.y, selected=1, tumor="yes").to_csv(
        source.spots, sep="\t", index=False
    )
    counts = pd.read_csv(source.expression, sep="\t", index_col=0)
    counts.insert(2, "__ambiguous[GENE0+GENE1]", 5)
    counts["__no_feature"] = 9
    counts.to_csv(source.expression, sep="\t")
    table = read_legacy(source)
    assert differences(table) == []
    assert table.dropped == {"features that are no genes": 2}


def test_a_cell_in_several_pieces_lies_where_its_largest_does() -> None:
    pieces = [
        [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]],
        [[[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]],
    ]
    cell = {
        "properties": {"cell_id": 5},
        "geometry": {"type": "MultiPolygon", "coordinates": pieces},
    }
    content = json.dumps({"type": "FeatureCollection", "features": [cell]}).encode()
    assert read_outlines(Packed("cells.geojson", content)) == {5: (15.0, 15.0)}
    with pytest.raises(SpotTableError, match=r"a whole GeoJSON .*copy it again"):
        read_outlines(Packed("cells.geojson", content[:-3]))
