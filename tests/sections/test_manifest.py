"""Contracts of the manifest: everything that is wrong is said at once, with row and column."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hespotex.errors import ManifestError
from hespotex.sections.manifest import COLUMNS, read_manifest

HEADER = "section_id,patient_id,slide,expression,format,spots,mpp"
GOOD = "A1,P,a.png,c.tsv,legacy_st,s.tsv,0.5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "c.tsv", "s.tsv"):
        (tmp_path / name).write_text("x")
    (tmp_path / "sub folder é").mkdir()
    (tmp_path / "sub folder é" / "a b.png").write_text("x")
    return tmp_path


def write(folder: Path, *lines: str, end: str = "\n", encoding: str = "utf-8") -> Path:
    path = folder / "sections.csv"
    path.write_bytes(end.join([*lines, ""]).encode(encoding))
    return path


def test_a_row_becomes_absolute_paths_and_numbers(folder: Path) -> None:
    manifest = read_manifest(write(folder, HEADER + ",x_batch", GOOD + ",7"))
    (row,) = manifest.rows
    assert (row.section_id, row.patient_id, row.format, row.mpp) == ("A1", "P", "legacy_st", 0.5)
    assert row.slide == folder / "a.png"
    assert row.expression == folder / "c.tsv"
    assert row.spots == folder / "s.tsv"
    assert row.spot_pitch_um is None
    assert row.extra == {"x_batch": "7"}


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_reads_the_same_however_it_was_saved(
    folder: Path, separator: str, end: str, encoding: str
) -> None:
    lines = [line.replace(",", separator) for line in (HEADER, GOOD, "", "")]
    manifest = read_manifest(write(folder, *lines, end=end, encoding=encoding))
    assert manifest.section_ids == ("A1",)
    assert manifest.rows[0].mpp == 0.5


def test_spaces_and_letters_of_any_script_in_paths(folder: Path) -> None:
    path = write(folder, "section_id,patient_id,slide", "Ä 1,P,sub folder é/a b.png")
    (row,) = read_manifest(path).rows
    assert row.slide == folder / "sub folder é" / "a b.png"
    assert not row.has_spots


def test_folders_where_a_format_has_folders(folder: Path) -> None:
    (folder / "outs").mkdir()
    header = "section_id,patient_id,slide,expression,format,spots"
    (row,) = read_manifest(write(folder, header, "A,P,a.png,outs,space_ranger,outs")).rows
    assert row.expression == row.spots == folder / "outs"
    with pytest.raises(ManifestError, match=r"column expression: .*found the folder"):
        read_manifest(write(folder, header, "A,P,a.png,outs,h5ad,"))


def test_sections_are_chosen_by_id_in_the_manifests_order(folder: Path) -> None:
    path = write(folder, HEADER, *(GOOD.replace("A1", name) for name in ("A1", "B", "C")))
    assert read_manifest(path, ["C", "A1"]).section_ids == ("A1", "C")
    with pytest.raises(ManifestError, match="expected sections of A1, B, C, found D asked for"):
        read_manifest(path, ["A1", "D"])
    with pytest.raises(ManifestError, match="an empty list"):
        read_manifest(path, [])


ROWS = [
    pytest.param(
        "A1,P,none.png,c.tsv,legacy_st,s.tsv,", "column slide: expected a file", id="file"
    ),
    pytest.param(
        "A1,P,a.png,none,legacy_st,s.tsv,", "column expression: expected a file", id="none"
    ),
    pytest.param("A1,P,~0,c.tsv,legacy_st,s.tsv,", "column slide: expected a file", id="home"),
    pytest.param(
        "A1,P," + "n" * 300 + ",c.tsv,legacy_st,s.tsv,", "column slide: .*too long", id="long name"
    ),
    pytest.param("A1,P,.,c.tsv,legacy_st,s.tsv,", "column slide: .*found the folder", id="folder"),
    pytest.param(
        "A1,,a.png,c.tsv,legacy_st,s.tsv,", "column patient_id: .*one donor", id="patient"
    ),
    pytest.param(",P,a.png,c.tsv,legacy_st,s.tsv,", "column section_id: .*empty", id="section"),
    pytest.param("A1,P,,c.tsv,legacy_st,s.tsv,", "column slide: .*empty", id="slide"),
    pytest.param("A1,P,a.png,,legacy_st,,", "column expression: .*empty", id="no counts"),
    pytest.param("A1,P,a.png,c.tsv,legacy_st,,", "column spots: .*legacy_st needs", id="no spots"),
    pytest.param("A1,P,a.png,c.tsv,,,", "column expression: expected a format", id="format"),
    pytest.param(
        "A1,P,a.png,c.tsv,visium,s.tsv,", "column format: .*legacy_st.*'visium'", id="odd"
    ),
    pytest.param("A1,P,a.png,c.tsv,hest,s.tsv,", "column spots: applies to .*for hest", id="spots"),
    *(
        pytest.param(
            f"A1,P,a.png,c.tsv,legacy_st,s.tsv,{text}",
            f"column mpp: .*above 0, found '{text}'",
            id=text,
        )
        for text in ("0", "-1", "nan", "inf", "half", "1e999")
    ),
    pytest.param('A1,P,a.png,c.tsv,legacy_st,s.tsv,"0,5"', "found '0,5'; .*a dot", id="comma"),
    pytest.param("a/b,P,a.png,c.tsv,legacy_st,s.tsv,", "can name a file, found 'a/b'", id="slash"),
    pytest.param("..,P,a.png,c.tsv,legacy_st,s.tsv,", "leading dot", id="dots"),
    pytest.param("x" * 151 + ",P,a.png,c.tsv,legacy_st,s.tsv,", "more than 150 bytes", id="long"),
    pytest.param("A1,P,a.png", "row 2: expected 7 cells, found 3", id="short row"),
    pytest.param(GOOD + ",more", "row 2: expected 7 cells, found 8", id="long row"),
]


@pytest.mark.parametrize(("row", "message"), ROWS)
def test_a_wrong_cell_is_named_with_row_and_column(folder: Path, row: str, message: str) -> None:
    with pytest.raises(ManifestError, match=f"row 2.*{message}|{message}") as caught:
        read_manifest(write(folder, HEADER, row))
    assert "row 2" in str(caught.value)
    assert len(caught.value.problems) == 1


HEADERS = [
    *(
        pytest.param(
            HEADER.replace(name, "x_other"), f"column {name}: expected it", id=f"no {name}"
        )
        for name in ("section_id", "patient_id", "slide")
    ),
    pytest.param(HEADER + ",colour", "column colour: expected one of section_id", id="unknown"),
    pytest.param(HEADER + ",x_", "column x_: expected one of", id="x_ without a name"),
    pytest.param(HEADER + ",mpp", "column mpp: expected once, found 2 times", id="doubled"),
    pytest.param(HEADER + ",", r"column \(empty\): expected one of", id="empty"),
    pytest.param(HEADER.replace(",", ";"), "found semicolons", id="semicolons"),
]


@pytest.mark.parametrize(("header", "message"), HEADERS)
def test_a_wrong_header_is_named(folder: Path, header: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifest(write(folder, header, GOOD))


def test_all_problems_come_at_once(folder: Path) -> None:
    path = write(
        folder,
        HEADER,
        "A1,P,none.png,c.tsv,legacy_st,s.tsv,zero",
        "a1,,a.png,c.tsv,legacy_st,s.tsv,",
        "B,P,a.png,c.tsv,legacy_st,,",
    )
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    found = caught.value.problems
    assert len(found) == 5
    for row, column in (
        (2, "slide"),
        (2, "mpp"),
        (3, "patient_id"),
        (3, "section_id"),
        (4, "spots"),
    ):
        assert any(f"row {row}" in p and f"column {column}" in p for p in found), (row, column)
    assert "5 problems" in str(caught.value)
    assert "also in row 2" in str(caught.value)


def test_files_that_are_no_manifest_are_named(folder: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        read_manifest(folder / "none.csv")
    with pytest.raises(ManifestError, match=r"found: Is a directory; give a file in it"):
        read_manifest(folder)
    with pytest.raises(ManifestError, match=r"expected a header .*empty file"):
        read_manifest(write(folder))
    with pytest.raises(ManifestError, match="at least one row below the header"):
        read_manifest(write(folder, HEADER))
    with pytest.raises(ManifestError, match=r"found text in UTF-16.*iconv -f UTF-16LE -t UTF-8"):
        read_manifest(write(folder, HEADER, GOOD, encoding="utf-16"))
    with pytest.raises(ManifestError, match="found a binary file"):
        read_manifest(write(folder, HEADER, GOOD.replace("a.png", "a\0.png")))
    with pytest.raises(ManifestError, match="row 2: expected a CSV row"):
        read_manifest(write(folder, HEADER, '"open'))


def test_links_in_a_circle_and_files_without_permission_are_named(folder: Path) -> None:
    os.symlink(folder / "b.png", folder / "l.png")
    os.symlink(folder / "l.png", folder / "b.png")
    with pytest.raises(ManifestError, match="found a link that leads nowhere"):
        read_manifest(write(folder, HEADER, GOOD.replace("a.png", "l.png")))
    (folder / "c.tsv").chmod(0)
    if os.access(folder / "c.tsv", os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(ManifestError, match="without permission to read"):
        read_manifest(write(folder, HEADER, GOOD))


def test_the_given_manifests_work_as_they_are(shared_data: Path) -> None:
    her2st = read_manifest(shared_data / "her2st" / "sections.csv")
    assert her2st.section_ids == ("B4", "C2", "C3", "C4")
    assert {row.patient_id for row in her2st.rows} == {"B", "C"}
    assert {row.spot_pitch_um for row in her2st.rows} == {200.0}
    mob = read_manifest(shared_data / "mob" / "sections.csv", ["MOB9"])
    assert mob.rows[0].labels is not None
    assert mob.rows[0].labels.name == "MOB9.tsv"


@pytest.mark.slow
@given(
    st.lists(st.lists(st.text(max_size=8), max_size=5), max_size=5),
    st.sampled_from([",", "\t", ";"]),
    st.booleans(),
)
def test_no_text_ends_in_anything_but_a_manifest_error(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]], separator: str, header: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "m.csv"
    lines = [separator.join(COLUMNS)] if header else []
    lines += [separator.join(row) for row in cells]
    path.write_bytes("\n".join(lines).encode("utf-8", errors="replace"))
    with pytest.raises(ManifestError):
        read_manifest(path)
