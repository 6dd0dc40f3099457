"""Contracts of the Space Ranger reader; trees are made by hand, every value is known."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.made_sections import (
    KNOWN,
    POSITION_COLUMNS,
    positions,
    space_ranger,
    write_10x_h5,
    write_mtx,
)
from hespotex.config import InputChoices
from hespotex.errors import SlideError, SpotTableError
from hespotex.sections.section import ManifestRow, read_section
from hespotex.spots.base import SpotSource, SpotTable
from hespotex.spots.space_ranger import read
from hespotex.spots.ten_x import read_matrix


@pytest.fixture
def outs(tmp_path: Path) -> Path:
    space_ranger(tmp_path / "outs", KNOWN)
    return tmp_path / "outs"


def differences(table: SpotTable) -> list[str]:
    """What of the table is not as it was written."""
    counts = None if table.counts is None else table.counts.toarray()
    pairs = {"positions": (table.xy_px0, KNOWN.xy_px0), "counts": (counts, KNOWN.counts)}
    return [name for name, (read, written) in pairs.items() if not np.array_equal(read, written)]


def test_scale_and_array_are_visiums(outs: Path) -> None:
    table = read(SpotSource(expression=outs))
    assert differences(table) == []
    assert table.hints.rough_mpp["spot_diameter_fullres (65 um)"].likely == 0.5
    assert table.hints.image_scales == {"hires": 0.25, "lowres": 0.075}
    assert (table.hints.spot_pitch_um, table.hints.spot_diameter_um) == (100.0, 55.0)
    assert table.dropped == {}


POSITION_FILES = {
    "version 1, list without header": ("tissue_positions_list.csv", False),
    "version 2, with header": ("tissue_positions.csv", True),
    "list with header": ("tissue_positions_list.csv", True),
    "new name without header": ("tissue_positions.csv", False),
    "sample prefix": ("S1_tissue_positions_list.csv", False),
    "packed": ("tissue_positions_list.csv.gz", False),
    "parquet": ("tissue_positions.parquet", True),
}


@pytest.mark.parametrize("kind", list(POSITION_FILES))
def test_every_form_of_positions(outs: Path, kind: str) -> None:
    name, header = POSITION_FILES[kind]
    (outs / "spatial" / "tissue_positions.csv").unlink()
    path = outs / "spatial" / name
    if name.endswith("parquet"):
        positions(KNOWN).to_parquet(path)
    else:
        positions(KNOWN).to_csv(path, index=False, header=header)
    assert differences(read(SpotSource(expression=outs))) == []


def test_a_byte_order_mark_and_windows_line_ends(outs: Path) -> None:
    path = outs / "spatial" / "tissue_positions.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert differences(read(SpotSource(expression=outs))) == []


@pytest.mark.parametrize("prefix", ["", "GSM1_sample_"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_matrix_of_three_files(outs: Path, prefix: str, packed: bool) -> None:
    (outs / "filtered_feature_bc_matrix.h5").unlink()
    write_mtx(outs / "filtered_feature_bc_matrix", KNOWN, prefix=prefix, packed=packed)
    assert differences(read(SpotSource(expression=outs))) == []


def test_a_matrix_of_the_first_versions(outs: Path) -> None:
    write_10x_h5(outs / "filtered_feature_bc_matrix.h5", KNOWN, version=2)
    assert differences(read(SpotSource(expression=outs))) == []


def test_flat_downloads_with_a_samples_prefix(outs: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (*outs.glob("*.h5"), *(outs / "spatial").iterdir()):
        shutil.copy(path, flat / f"GSM7_{path.name}")
    assert differences(read(SpotSource(expression=flat))) == []
    assert (
        differences(read(SpotSource(expression=flat / "GSM7_filtered_feature_bc_matrix.h5"))) == []
    )
    shutil.copy(flat / "GSM7_tissue_positions.csv", flat / "GSM8_tissue_positions.csv")
    with pytest.raises(SpotTableError, match=r"one tissue_positions\.csv in .*GSM7_.*, GSM8_.*own"):
        read(SpotSource(expression=flat))


def test_spatial_in_an_archive_or_elsewhere(outs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(outs / "spatial", moved)
    assert differences(read(SpotSource(expression=outs, spots=moved))) == []
    assert (
        differences(read(SpotSource(expression=outs, spots=moved / "tissue_positions.csv"))) == []
    )
    with tarfile.open(outs / "S1_spatial.tar.gz", "w:gz") as archive:
        archive.add(moved, "spatial")
    table = read(SpotSource(expression=outs))
    assert differences(table) == []
    assert table.hints.rough_mpp["spot_diameter_fullres (65 um)"].likely == 0.5
    whole = (outs / "S1_spatial.tar.gz").read_bytes()
    (outs / "S1_spatial.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpotTableError, match=r"a whole archive at .*S1_spatial\.tar\.gz"):
        read(SpotSource(expression=outs))


def test_drops_are_counted_on_both_sides(outs: Path) -> None:
    some = replace(KNOWN, counts=KNOWN.counts[3:], barcodes=[*KNOWN.barcodes[4:], "GGGG-1"])
    write_10x_h5(outs / "filtered_feature_bc_matrix.h5", some)
    table = read(SpotSource(expression=outs))
    assert table.n_spots == 26
    assert table.dropped == {"counts without a position": 1, "positions without counts": 4}
    np.testing.assert_array_equal(table.xy_px0, KNOWN.xy_px0[4:])


def test_barcodes_that_lost_their_suffix_still_join(outs: Path) -> None:
    bare = replace(KNOWN, barcodes=[name.removesuffix("-1") for name in KNOWN.barcodes])
    write_10x_h5(outs / "filtered_feature_bc_matrix.h5", bare)
    assert differences(read(SpotSource(expression=outs))) == []


def test_the_unfiltered_matrix_loses_what_is_outside(outs: Path) -> None:
    path = outs / "raw_feature_bc_matrix.h5"
    (outs / "filtered_feature_bc_matrix.h5").unlink()
    more = replace(
        KNOWN,
        counts=np.vstack([KNOWN.counts, KNOWN.counts[:2]]),
        barcodes=[*KNOWN.barcodes, "TTTT0000-1", "TTTT0001-1"],
    )
    write_10x_h5(path, more)
    table = read(SpotSource(expression=outs))
    assert differences(table) == []
    assert table.dropped == {"spots outside the tissue (in_tissue = 0)": 2}


def test_positions_alone_where_nothing_was_measured(outs: Path) -> None:
    table = read(SpotSource(spots=outs))
    assert table.counts is None
    np.testing.assert_array_equal(table.xy_px0, KNOWN.xy_px0)


def test_features_that_are_no_genes_are_counted(outs: Path) -> None:
    kinds = ["Gene Expression"] * 5 + ["Antibody Capture"] * 2
    write_10x_h5(outs / "filtered_feature_bc_matrix.h5", KNOWN, kinds=kinds)
    table = read(SpotSource(expression=outs))
    assert table.genes is not None
    assert len(table.genes) == 5
    assert table.dropped == {"features that are no genes": 2}
    write_10x_h5(outs / "filtered_feature_bc_matrix.h5", KNOWN, kinds=["Custom"] * 7)
    with pytest.raises(SpotTableError, match=r"features of type Gene Expression .*found Custom"):
        read(SpotSource(expression=outs))


def test_a_symbol_of_two_genes_gives_way_to_their_ids(outs: Path) -> None:
    doubled = replace(KNOWN, genes=["A", "B", "A", "C", "D", "E", "F"])
    write_10x_h5(outs / "filtered_feature_bc_matrix.h5", doubled)
    table = read(SpotSource(expression=outs))
    assert table.genes is not None
    assert table.genes.tolist() == ["ENSG0", "B", "ENSG2", "C", "D", "E", "F"]
    assert table.dropped == {"doubled gene symbols (named by their id, kept)": 2}


def break_positions(outs: Path, change: str) -> None:
    path = outs / "spatial" / "tissue_positions.csv"
    table = positions(KNOWN).astype(object)
    if change in POSITION_COLUMNS:
        table = table.rename(columns={change: "other"})
    elif change == "doubled":
        table.loc[1, "barcode"] = table.loc[0, "barcode"]
    elif change == "all outside":
        table["in_tissue"] = 0
    elif change == "another sample":
        table.loc[:9, "in_tissue"] = 0
    elif change == "foreign barcodes":
        table["barcode"] = [f"x{i}" for i in range(len(table))]
    elif change == "in_tissue 2":
        table.loc[0, "in_tissue"] = 2
    else:
        table.loc[2, "pxl_row_in_fullres"] = change
    if change == "":
        path.write_text("")
    else:
        table.to_csv(path, index=False)


BROKEN = {
    **{name: f"expected the columns .*add {name}" for name in POSITION_COLUMNS[1:]},
    "barcode": "column in_tissue of .*found 'in_tissue' in row 1",
    "": "empty file",
    "doubled": r"every spot once .*\(ACGT0000-1\)",
    "all outside": "found in_tissue = 0 for all",
    "another sample": "found 10 of 30 marked outside .*of this sample",
    "foreign barcodes": "none in common .*ACGT0000-1.*x0.*of this sample",
    "in_tissue 2": "expected 0 or 1 in column in_tissue .*found '2' in row 2",
    "nan": "column pxl_row_in_fullres of .*'nan' in row 4",
    "12,5": "column pxl_row_in_fullres of .*'12,5' in row 4",
}


@pytest.mark.parametrize("change", list(BROKEN))
def test_broken_positions_are_named(outs: Path, change: str) -> None:
    break_positions(outs, change)
    with pytest.raises(SpotTableError, match=BROKEN[change]):
        read(SpotSource(expression=outs))


def test_rows_of_a_list_without_header_are_counted_from_1(outs: Path) -> None:
    (outs / "spatial" / "tissue_positions.csv").unlink()
    table = positions(KNOWN).astype(object)
    table.loc[2, "array_row"] = "a"
    table.to_csv(outs / "spatial" / "tissue_positions_list.csv", index=False, header=False)
    with pytest.raises(SpotTableError, match=r"column array_row of .*'a' in row 3"):
        read(SpotSource(expression=outs))
    table.iloc[:, :4].to_csv(
        outs / "spatial" / "tissue_positions_list.csv", index=False, header=False
    )
    with pytest.raises(SpotTableError, match=r"expected 6 columns .*found 4"):
        read(SpotSource(expression=outs))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON in"),
        ('{"spot_diameter_fullres": 0}', "spot_diameter_fullres above 0 .*found 0"),
        ('{"spot_diameter_fullres": "big"}', "spot_diameter_fullres above 0 .*'big'"),
        ('{"tissue_hires_scalef": null, "spot_diameter_fullres": NaN}', "above 0 .*found nan"),
    ],
)
def test_broken_scale_factors_are_named(outs: Path, text: str, message: str) -> None:
    (outs / "spatial" / "scalefactors_json.json").write_text(text)
    with pytest.raises(SpotTableError, match=message):
        read(SpotSource(expression=outs))


def test_without_scale_factors_the_array_alone_gives_the_scale(outs: Path) -> None:
    (outs / "spatial" / "scalefactors_json.json").unlink()
    hints = read(SpotSource(expression=outs)).hints
    assert hints.mpp == {}
    assert hints.spot_pitch_um == 100.0


def test_broken_matrices_are_named(outs: Path) -> None:
    path = outs / "filtered_feature_bc_matrix.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpotTableError, match=r"a whole feature-barcode matrix .*copy it again"):
        read(SpotSource(expression=outs))
    path.unlink()
    with pytest.raises(SpotTableError, match=r"filtered_feature_bc_matrix\.h5, .*found spatial"):
        read(SpotSource(expression=outs))
    folder = write_mtx(outs / "filtered_feature_bc_matrix", KNOWN)
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress(b"AC-1\n"))
    with pytest.raises(SpotTableError, match=r"expected 1 barcodes x 7 features .*found 30 x 7"):
        read(SpotSource(expression=outs))
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(b"no matrix"))
    with pytest.raises(SpotTableError, match=r"a MatrixMarket file at .*'no matrix'"):
        read(SpotSource(expression=outs))
    (folder / "features.tsv.gz").unlink()
    with pytest.raises(SpotTableError, match=r"expected matrix.mtx, features.tsv and barcodes.tsv"):
        read(SpotSource(expression=outs))


def test_missing_parts_and_other_formats_are_named(outs: Path) -> None:
    shutil.rmtree(outs / "spatial")
    with pytest.raises(SpotTableError, match=r"tissue_positions\.csv or .*column spots"):
        read(SpotSource(expression=outs))
    (outs / "binned_outputs").mkdir()
    with pytest.raises(SpotTableError, match=r"binned_outputs of Visium HD; set the format to vis"):
        read(SpotSource(expression=outs))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # scanpy warns of doubled names
def test_scanpy_reads_the_same(outs: Path, tmp_path: Path, shared_data: Path) -> None:
    import scanpy as sc

    real = shared_data / "visium_crc16" / "outs" / "filtered_feature_bc_matrix.h5"
    mtx = write_mtx(tmp_path / "mtx", KNOWN)
    for path, read_scanpy in (
        (outs / "filtered_feature_bc_matrix.h5", sc.read_10x_h5),
        (real, sc.read_10x_h5),
        (mtx, sc.read_10x_mtx),
    ):
        theirs = read_scanpy(path)
        ours = read_matrix(path)
        assert ours.barcodes.tolist() == theirs.obs_names.tolist()
        assert (ours.counts != theirs.X).nnz == 0
        same = ours.genes == theirs.var_names.to_numpy(dtype=str)
        assert (ours.genes[~same] == theirs.var["gene_ids"].to_numpy(dtype=str)[~same]).all()
        assert (~same).sum() == ours.dropped.get(
            "doubled gene symbols (named by their id, kept)", 0
        )


@pytest.mark.slow
def test_real_outs_without_the_full_image(shared_data: Path) -> None:
    outs = shared_data / "visium_crc16" / "outs"
    table = read(SpotSource(expression=outs))
    assert (table.n_spots, table.counts is not None) == (3106, True)
    assert table.dropped == {"doubled gene symbols (named by their id, kept)": 20}
    listed = pd.read_csv(outs / "spatial" / "tissue_positions_list.csv", header=None)
    listed = listed.set_index(0).loc[table.barcodes]
    np.testing.assert_array_equal(table.xy_px0, listed[[5, 4]].to_numpy())
    row = ManifestRow(
        "CRC", "P", outs / "spatial" / "tissue_lowres_image.png", outs, "space_ranger"
    )
    with pytest.raises(
        SlideError, match=r"lowres copy \(0\.0858 .*effective 15\.1 um .* of 1\.295"
    ):
        read_section(row)
    assert read_section(row, InputChoices(allow_hires=True)).geometry.mpp == pytest.approx(
        1.2925 / 0.0858, rel=1e-3
    )
    factors = json.loads((outs / "spatial" / "scalefactors_json.json").read_text())
    full = read_section(replace(row, slide=None, features=outs)).geometry
    assert full.mpp == pytest.approx(65 / factors["spot_diameter_fullres"], rel=3e-3)
    assert all(1.28 < value < 1.305 for value in full.mpp_sources.values())
    assert len(full.mpp_sources) == 2
