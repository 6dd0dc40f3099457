"""Contracts on tables as R, spreadsheets, macOS and Windows write them: read alike, or told how to write them."""

from __future__ import annotations

import gzip
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.made_sections import KNOWN, legacy_st, positions, space_ranger
from hespotex.errors import ManifestError, SpotTableError
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import read_section
from hespotex.spots.base import SpotSource, SpotTable
from hespotex.spots.given import read_positions
from hespotex.spots.registry import read_spots
from hespotex.spots.space_ranger import read_positions as read_tissue_positions

SPOTS = [f"{x}x{y}" for x, y in KNOWN.array_xy]


def r_table(rows: list[str], columns: list[str], values: np.ndarray, *, quote: bool) -> str:
    """As R's write.table writes it: no name above the names of rows."""
    mark = '"' if quote else ""
    lines = ["\t".join(f"{mark}{name}{mark}" for name in columns)]
    lines += [
        "\t".join([f"{mark}{name}{mark}", *map(str, row)])
        for name, row in zip(rows, values, strict=True)
    ]
    return "\n".join(lines) + "\n"


def check(table: SpotTable) -> None:
    assert table.counts is not None
    assert table.genes is not None
    assert table.genes.tolist() == KNOWN.genes
    assert table.barcodes.tolist() == SPOTS
    np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts)
    np.testing.assert_array_equal(table.xy_px0, KNOWN.xy_px0)


@pytest.mark.parametrize("quote", [False, True])
@pytest.mark.parametrize("prefix", ["", "X"])
@pytest.mark.parametrize("genes_first", [False, True])
@pytest.mark.parametrize("corner", [None, "", "gene"])
def test_counts_are_read_whichever_way_r_wrote_them(
    quote: bool, prefix: str, genes_first: bool, corner: str | None, tmp_path: Path
) -> None:
    source = legacy_st(tmp_path, KNOWN)
    spots = [prefix + name for name in SPOTS]
    if genes_first:
        text = r_table(KNOWN.genes, spots, KNOWN.counts.T, quote=quote)
    else:
        text = r_table(spots, KNOWN.genes, KNOWN.counts, quote=quote)
    text = text if corner is None else f"{corner}\t{text}"
    (tmp_path / "counts.tsv.gz").write_bytes(gzip.compress(text.encode()))
    check(read_spots("legacy_st", source))


def test_a_gene_whose_name_begins_with_x_keeps_it(tmp_path: Path) -> None:
    source = legacy_st(tmp_path, KNOWN)
    genes = ["XIST", "X7SK", *KNOWN.genes[2:]]
    text = r_table(genes, ["X" + name for name in SPOTS], KNOWN.counts.T, quote=True)
    (tmp_path / "counts.tsv.gz").write_bytes(gzip.compress(text.encode()))
    table = read_spots("legacy_st", source)
    assert table.genes is not None
    assert table.genes.tolist() == genes


