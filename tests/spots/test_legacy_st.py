"""Contracts of the legacy ST reader."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hespotex.errors import SpotTableError
from hespotex.spots.base import SpotSource
from hespotex.spots.legacy_st import read, read_counts_tsv

COUNTS = "\tG1\tG2\tG3\n1x1\t0\t2\t5\n2x1\t1\t0\t0\n9x9\t7\t7\t7\n"
SPOTS = (
    "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected\n"
    "2\t1\t2.0\t1.0\t20.5\t10.0\t1\n"
    "1\t1\t1.0\t1.0\t10.5\t11.0\t1\n"
    "3\t1\t3.0\t1.0\t30.5\t12.0\t1\n"
    "4\t1\t4.0\t1.0\t40.5\t13.0\t0\n"
)


def write(folder: Path, counts: str | bytes = COUNTS, spots: str | bytes = SPOTS) -> SpotSource:
    paths = []
    for name, content in (("counts.tsv", counts), ("spots.tsv", spots)):
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        paths.append(path)
    return SpotSource(expression=paths[0], spots=paths[1])


def test_joins_on_array_position_and_counts_the_drops(tmp_path: Path) -> None:
    table = read(write(tmp_path))
    assert table.barcodes.tolist() == ["1x1", "2x1"]
    assert table.xy_px0.tolist() == [[10.5, 11.0], [20.5, 10.0]]
    assert table.array_xy is not None
    assert table.array_xy.tolist() == [[1, 1], [2, 1]]
    assert table.counts is not None
    assert table.counts.toarray().tolist() == [[0, 2, 5], [1, 0, 0]]
    assert table.genes is not None
    assert table.genes.tolist() == ["G1", "G2", "G3"]
    assert table.dropped == {
        "spots not selected in the spot file": 1,
        "counts without a position": 1,
        "positions without counts": 1,
    }


@pytest.mark.parametrize(
    ("counts", "spots"),
    [
        pytest.param(gzip.compress(COUNTS.encode()), SPOTS, id="gzip under a plain name"),
        pytest.param(COUNTS.replace("\n", "\r\n"), SPOTS.replace("\n", "\r\n"), id="windows"),
        pytest.param("\ufeff" + COUNTS, "\ufeff" + SPOTS, id="byte order mark"),
        pytest.param(COUNTS.lstrip("\t"), SPOTS, id="header of R, one cell shorter"),
        pytest.param(
            COUNTS.replace("G1\tG2\tG3", '"G1"\t"G2"\t"G3"').replace("1x1", '"1x1"'),
            SPOTS,
            id="quoted",
        ),
        pytest.param(COUNTS.replace("\t5\n", "\t5.0\n"), SPOTS, id="whole numbers with a dot"),
        pytest.param(COUNTS, SPOTS.replace("\t", ","), id="spot file with commas"),
        pytest.param(COUNTS.rstrip("\n"), SPOTS.rstrip("\n"), id="no line end at the end"),
    ],
)
def test_reads_the_same_however_it_was_saved(
    tmp_path: Path, counts: str | bytes, spots: str
) -> None:
    table = read(write(tmp_path, counts, spots))
    assert table.counts is not None
    assert table.counts.toarray().tolist() == [[0, 2, 5], [1, 0, 0]]
    assert table.genes is not None
    assert table.genes.tolist() == ["G1", "G2", "G3"]
    assert table.barcodes.tolist() == ["1x1", "2x1"]
    assert table.xy_px0.tolist() == [[10.5, 11.0], [20.5, 10.0]]


def test_positions_alone_where_nothing_was_measured(tmp_path: Path) -> None:
    source = write(tmp_path)
    table = read(SpotSource(spots=source.spots))
    assert table.counts is None
    assert table.barcodes.tolist() == ["2x1", "1x1", "3x1"]


@settings(max_examples=30, deadline=None)
@given(
    values=arrays(
        np.int64,
        st.tuples(st.integers(1, 6), st.integers(2, 9)),
        elements=st.one_of(st.integers(0, 12), st.integers(0, 2**31 - 1)),
    ).filter(lambda a: a.any()),
    dot=st.booleans(),
    quoted=st.booleans(),
)
def test_every_table_of_counts_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, dot: bool, quoted: bool
) -> None:
    n, g = values.shape
    quote = '"' if quoted else ""
    lines = ["\t" + "\t".join(f"{quote}G{i}{quote}" for i in range(g))]
    for r, row in enumerate(values):
        cells = [f"{v}.0" if dot else str(v) for v in row]
        lines.append(f"{quote}{r}x3{quote}\t" + "\t".join(cells))
    path = tmp_path_factory.mktemp("counts") / "counts.tsv"
    path.write_text("\n".join(lines))
    names, genes, counts = read_counts_tsv(path)
    assert names == [f"{r}x3" for r in range(n)]
    assert genes == [f"G{i}" for i in range(g)]
    np.testing.assert_array_equal(counts.toarray(), values)


@given(st.binary(max_size=200))
def test_no_bytes_end_in_anything_but_a_spot_table_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("counts.tsv", "spots.tsv"):
        (folder / name).write_bytes(content)
    for source in (
        SpotSource(expression=folder / "counts.tsv", spots=folder / "spots.tsv"),
        SpotSource(spots=folder / "spots.tsv"),
    ):
        with pytest.raises(SpotTableError, match=r"^expected "):
            read(source)
    with pytest.raises(SpotTableError, match=r"^expected "):
        read_counts_tsv(folder / "counts.tsv")


def test_counts_without_spot_file_say_that_one_is_needed(tmp_path: Path) -> None:
    source = write(tmp_path)
    with pytest.raises(SpotTableError, match=r"expected a spot file .*counts\.tsv.* column spots"):
        read(SpotSource(expression=source.expression))


BROKEN_COUNTS = [
    pytest.param("", "counts.tsv, found an empty file", id="empty"),
    pytest.param("\tG1\tG2\n", "expected 3 cells in row 2 .*found 1", id="header alone"),
    pytest.param(COUNTS.replace("\t", ","), "separated by tabs .*save the table", id="commas"),
    pytest.param(COUNTS.replace("G2", "G1"), r"every gene once .*\(G1\)", id="doubled gene"),
    pytest.param(COUNTS.replace("2x1", "1x1"), r"every spot once .*\(1x1\)", id="doubled spot"),
    pytest.param(
        COUNTS.replace("\t5\n", "\t-5\n"),
        "1 negative values .*-5 for gene G3 in spot 1x1",
        id="negative",
    ),
    pytest.param(
        COUNTS.replace("\t5\n", "\t\n"), "1 values that are no numbers .*G3", id="missing cell"
    ),
    pytest.param(COUNTS.replace("\t5\n", "\tNaN\n"), "1 values that are no numbers", id="NaN"),
    pytest.param(
        COUNTS.replace("\t5\n", "\tfive\n"),
        "expected numbers in .*found 'five' in row 2, gene G3",
        id="text",
    ),
    pytest.param(
        COUNTS.replace("\t5\n", "\t55.25\n"),
        "1 values that are not whole numbers .*55.25 for gene G3 in spot 1x1",
        id="fraction",
    ),
    pytest.param(COUNTS.replace("\t5\n", "\n"), "expected 4 cells in row 2 .*found 3", id="short"),
    pytest.param(
        COUNTS.replace("0\t0\n", "0\t0\t8\n"),
        "expected 4 cells in every row .*found 5 in row 3",
        id="long row",
    ),
    pytest.param(
        COUNTS.replace("1x1", "AAAC-1"), "expected the array position .*'AAAC-1' in row 2", id="no"
    ),
    pytest.param("\tG1\tG2\n1x1\t0\t0\n2x1\t0\t0\n", "only zeros", id="zeros"),
    pytest.param(
        "\tG1\tG2\n7x7\t0\t1\n8x8\t2\t0\n", "none in common .*7x7.*2x1", id="other section"
    ),
    pytest.param(gzip.compress(COUNTS.encode())[:-12], "cut short or damaged", id="truncated gzip"),
    pytest.param(b"\tG\xe9\tG2\n1x1\t0\t1\n", "UTF-8 text .*0xe9", id="latin-1"),
]


@pytest.mark.parametrize(("counts", "message"), BROKEN_COUNTS)
def test_broken_counts_are_named(tmp_path: Path, counts: str | bytes, message: str) -> None:
    with pytest.raises(SpotTableError, match=message):
        read(write(tmp_path, counts=counts))


BROKEN_SPOTS = [
    pytest.param("", "spots.tsv, found an empty file", id="empty"),
    *(
        pytest.param(
            SPOTS.replace(name, "other", 1), f"expected the columns .*add {name}", id=f"no {name}"
        )
        for name in ("pixel_x", "pixel_y")
    ),
    pytest.param(SPOTS.replace("x\ty", "a\ty", 1), "expected the columns .*add x", id="no x"),
    pytest.param(SPOTS.replace("x\ty", "x\tb", 1), "expected the columns .*add y", id="no y"),
    pytest.param(
        SPOTS.replace("new_x", "x", 1), "every column once .*found x", id="doubled column"
    ),
    pytest.param(
        SPOTS.replace("20.5", "NaN"), "column pixel_x of .*found 'NaN' in row 2", id="NaN"
    ),
    pytest.param(SPOTS.replace("20.5", ""), "column pixel_x of .*found '' in row 2", id="no value"),
    pytest.param(
        SPOTS.replace("20.5", "20,5"), "column pixel_x of .*found '20,5' in row 2", id="comma"
    ),
    pytest.param(SPOTS.replace("20.5", "inf"), "column pixel_x .*'inf'", id="infinite"),
    pytest.param(SPOTS.replace("3\t1\t3.0", "2\t1\t3.0"), "every spot once .*2x1", id="doubled"),
    pytest.param(SPOTS.replace("\t1\n", "\t0\n"), "found all 4 with selected = 0", id="none"),
    pytest.param(SPOTS.replace("\t1\n", "\t3\n"), "expected 0 or 1 in column selected", id="three"),
    pytest.param(SPOTS.splitlines()[0], "rows below the header", id="header alone"),
    pytest.param(
        SPOTS.replace("10.0\t1", "10.0\t1\t9"), "expected 7 cells in every row", id="long"
    ),
    pytest.param(SPOTS.replace("\t", ";"), "expected the columns", id="semicolons"),
]


@pytest.mark.parametrize(("spots", "message"), BROKEN_SPOTS)
def test_broken_spot_files_are_named(tmp_path: Path, spots: str, message: str) -> None:
    with pytest.raises(SpotTableError, match=message):
        read(write(tmp_path, spots=spots))


def test_real_sections_join_as_described(shared_data: Path) -> None:
    expected = {"B4": (283, 15289, 1), "C2": (187, None, 0), "C3": (180, None, 2)}
    for name, (n_spots, n_genes, unmatched) in expected.items():
        table = read(
            SpotSource(
                expression=shared_data / f"her2st/counts/{name}.tsv.gz",
                spots=shared_data / f"her2st/spots/{name}_selection.tsv",
            )
        )
        assert table.n_spots == n_spots
        assert table.genes is not None
        assert n_genes in (None, len(table.genes))
        assert table.dropped.get("positions without counts", 0) == unmatched
