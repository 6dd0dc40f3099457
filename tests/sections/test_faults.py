"""Every broken input ends in one line that says what was expected, what was found, where, what to do.

A table: a small section in three formats with its manifest, and what is done to it. Nothing may end in
another exception, in a file written, or in a silently different result.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.made_sections import KNOWN, h5ad, legacy_st, space_ranger, write_10x_h5
from hespotex.errors import HESpotExError
from hespotex.sections.duplicates import check_distinct
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import Section, read_section

MANIFEST = (
    "section_id,patient_id,slide,expression,format,spots,spot_pitch_um,spot_diameter_um,mpp\n"
    "L,P1,slide.png,legacy/counts.tsv.gz,legacy_st,legacy/spots.tsv,100,55,\n"
    "V,P2,slide.png,visium,space_ranger,,,,0.5\n"
    "A,P3,slide.png,anndata/section.h5ad,h5ad,,100,55,0.5\n"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(180, 255, (1000, 1300, 3), dtype=np.uint8)).save(
        folder / "slide.png"
    )
    legacy_st(folder / "legacy", KNOWN)
    space_ranger(folder / "visium", KNOWN)
    h5ad(folder / "anndata", KNOWN)
    (folder / "sections.csv").write_text(MANIFEST)
    return folder


@pytest.fixture
def tree(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "input")
    return tmp_path / "input"


def read_all(tree: Path) -> list[Section]:
    sections = [read_section(row) for row in read_manifest(tree / "sections.csv").rows]
    check_distinct(sections)
    return sections


def content(folder: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime for path in sorted(folder.rglob("*"))}


Break = Callable[[Path], object]


def manifest(old: str, new: str) -> Break:
    def change(tree: Path) -> None:
        path = tree / "sections.csv"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def packed(name: str, change: Callable[[bytes], bytes]) -> Break:
    def apply(tree: Path) -> None:
        path = tree / name
        path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))

    return apply


def raw(name: str, change: Callable[[bytes], bytes]) -> Break:
    def apply(tree: Path) -> None:
        path = tree / name
        path.write_bytes(change(path.read_bytes()))

    return apply


def table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Break:
    separator = "\t" if ".tsv" in name else ","

    def apply(tree: Path) -> None:
        frame = pd.read_csv(tree / name, sep=separator, dtype=str, keep_default_na=False)
        change(frame).to_csv(tree / name, sep=separator, index=False)

    return apply


def column(name: str, column: str, value: str, row: int = 0) -> Break:
    return table(
        name, lambda t: t.assign(**{column: [*t[column][:row], value, *t[column][row + 1 :]]})
    )


def without(name: str, column: str) -> Break:
    return table(name, lambda t: t.drop(columns=column))


def scaled(
    name: str, columns: tuple[str, str], change: Callable[[Any, Any], tuple[Any, Any]]
) -> Break:
    def apply(t: pd.DataFrame) -> pd.DataFrame:
        x, y = change(t[columns[0]].astype(float), t[columns[1]].astype(float))
        return t.assign(**{columns[0]: x, columns[1]: y})

    return table(name, apply)


def anndata(change: Callable[[Any], object]) -> Break:
    def apply(tree: Path) -> None:
        import anndata as ad

        path = tree / "anndata" / "section.h5ad"
        data = ad.read_h5ad(path)
        change(data)
        data.write_h5ad(path)

    return apply


def factors(**values: object) -> Break:
    def apply(tree: Path) -> None:
        path = tree / "visium" / "spatial" / "scalefactors_json.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


def matrix(**parts: Any) -> Break:
    from dataclasses import replace

    return lambda tree: write_10x_h5(
        tree / "visium" / "filtered_feature_bc_matrix.h5", replace(KNOWN, **parts)
    )


def replaced_by_folder(name: str) -> Break:
    def apply(tree: Path) -> None:
        (tree / name).unlink()
        (tree / name).mkdir()

    return apply


def circle(name: str) -> Break:
    def apply(tree: Path) -> None:
        (tree / name).unlink()
        os.symlink(tree / name, tree / name)

    return apply


SPOTS, COUNTS = "legacy/spots.tsv", "legacy/counts.tsv.gz"
POSITIONS, H5 = "visium/spatial/tissue_positions.csv", "visium/filtered_feature_bc_matrix.h5"
PX = ("pixel_x", "pixel_y")
PXL = ("pxl_col_in_fullres", "pxl_row_in_fullres")

FAULTS: dict[str, tuple[Break, str]] = {
    # manifest
    "manifest: unknown column": (
        manifest("mpp\n", "um_per_px\n"),
        r"column um_per_px: expected one of section_id, .*found",
    ),
    "manifest: no section_id": (manifest("section_id", "x_id"), r"column section_id: expected it"),
    "manifest: no patient_id": (manifest("patient_id", "x_p"), r"column patient_id: expected it"),
    "manifest: no slide": (manifest("slide,", "x_slide,"), r"column slide: expected it"),
    "manifest: empty patient": (manifest("V,P2", "V,"), r"row 3 \(section V\), column patient_id"),
    "manifest: doubled id": (
        manifest("A,P3", "L,P3"),
        r"row 4, column section_id: .*also in row 2",
    ),
    "manifest: id with a slash": (manifest("A,P3", "A/1,P3"), r"can name a file, found 'A/1'"),
    "manifest: no such file": (manifest("counts.tsv", "none.tsv"), r"row 2 .*column expression"),
    "manifest: no such format": (manifest("h5ad,,", "adata,,"), r"column format: .*found 'adata'"),
    "manifest: decimal comma": (manifest(",,,0.5\nA", ',,,"0,5"\nA'), r"column mpp: .*as a dot"),
    "manifest: mpp 0": (manifest(",,,0.5\nA", ",,,0\nA"), r"column mpp: .*above 0, found '0'"),
    "manifest: no spot file": (
        manifest("legacy/spots.tsv", ""),
        r"column spots: .*legacy_st needs",
    ),
    "manifest: semicolons": (manifest(",", ";"), r"found semicolons"),
    "manifest: a row cut": (manifest(",100,55,0.5\n", "\n"), r"row 4: expected 9 cells, found 6"),
    "manifest: empty": (raw("sections.csv", lambda _: b""), r"found an empty file"),
    "manifest: UTF-16": (
        raw("sections.csv", lambda b: b.decode().encode("utf-16")),
        r"found text in UTF-16, .*iconv -f UTF-16LE -t UTF-8 .*sections\.csv > NEW",
    ),
    # counts of legacy ST
    "counts: cut gzip": (raw(COUNTS, lambda b: b[:-20]), r"cut short or damaged .*copy it again"),
    "counts: empty": (raw(COUNTS, lambda _: b""), r"counts\.tsv\.gz, found an empty file"),
    "counts: commas": (packed(COUNTS, lambda b: b.replace(b"\t", b",")), r"separated by tabs"),
    "counts: no position in index": (
        packed(COUNTS, lambda b: b.replace(b"\n0x0", b"\nspot1")),
        r"array position as XxY .*'spot1' in row 2",
    ),
    "counts: NaN": (packed(COUNTS, lambda b: b.replace(b"\t2\t", b"\tnan\t", 1)), r"no numbers"),
    "counts: empty cell": (
        packed(COUNTS, lambda b: b.replace(b"\t2\t", b"\t\t", 1)),
        r"no numbers",
    ),
    "counts: text": (
        packed(COUNTS, lambda b: b.replace(b"\t2\t", b"\tlow\t", 1)),
        r"found 'low' in row 2, gene GENE",
    ),
    "counts: negative": (packed(COUNTS, lambda b: b.replace(b"\t2\t", b"\t-2\t", 1)), r"negative"),
    "counts: fraction": (
        packed(COUNTS, lambda b: b.replace(b"\t2\t", b"\t77.5\t", 1)),
        r"not whole numbers .*77\.5 for gene",
    ),
    "counts: doubled gene": (
        packed(COUNTS, lambda b: b.replace(b"GENE2", b"GENE1")),
        r"every gene once .*\(GENE1\)",
    ),
    "counts: doubled spot": (
        packed(COUNTS, lambda b: b.replace(b"\n1x0", b"\n0x0")),
        r"every spot once .*\(0x0\)",
    ),
    "counts: another section": (
        packed(COUNTS, lambda b: b.replace(b"x", b"7x7")),
        r"none in common .*of this section",
    ),
    "counts: a row cut": (
        packed(COUNTS, lambda b: b[: b.rindex(b"\t")]),
        r"expected 8 cells in every row .*found 7 in row 31",
    ),
    # spot file of legacy ST
    **{
        f"spots: no {name}": (without(SPOTS, name), rf"expected the columns .*add {name}")
        for name in ("x", "y", *PX)
    },
    "spots: semicolons": (raw(SPOTS, lambda b: b.replace(b"\t", b";")), r"expected the columns"),
    "spots: NaN": (column(SPOTS, "pixel_x", "nan", 4), r"column pixel_x .*'nan' in row 6"),
    "spots: no value": (column(SPOTS, "pixel_y", ""), r"column pixel_y .*'' in row 2"),
    "spots: doubled": (column(SPOTS, "x", "1"), r"every spot once .*\(1x0\)"),
    "spots: header alone": (table(SPOTS, lambda t: t.head(0)), r"rows below the header"),
    "spots: latin-1": (raw(SPOTS, lambda b: b + "µ".encode("latin-1")), r"UTF-8 text .*0xb5"),
    "spots: a folder": (
        replaced_by_folder(SPOTS),
        r"column spots: expected a file, found the folder",
    ),
    "spots: a link in a circle": (circle(SPOTS), r"found a link that leads nowhere"),
    # positions against the image
    "positions: swapped": (
        scaled(SPOTS, PX, lambda x, y: (y, x + 150)),
        r"found 10 of 30 outside .*with x and y swapped: swap them",
    ),
    "positions: negative": (scaled(SPOTS, PX, lambda x, y: (x - 200, y)), r"found 5 of 30 outside"),
    "positions: twice too large": (
        scaled(SPOTS, PX, lambda x, y: (2 * x, 2 * y)),
        r"of 30 outside .*in full resolution",
    ),
    "positions: of the hires copy": (
        scaled(POSITIONS, PXL, lambda x, y: (x / 4, y / 4)),
        r"manifest column mpp: 0\.5, .*spot pitch \(100 um = 50 px\): 2 .*4-fold",
    ),
    "image: the hires copy": (
        lambda tree: Image.new("RGB", (325, 250), "white").save(tree / "slide.png"),
        r"of 30 outside .*325 x 250|\(325 x 250 px\), found .* of 30 outside",
    ),
    "image: not an image": (raw("slide.png", lambda _: b"no image"), r"section L: expected "),
    "image: cut short": (
        raw("slide.png", lambda b: b[: len(b) * 6 // 10]),
        r"section L: expected ",
    ),
    "image: a folder": (replaced_by_folder("slide.png"), r"column slide: .*found the folder"),
    # scale
    "scale: mpp wrong by 2": (
        manifest(",,,0.5\nA", ",,,1.0\nA"),
        r"manifest column mpp: 1, .*2-fold",
    ),
    "scale: mpp wrong by 10": (
        manifest(",,,0.5\nA", ",,,5\nA"),
        r"manifest column mpp: 5, .*10-fold",
    ),
    "scale: mpp absurd": (
        manifest(",,,0.5\nA", ",,,1000\nA"),
        r"found 1000 from manifest column mpp",
    ),
    "scale: pitch of another array": (
        manifest("100,55,0.5", "200,55,0.5"),
        r"spot pitch \(200 um = 200 px\): 1 .*2-fold",
    ),
    "scale: pitch against Visium": (
        manifest("space_ranger,,,,", "space_ranger,,200,,"),
        r"one spot pitch, found 200 um in the manifest and 100 um",
    ),
    "scale: nothing known": (
        manifest("100,55,\n", ",55,\n"),
        r"section L: .*set mpp .*spot_pitch_um",
    ),
    "scale: diameter 0": (factors(spot_diameter_fullres=0), r"spot_diameter_fullres above 0"),
    "scale: no JSON": (
        raw("visium/spatial/scalefactors_json.json", lambda b: b[:-5]),
        r"expected JSON in .*scalefactors_json\.json",
    ),
    # Space Ranger
    "visium: no matrix": (lambda tree: (tree / H5).unlink(), r"filtered_feature_bc_matrix\.h5"),
    "visium: no spatial": (
        lambda tree: shutil.rmtree(tree / "visium" / "spatial"),
        r"tissue_positions\.csv or .*column spots",
    ),
    "visium: matrix cut": (raw(H5, lambda b: b[: len(b) // 2]), r"whole feature-barcode matrix"),
    "visium: foreign HDF5": (
        lambda tree: shutil.copy(tree / "anndata" / "section.h5ad", tree / H5),
        r"a feature-barcode matrix in",
    ),
    "visium: another sample": (
        matrix(barcodes=[f"GGGG{i}-1" for i in range(30)]),
        r"none in common .*of this sample",
    ),
    "visium: doubled barcode": (
        matrix(barcodes=[KNOWN.barcodes[1], *KNOWN.barcodes[1:]]),
        r"every spot once .*\(ACGT0001-1\)",
    ),
    "visium: no barcodes": (matrix(barcodes=[], counts=KNOWN.counts[:0]), r"at least one spot"),
    "visium: outside the tissue": (
        table(POSITIONS, lambda t: t.assign(in_tissue=["0"] * 9 + ["1"] * 23)),
        r"found 9 of 30 marked outside",
    ),
    "visium: positions NaN": (
        column(POSITIONS, PXL[0], "nan", 2),
        r"column pxl_col.*'nan' in row 4",
    ),
    "visium: positions empty": (raw(POSITIONS, lambda _: b""), r"found an empty file"),
    "visium: positions with tabs": (
        raw(POSITIONS, lambda b: b.replace(b",", b";")),
        r"expected 6 columns|expected the columns",
    ),
    # h5ad
    "h5ad: cut": (raw("anndata/section.h5ad", lambda b: b[: len(b) // 2]), r"a whole h5ad file"),
    "h5ad: no HDF5": (raw("anndata/section.h5ad", lambda _: b"text"), r"a whole h5ad file"),
    "h5ad: no positions": (anndata(lambda a: a.obsm.clear()), r"obsm\['spatial'\] .*found none"),
    "h5ad: NaN positions": (
        anndata(lambda a: a.obsm.update(spatial=np.where(a.obsm["spatial"] > 900, np.nan, 1))),
        r"expected numbers as positions .*spots without",
    ),
    "h5ad: logged": (
        anndata(lambda a: setattr(a, "X", np.log1p(a.X.toarray()))),
        r"X has already logged values, log1p of counts",
    ),
    "h5ad: scaled to 10,000": (
        anndata(lambda a: setattr(a, "X", a.X.toarray() / np.asarray(a.X.sum(axis=1)) * 1e4)),
        r"X has already scaled values, every spot has a total of 10000",
    ),
    "h5ad: negative": (anndata(lambda a: setattr(a, "X", a.X.toarray() - 3)), r"negative values"),
    "h5ad: only zeros": (anndata(lambda a: setattr(a, "X", a.X * 0)), r"found only zeros"),
    # sections against each other
    "sections: one twice": (
        lambda tree: (tree / "sections.csv").write_text(
            "\n".join(
                [*MANIFEST.splitlines()[:2], MANIFEST.splitlines()[1].replace("L,P1", "M,P9")]
            )
        ),
        r"section M: .*positions and counts of L again as M",
    ),
}


@pytest.mark.slow
def test_the_whole_input_is_read(tree: Path) -> None:
    # the same section three times, so it is the last check that has something against it
    with pytest.raises(HESpotExError, match=r"positions and counts of L again as V"):
        read_all(tree)
    for row in read_manifest(tree / "sections.csv").rows:
        section = read_section(row)
        assert section.n_spots == 30
        assert section.geometry.mpp == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("fault", list(FAULTS))
def test_the_fault_is_named_on_one_line_and_nothing_is_written(tree: Path, fault: str) -> None:
    break_it, message = FAULTS[fault]
    break_it(tree)
    before = content(tree)
    with pytest.raises(HESpotExError, match=message) as caught:
        read_all(tree)
    text = str(caught.value)
    assert "\n" not in text
    assert "expected" in text
    assert "found" in text
    assert content(tree) == before
