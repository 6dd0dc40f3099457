"""Public data by name: what a server of the real services' shape gives becomes a manifest that runs can use."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pyzipper

from helpers.commands import command, refusal
from helpers.hub_server import as_hub, hub_data_set, refusing
from helpers.made_sections import KNOWN, hest, space_ranger
from helpers.web_server import Web, serving
from hespotex.errors import ConfigError, DownloadError, ManifestError
from hespotex.public import her2st, ten_x
from hespotex.public.archives import untar, unzip
from hespotex.public.data_set import write_manifest
from hespotex.public.fetch import DATA_SETS, fetch
from hespotex.sections.manifest import read_manifest

_SECTIONS = ("B4", "C2")


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


@pytest.fixture
def zenodo(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    """The record as Zenodo tells it, with the archives' layout and encryption, of tiny made files."""
    content = {f"count-matrices/{s}.tsv.gz": f"counts {s}".encode() for s in _SECTIONS}
    images = {f"images/HE/{s}.jpg": f"image {s}".encode() for s in _SECTIONS}
    images |= {f"images/annotation/{s}.jpg": b"outlines" for s in _SECTIONS}
    spots = {f"spot-selections/{s}_selection.tsv.gz": f"spots {s}".encode() for s in _SECTIONS}
    archives = {
        "count-matrices.zip": _encrypted(content, b"zNLXkYk3Q9znUseS"),
        "images.zip": _encrypted(images, b"zNLXkYk3Q9znUseS"),
        "spot-selections.zip": _encrypted(spots, b"yUx44SzG6NdB32gY"),
    }
    _publish(web, archives)
    monkeypatch.setenv("HESPOTEX_ZENODO", web.address)
    monkeypatch.setattr(her2st, "SECTIONS", _SECTIONS)
    return web


