"""Contracts of what a file is told to be: by its bytes, in every reader, with a command that works; real files pass."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from imagecodecs import zstd_encode
from PIL import Image

from helpers.made_sections import (
    KNOWN,
    h5ad,
    legacy_st,
    positions,
    space_ranger,
    write_10x_h5,
    write_mtx,
)
from hespotex.cli.options import read_genes
from hespotex.config import RunConfig
from hespotex.errors import HESpotExError, SpotTableError
from hespotex.features.foreign_h5 import read_features_file
from hespotex.genes.gene_sets import read_gmt
from hespotex.models.bundle import read_model
from hespotex.nuclei.masks import open_mask
from hespotex.sections.manifest import read_manifest
from hespotex.slide import open_slide
from hespotex.slide.tissue_outline import read_tissue
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots
from hespotex.spots.space_ranger import read_positions
from hespotex.spots.ten_x import read_matrix
from hespotex.spots.text import read_parquet
from hespotex.storage.file_kinds import HEAD_BYTES, kind_of, missing_bytes, mistaken_kind

TEXT = b"gene\tcount\n" + b"".join(b"GENE%d\t%d\n" % (i, i) for i in range(300))
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def tar(content: bytes, mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        entry = tarfile.TarInfo("counts.tsv")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("counts.tsv", content)
    return stream.getvalue()


def workbook() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    return stream.getvalue()


MADE: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(TEXT), r"a file packed by gzip; unpack it: gunzip -c .* > UNPACKED"),
    "bzip2": (bz2.compress(TEXT), r"packed by bzip2; unpack it: bunzip2 -c .* > UNPACKED"),
    "xz": (lzma.compress(TEXT), r"packed by xz; unpack it: unxz -c .* > UNPACKED"),
    "zstd": (bytes(zstd_encode(TEXT)), r"packed by zstd; unpack it: unzstd -c .* > UNPACKED"),
    "zip": (zipped(TEXT), r"an archive \(zip\); unpack it: unzip "),
    "tar": (tar(TEXT), r"an archive \(tar\); unpack it: tar -xf "),
    "tar.gz": (tar(TEXT, "w:gz"), r"an archive \(tar\); unpack it: tar -xf "),
    "excel": (workbook(), r"an Excel workbook; save it as CSV UTF-8"),
    "web page": (PAGE, r"a web page \(HTML\); open it in a browser"),
    "xml page": (b'<?xml version="1.0"?>\n<html/>', r"a web page"),
    "denied": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied', r"a server's error message"),
    "rds": (
        gzip.compress(b"X\n\0\0\0\3\0\4\2\1\0\3\5\0\0\0\0\5UTF-8"),
        r"an object of R \(\.rds, \.RData\); write its counts from R: Matrix::writeMM",
    ),
    "RData": (gzip.compress(b"RDX3\nX\n\0\0\0\3\0\4\2\1"), r"an object of R"),
    "git-lfs": (POINTER, r"a pointer of Git LFS, not the file itself; .*git lfs pull"),
    "git-annex": (b"/annex/objects/SHA256E-s9--a.h5\n", r"pointer of git-annex.*git annex get"),
    "empty": (b"", r"an empty file; copy or make it again"),
    "utf-16": (TEXT.decode().encode("utf-16"), r"text in UTF-16, .*iconv -f UTF-16LE -t UTF-8 "),
    "utf-16 without mark": (TEXT.decode().encode("utf-16-be"), r"iconv -f UTF-16BE -t UTF-8 "),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MADE))
def test_the_kind_is_told_by_the_bytes_and_says_what_to_do(name: str, tmp_path: Path) -> None:
    content, message = MADE[name]
    path = tmp_path / "counts"
    path.write_bytes(content)
    kind = kind_of(content[:HEAD_BYTES])
    assert kind is not None
    with pytest.raises(SpotTableError, match=message):
        raise SpotTableError(expected="text", **kind.fields(path))


@pytest.mark.parametrize(
    ("name", "ending"),
    [("gzip", ".gz"), ("gzip", ""), ("bzip2", ".bz2"), ("bzip2", ""), ("xz", ".xz"), ("xz", ""), ("tar.gz", ".tgz"),
     ("tar", ".tar"), ("utf-16", ".txt"), ("utf-16 without mark", ".txt"), ("zip", ".zip")],
)  # fmt: skip
def test_the_command_makes_the_text_of_it(name: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / "my files").mkdir()
    path = tmp_path / "my files" / f"counts{ending}"
    path.write_bytes(MADE[name][0])
    kind = mistaken_kind(path) or kind_of(path.read_bytes()[:HEAD_BYTES])
    assert kind is not None
    command = kind.remedy_for(path).partition(": ")[2]
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not on this machine")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    made = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p != path]
    assert [text.removeprefix(b"\xef\xbb\xbf") for text in made] == [TEXT]


@pytest.mark.parametrize(
    "content",
    [TEXT, b"PAR1\tF2R\n", b"BZH\nBZW1\n", b"PKM\nPKP1\n", b"II*\n", b"ustar" * 100, b"x" * 257 + b"ustar",
     b"\xef\xbb\xbfgene\n", "gène\n".encode(), b"\n", b"{}", b"0\t0\n", b"<DataObject ObjectType='DPUfsImport'>",
     b"%%MatrixMarket matrix coordinate integer general\n", b"version 1\n", b"\x00" * 600],
)  # fmt: skip
def test_text_and_what_is_unknown_are_let_pass(content: bytes) -> None:
    assert kind_of(content[:HEAD_BYTES]) is None


def test_real_files_of_every_reader_are_let_pass(tmp_path: Path, shared_data: Path) -> None:
    h5ad(tmp_path, KNOWN)
    write_10x_h5(tmp_path / "m.h5", KNOWN)
    positions(KNOWN).to_csv(tmp_path / "p.csv")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    np.save(tmp_path / "a.npy", np.zeros((3, 3), np.int32))
    files = [p for p in (*tmp_path.iterdir(), *(shared_data / "wsi").iterdir()) if p.is_file()]
    assert len(files) > 8
    told = {p.name: kind.name for p in files if (kind := mistaken_kind(p)) and p.suffix != ".md"}
    assert told == {}


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "10x": ("m.h5", read_matrix),
    "h5ad": ("a.h5ad", lambda p: read_spots("h5ad", SpotSource(expression=p))),
    "spatialdata": ("s.zarr", lambda p: read_spots("spatialdata", SpotSource(expression=p))),
    "parquet": ("t.parquet", read_parquet),
    "features": ("f.h5", lambda p: read_features_file(p, KNOWN.xy_px0)),
    "slide": ("s.svs", open_slide),
    "mask": ("m.tif", lambda p: open_mask(p, (9, 9), 0.5)),
    "model": ("m.hespotex", read_model),
}
TEXTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "positions": ("p.csv", read_positions),
    "manifest": ("m.csv", read_manifest),
    "genes": ("g.txt", read_genes),
    "gene sets": ("s.gmt", read_gmt),
    "tissue": ("t.geojson", read_tissue),
    "config": ("c.toml", RunConfig.from_toml),
}
HINTS = {
    "zip": "unzip",
    "tar.gz": "tar -xf",
    "web page": "web page",
    "git-lfs": "git lfs pull",
    "excel": "workbook",
    "utf-16": "iconv|UTF-16",
    "zstd": "unzstd",
}


@pytest.mark.parametrize("kind", list(HINTS))
@pytest.mark.parametrize("reader", [*READERS, *TEXTS])
def test_every_reader_names_the_kind_and_never_asks_for_another_copy(
    reader: str, kind: str, tmp_path: Path
) -> None:
    name, read = (READERS | TEXTS)[reader]
    (tmp_path / name).write_bytes(MADE[kind][0])
    with pytest.raises(HESpotExError, match=HINTS[kind]) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert "copy it again" not in str(caught.value)


@pytest.mark.parametrize("reader", list(READERS))
def test_packed_data_are_named_with_the_command_that_unpacks_them(
    reader: str, tmp_path: Path
) -> None:
    name, read = READERS[reader]
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(b"anything"))
    shutil.copy(path, tmp_path / name)
    with pytest.raises(HESpotExError, match=r"packed by gzip.*gunzip|nuclei mask of \.npy"):
        read(path)
    with pytest.raises(HESpotExError, match=r"packed by gzip.*unpack it: gunzip -c .* > UNPACKED"):
        read(tmp_path / name)


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("ending", list(PACKERS))
def test_packed_text_is_read_as_it_is(ending: str, tmp_path: Path) -> None:
    source = legacy_st(tmp_path / "legacy", KNOWN)
    assert source.expression is not None
    counts = gzip.decompress(source.expression.read_bytes())
    packed = tmp_path / f"counts.tsv{ending}"
    packed.write_bytes(PACKERS[ending](counts))
    table = read_spots("legacy_st", SpotSource(expression=packed, spots=source.spots))
    assert table.counts is not None
    np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts)
    outs = write_mtx(tmp_path / "mtx", KNOWN, packed=False)
    for path in list(outs.iterdir()):
        path.with_name(path.name + ending).write_bytes(PACKERS[ending](path.read_bytes()))
        path.unlink()
    space_ranger(tmp_path / "outs", KNOWN)
    place = SpotSource(expression=outs, spots=tmp_path / "outs" / "spatial")
    table = read_spots("space_ranger", place)
    assert table.counts is not None
    np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts)


def test_a_matrix_given_by_its_file_takes_the_names_of_its_sample(tmp_path: Path) -> None:
    space_ranger(tmp_path / "outs", KNOWN)
    spots = tmp_path / "outs" / "spatial"
    for sample in ("GSM1_", "GSM2_"):
        write_mtx(tmp_path / "raw", KNOWN, prefix=sample)
    source = SpotSource(expression=tmp_path / "raw" / "GSM2_matrix.mtx.gz", spots=spots)
    table = read_spots("space_ranger", source)
    assert table.counts is not None
    np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts)
    (tmp_path / "raw" / "GSM2_barcodes.tsv.gz").unlink()
    with pytest.raises(SpotTableError, match=r"GSM2_barcodes\.tsv .*; put the three into one"):
        read_spots("space_ranger", source)


@pytest.mark.parametrize("name", ["filtered_feature_bc_matrix.h5.gz", "filtered_feature_bc_matrix.tar.gz"])  # fmt: skip
def test_a_packed_matrix_in_its_folder_is_named(name: str, tmp_path: Path) -> None:
    source = space_ranger(tmp_path / "outs", KNOWN)
    plain = tmp_path / "outs" / "filtered_feature_bc_matrix.h5"
    pack = tar if ".tar" in name else gzip.compress
    (tmp_path / "outs" / name).write_bytes(
        gzip.compress(pack(plain.read_bytes())) if ".tar" in name else pack(plain.read_bytes())
    )
    plain.unlink()
    with pytest.raises(SpotTableError, match=rf"unpack it: (gunzip|tar -xf) .*{name}"):
        read_spots("space_ranger", source)


def test_only_what_is_cut_short_is_to_be_copied_again(tmp_path: Path) -> None:
    h5ad(tmp_path, KNOWN)
    pd.DataFrame({"a": range(99)}).to_parquet(tmp_path / "t.parquet")
    readers: dict[str, Callable[[Path], object]] = {
        "section.h5ad": lambda p: read_spots("h5ad", SpotSource(expression=p)),
        "t.parquet": read_parquet,
    }
    for name, read in readers.items():
        content = (tmp_path / name).read_bytes()
        assert missing_bytes(tmp_path / name) is None
        (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
        assert missing_bytes(tmp_path / name) is not None
        with pytest.raises(SpotTableError, match=r"cut short: .*; copy it again"):
            read(tmp_path / name)
    foreign = ad.AnnData(np.ones((3, 2), np.float32))
    foreign.write_h5ad(tmp_path / "whole.h5ad")
    (tmp_path / "whole.h5ad").write_bytes(
        (tmp_path / "whole.h5ad").read_bytes().replace(b"HEAP", b"XXXX").replace(b"TREE", b"XXXX")
    )
    with pytest.raises(SpotTableError, match=r"cannot be read .*; compare it with the original"):
        read_spots("h5ad", SpotSource(expression=tmp_path / "whole.h5ad"))


def test_positions_are_told_by_their_bytes_not_by_their_name(tmp_path: Path) -> None:
    table = positions(KNOWN)
    table.to_csv(tmp_path / "tissue_positions.parquet", index=False)
    table.to_parquet(tmp_path / "tissue_positions.csv")
    for ending in ("csv", "parquet"):
        read = read_positions(tmp_path / f"tissue_positions.{ending}")
        assert read["barcode"].tolist() == table["barcode"].tolist()
    with pytest.raises(SpotTableError, match=r"none\.parquet, found.*No such file"):
        read_positions(tmp_path / "none.parquet")


def test_a_matrix_of_another_name_is_told_how_to_name_it(tmp_path: Path) -> None:
    (tmp_path / "GSM1_counts.mtx.gz").write_bytes(gzip.compress(b"%%MatrixMarket"))
    with pytest.raises(SpotTableError, match=r"SAMPLE_matrix\.mtx .*GSM1_counts\.mtx\.gz; rename"):
        read_matrix(tmp_path / "GSM1_counts.mtx.gz")