def test_a_fault_in_a_table_of_genes_by_spots_is_still_named(tmp_path: Path) -> None:
    source = legacy_st(tmp_path, KNOWN)
    text = r_table(KNOWN.genes, SPOTS, KNOWN.counts.T - 9, quote=False)
    (tmp_path / "counts.tsv.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(SpotTableError, match=r"negative values .* for gene GENE0 in spot 0x0"):
        read_spots("legacy_st", source)


def test_a_spot_file_with_names_of_rows_is_read(tmp_path: Path) -> None:
    source = legacy_st(tmp_path, KNOWN)
    table = pd.read_csv(tmp_path / "spots.tsv", sep="\t")
    rows = [f'"{i}"\t' + "\t".join(map(str, row)) for i, row in enumerate(table.to_numpy(), 1)]
    (tmp_path / "spots.tsv").write_text("\n".join(['"x"\t"y"\t"pixel_x"\t"pixel_y"', *rows]))
    check(read_spots("legacy_st", source))


@pytest.mark.parametrize("corner", ['"",', ""])
def test_positions_with_names_of_rows_are_read(corner: str, tmp_path: Path) -> None:
    table = positions(KNOWN)
    path = tmp_path / "tissue_positions.csv"
    head = corner + ",".join(f'"{name}"' for name in table)
    rows = [f'"{i}",' + ",".join(map(str, row)) for i, row in enumerate(table.to_numpy(), 1)]
    path.write_text("\n".join([head, *rows]))
    read = read_tissue_positions(path)
    assert read["barcode"].tolist() == table["barcode"].tolist()
    np.testing.assert_array_equal(read.iloc[:, 2:], table.iloc[:, 2:])


TRUTH = [("1", "0"), ("True", "False"), ("TRUE", "FALSE"), ("yes", "no"), ("T", "F"), ("1.0", "0.0")]  # fmt: skip


@pytest.mark.parametrize(("true", "false"), TRUTH)
def test_in_tissue_and_selected_are_understood_however_they_are_written(
    true: str, false: str, tmp_path: Path
) -> None:
    source = space_ranger(tmp_path / "v", KNOWN)
    table = positions(KNOWN)
    table["in_tissue"] = np.where(table["in_tissue"] == 1, true, false)
    table.to_csv(tmp_path / "v" / "spatial" / "tissue_positions.csv", index=False)
    read = read_spots("space_ranger", SpotSource(spots=source.expression))
    assert read.n_spots == 30
    source = legacy_st(tmp_path / "l", KNOWN)
    spots = pd.read_csv(tmp_path / "l" / "spots.tsv", sep="\t")
    spots["selected"] = [false, *[true] * 29]
    spots.to_csv(tmp_path / "l" / "spots.tsv", sep="\t", index=False)
    read = read_spots("legacy_st", source)
    assert read.n_spots == 29
    assert read.dropped["spots not selected in the spot file"] == 1


def test_truth_values_of_parquet_are_understood(tmp_path: Path) -> None:
    table = positions(KNOWN)
    table["in_tissue"] = table["in_tissue"] == 1
    table.to_parquet(tmp_path / "tissue_positions.parquet")
    read = read_tissue_positions(tmp_path / "tissue_positions.parquet")
    assert read["in_tissue"].tolist() == [1] * 30 + [0] * 2


@pytest.mark.parametrize("value", ["maybe", "2", "", "nan"])
def test_other_words_are_refused_with_their_row(value: str, tmp_path: Path) -> None:
    table = positions(KNOWN).astype({"in_tissue": object})
    table.loc[3, "in_tissue"] = value
    table.to_csv(tmp_path / "tissue_positions.csv", index=False)
    with pytest.raises(SpotTableError, match=rf"0 or 1 in column in_tissue .*'{value}' in row 5;"):
        read_tissue_positions(tmp_path / "tissue_positions.csv")


def test_a_row_that_is_too_long_makes_no_table_of_r(tmp_path: Path) -> None:
    (tmp_path / "xy.csv").write_text("x,y\n1,2,3\n4,5\n6,7\n")
    with pytest.raises(SpotTableError, match="expected 2 cells in every row"):
        read_positions(tmp_path / "xy.csv")


# ---------------------------------------------------------------------------------- manifests

HEAD = "section_id,patient_id,slide,expression,format,spots,spot_pitch_um,spot_diameter_um\n"


def _manifest(folder: Path, *rows: str) -> Path:
    (folder / "sections.csv").write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return folder / "sections.csv"


@pytest.mark.parametrize(("stored", "written"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_names_with_accents_are_found_however_they_are_composed(
    stored: str, written: str, tmp_path: Path
) -> None:
    name = "Müller_é"
    folder = tmp_path / unicodedata.normalize(stored, name)
    legacy_st(folder, KNOWN)
    (folder / "s.png").write_bytes(b"x")
    cell = unicodedata.normalize(written, name)
    path = _manifest(tmp_path, f"A,P,{cell}/s.png,{cell}/counts.tsv.gz,legacy_st,{cell}/spots.tsv,100,55")  # fmt: skip
    row = read_manifest(path).rows[0]
    assert row.expression is not None
    assert row.expression.is_file()
    assert read_section(type(row)(**{**vars(row), "slide": None, "mpp": 0.5})).n_spots == 30


def test_one_patient_is_one_however_his_name_is_composed(tmp_path: Path) -> None:
    legacy_st(tmp_path, KNOWN)
    (tmp_path / "s.png").write_bytes(b"x")
    rest = "s.png,counts.tsv.gz,legacy_st,spots.tsv,100,55"
    names = [unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")]
    with pytest.raises(ManifestError, match="one spelling of a patient"):
        read_manifest(_manifest(tmp_path, f"A,{names[0]},{rest}", f"B,{names[1]},{rest}"))
    with pytest.raises(ManifestError, match=r"every id once .*also in row 2"):
        read_manifest(_manifest(tmp_path, f"{names[0]},P,{rest}", f"{names[1]},P,{rest}"))


def test_backslashes_are_separators_where_no_file_has_them_in_its_name(tmp_path: Path) -> None:
    legacy_st(tmp_path / "data", KNOWN)
    (tmp_path / "data" / "s.png").write_bytes(b"x")
    row = r"A,P,data\s.png,.\data\counts.tsv.gz,legacy_st,data\spots.tsv,100,55"
    read = read_manifest(_manifest(tmp_path, row)).rows[0]
    assert read.slide == tmp_path / "data" / "s.png"
    (tmp_path / r"data\s.png").write_bytes(b"y")
    read = read_manifest(_manifest(tmp_path, row)).rows[0]
    assert read.slide == tmp_path / r"data\s.png"


@pytest.mark.parametrize("cell", [r"C:\scans\s.png", "D:/scans/s.png", r"\\server\scans\s.png"])
def test_a_path_of_windows_is_told_as_such(cell: str, tmp_path: Path) -> None:
    legacy_st(tmp_path, KNOWN)
    row = f"A,P,{cell},counts.tsv.gz,legacy_st,spots.tsv,100,55"
    with pytest.raises(ManifestError, match="this is a path of Windows: write where the file lies"):
        read_manifest(_manifest(tmp_path, row))