@pytest.fixture
def hub(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    return as_hub(web, monkeypatch, tmp_path / "hub")


def _encrypted(members: dict[str, bytes], password: bytes) -> bytes:
    buffer = io.BytesIO()
    with pyzipper.AESZipFile(
        buffer, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES
    ) as archive:
        archive.setpassword(password)
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _publish(web: Web, archives: dict[str, bytes]) -> None:
    files = []
    for name, content in archives.items():
        web.files[f"/files/{name}"] = content
        files.append(
            {"key": name, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
             "links": {"self": web.url(f"/files/{name}")}}
        )  # fmt: skip
    record = {"id": her2st.RECORD, "files": files, "metadata": {"license": {"id": "cc-by-4.0"}}}
    web.files[f"/api/records/{her2st.RECORD}"] = json.dumps(record).encode()


def test_every_data_set_says_its_licence_size_and_patients() -> None:
    listed = command("fetch").stdout
    for name, data_set in DATA_SETS.all().items():
        assert name in listed
        assert data_set.licence.startswith("none stated" if name == "bulb" else "CC BY")
    assert "gated" in " ".join(listed.split())
    assert DATA_SETS.all()["10x"].patients == "4 people, 1 mouse"
    assert len({s.patient for s in ten_x.SAMPLES}) == 5
    said = refusal(command("fetch", "10x"))
    assert all(sample.name in said for sample in ten_x.SAMPLES)


def test_a_record_of_zenodo_becomes_a_manifest(zenodo: Web, tmp_path: Path) -> None:
    manifest = read_manifest(fetch("her2st", tmp_path / "out", ids=["C2"]))
    (row,) = manifest.rows
    assert (row.section_id, row.patient_id, row.format) == ("C2", "C", "legacy_st")
    assert row.expression is not None
    assert row.expression.read_bytes() == b"counts C2"
    assert (
        Path(row.slide or "").read_bytes() == b"image C2"
    )  # and not the outlines of the same name
    asked = len(zenodo.asked)
    both = read_manifest(fetch("her2st", tmp_path / "out", ids=["B4"]))
    assert both.section_ids == ("C2", "B4")
    assert [path for path, _ in zenodo.asked[asked:]] == [f"/api/records/{her2st.RECORD}"]


@pytest.mark.slow
def test_the_real_sections_come_back_as_they_are(
    shared_data: Path, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "her2st"
    counts = {f"x/{s}.tsv.gz": (folder / f"counts/{s}.tsv.gz").read_bytes() for s in _SECTIONS}
    images = {f"x/HE/{s}.jpg": (folder / f"images/{s}.jpg").read_bytes() for s in _SECTIONS}
    spots = {
        f"{s}_selection.tsv": (folder / f"spots/{s}_selection.tsv").read_bytes() for s in _SECTIONS
    }
    _publish(
        web,
        {
            "count-matrices.zip": _encrypted(counts, b"zNLXkYk3Q9znUseS"),
            "images.zip": _encrypted(images, b"zNLXkYk3Q9znUseS"),
            "spot-selections.zip": _encrypted(spots, b"yUx44SzG6NdB32gY"),
        },
    )
    monkeypatch.setenv("HESPOTEX_ZENODO", web.address)
    done = command("fetch", "her2st", "--ids", "B4,C2", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "CC BY 4.0" in done.output
    from hespotex.sections.section import read_section

    for row, known in zip(
        read_manifest(tmp_path / "out" / "sections.csv").rows,
        read_manifest(folder / "sections.csv", _SECTIONS).rows,
        strict=True,
    ):
        a, b = read_section(row), read_section(known)
        assert (a.section_id, a.patient_id) == (b.section_id, b.patient_id)
        assert (a.counts != b.counts).nnz == 0
        np.testing.assert_array_equal(a.xy_um, b.xy_um)


def test_an_archive_that_was_changed_on_its_way_is_refused_and_no_manifest_is_written(
    zenodo: Web, tmp_path: Path
) -> None:
    content = zenodo.files["/files/images.zip"]
    zenodo.files["/files/images.zip"] = content[:-1] + bytes([content[-1] ^ 1])
    said = refusal(command("fetch", "her2st", "--out", tmp_path / "out"))
    assert "images.zip, as its publisher states" in said
    assert not (tmp_path / "out" / "sections.csv").exists()


def test_another_password_is_one_line(
    zenodo: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(her2st, "_SPOTS", b"another")
    with pytest.raises(
        DownloadError, match=r"a whole zip file in .*spot-selections.zip, found: .*password"
    ):
        fetch("her2st", tmp_path / "out")


@pytest.mark.parametrize("content", [b"name;slide\nA;a.svs\n", b"", b"\xff\xfe\x00"])
def test_a_table_of_somebody_else_in_the_folder_is_told_before_anything_is_fetched(
    zenodo: Web, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "sections.csv").write_bytes(content)
    line = refusal(command("fetch", "her2st", "--out", tmp_path))
    assert "a manifest of fetch" in line
    assert (tmp_path / "sections.csv").read_bytes() == content
    assert zenodo.asked == []


def test_a_manifest_that_does_not_fit_gets_no_name(zenodo: Web, tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        write_manifest(tmp_path, [{"section_id": "A", "slide": "none.svs"}])
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_another_shape_or_without_a_file_is_said(zenodo: Web, tmp_path: Path) -> None:
    page = f"/api/records/{her2st.RECORD}"
    record = json.loads(zenodo.files[page])
    zenodo.files[page] = json.dumps({**record, "files": record["files"][1:]}).encode()
    with pytest.raises(
        DownloadError,
        match=r"expected count-matrices.zip in record 3957257 of Zenodo, found images",
    ):
        fetch("her2st", tmp_path / "out")
    zenodo.files[page] = b'{"status": "maintenance"}'
    with pytest.raises(DownloadError, match="files with key, links, size and checksum"):
        fetch("her2st", tmp_path / "out")
    zenodo.files[page] = b"<html>"
    with pytest.raises(DownloadError, match="expected JSON from"):
        fetch("her2st", tmp_path / "out")


def test_unknown_names_and_ids_are_said_with_what_is_known(zenodo: Web, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a data set of her2st, bulb, hest, 10x, found 'her2'"):
        fetch("her2", tmp_path)
    with pytest.raises(ConfigError, match=r"ids of her2st: B4, C2, found 'Z9'"):
        fetch("her2st", tmp_path, ids=["C2", "Z9"])
    with pytest.raises(ConfigError, match=r"expected --ids of hest: TENX95"):
        fetch("hest", tmp_path)


def _hest_files(tmp_path: Path) -> dict[str, bytes]:
    hest(tmp_path / "made", KNOWN)
    st = (tmp_path / "made" / "st" / "X.h5ad").read_bytes()
    metadata = (tmp_path / "made" / "metadata" / "X.json").read_bytes()
    table = (
        "id,organ,oncotree_code,species,st_technology,dataset_title,patient\n"
        "T1,Breast,IDC,Homo sapiens,Visium,Study one,Patient 1\n"
        "T2,Breast,ILC,Homo sapiens,Visium,Study two,Patient 1\n"
        "T3,Bowel,COAD,Homo sapiens,Visium,Study two,\n"
        "T4,Bowel,COAD,Homo sapiens,Visium,Study two,\n"
    )
    files = {"HEST_v1_0_0.csv": b"id,organ\nOLD,Breast\n", "HEST_v1_3_0.csv": table.encode()}
    for one in ("T1", "T2", "T3", "T4"):
        files |= {f"st/{one}.h5ad": st, f"metadata/{one}.json": metadata, f"wsis/{one}.tif": b"II*"}
    return files


@pytest.mark.slow
def test_samples_of_hest_come_by_id_organ_or_code_with_patients_that_no_fold_splits(
    hub: Web, tmp_path: Path
) -> None:
    hub_data_set(hub, "MahmoodLab/hest", _hest_files(tmp_path))
    out = tmp_path / "out"
    assert read_manifest(fetch("hest", out, ids=["T1"])).section_ids == ("T1",)
    rows = read_manifest(fetch("hest", out, ids=["coad", "ILC"])).rows
    assert [r.section_id for r in rows] == ["T1", "T2", "T3", "T4"]
    patients = [r.patient_id for r in rows]
    assert patients[0] != patients[1]  # both are called Patient 1, of two studies
    assert patients[2] == patients[3]  # not told: they may be one
    assert not (out / "wsis" / "OLD.tif").exists()
    with pytest.raises(ConfigError, match=r"organs: Bowel, Breast\), found 'lung'"):
        fetch("hest", out, ids=["Lung"])


def test_a_gated_set_says_where_its_terms_are_accepted(hub: Web, tmp_path: Path) -> None:
    """The hub tells everybody what the set holds; files it gives only to whom its terms are accepted by."""
    hub_data_set(hub, "MahmoodLab/hest", {"HEST_v1_3_0.csv": b"id,organ\nT1,Breast\n"})
    gated = "/api/datasets/MahmoodLab/hest/auth-check"
    hub.routes["GET", gated] = refusing(401, "GatedRepo", "Access is restricted")
    said = refusal(command("fetch", "hest", "--ids", "T1", "--out", tmp_path / "out"))
    assert "it is gated; accept its terms on https://huggingface.co/datasets/MahmoodLab/h" in said
    assert not any("resolve" in path for path, _ in hub.asked)


def test_a_sample_of_10x_is_read_by_the_reader_of_its_kind(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_TEN_X", web.address)
    name = "V1_Human_Lymph_Node"
    at, made = f"/samples/spatial-exp/1.1.0/{name}/{name}", tmp_path / "made"
    space_ranger(made, KNOWN)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(made / "spatial", "spatial")
    web.files[f"{at}_spatial.tar.gz"] = packed.getvalue()
    web.files[f"{at}_filtered_feature_bc_matrix.h5"] = (
        made / "filtered_feature_bc_matrix.h5"
    ).read_bytes()
    web.files[f"{at}_image.tif"] = b"II*"  # a reader never opens a slide
    for _ in range(2):  # what is here is not asked for again
        manifest = fetch("10x", tmp_path / "out", ids=[name])
    (row,) = read_manifest(manifest).rows
    from hespotex.spots.base import SpotSource
    from hespotex.spots.registry import read_spots

    table = read_spots(row.format, SpotSource(expression=row.expression))
    assert table.counts is not None
    assert table.counts.sum() == KNOWN.counts.sum()
    assert len(web.asked) == 3


def test_no_member_of_an_archive_is_written_outside(tmp_path: Path) -> None:
    packed = tmp_path / "a.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        info = tarfile.TarInfo("../outside.txt")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(DownloadError, match="a whole tar file in"):
        untar(packed, tmp_path / "in" / "unpacked")
    assert not list(tmp_path.rglob("outside.txt"))
    assert not (tmp_path / "in" / "unpacked").exists()


def test_a_zip_that_is_cut_short_leaves_no_member(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_encrypted({"a": b"x" * 9999}, b"secret")[:-30])
    with pytest.raises(DownloadError, match=r"a whole zip file in .*; delete it and run again"):
        unzip(path, lambda _: tmp_path / "out", b"secret")
    assert not (tmp_path / "out").exists()
