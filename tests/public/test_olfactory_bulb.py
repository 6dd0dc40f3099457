"""The olfactory bulb by name: files as their page gives them become a manifest whose spots lie where the transformation says."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers.web_server import Web, serving
from hespotex.errors import ConfigError, DownloadError
from hespotex.public.fetch import fetch
from hespotex.sections.manifest import read_manifest
from hespotex.spots.base import SpotSource, SpotTable
from hespotex.spots.legacy_st import read_spot_file
from hespotex.spots.registry import read_spots

_AT = "/wp-content/uploads/2016/07"
_COUNTS = b"\tNrf1\tPenk\n16.92x9.015\t1\t0\n10.5x20\t0\t7\n"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with serving() as web:
        monkeypatch.setenv("HESPOTEX_SPATIAL_RESEARCH", web.address)
        yield web


def _publish(
    page: Web, name: str, counts: bytes, image: str, transformation: str, numbers: str
) -> None:
    page.files[f"{_AT}/{name}_MOB_count_matrix-1.tsv"] = counts
    page.files[f"{_AT}/{image}"] = b"jpeg"
    page.files[f"{_AT}/{transformation}"] = numbers.encode()


def _read(manifest: Path) -> SpotTable:
    (row,) = read_manifest(manifest).rows
    assert (row.format, row.spot_pitch_um, row.patient_id) == ("legacy_st", 200.0, "bulb animals")
    return read_spots(row.format, SpotSource(expression=row.expression, spots=row.spots))


@pytest.mark.parametrize(
    ("name", "image", "transformation"),
    [
        ("Rep1", "HE_Rep1.jpg", "Rep1_MOB_transformation.txt"),
        ("Rep2", "HE_Rep2.jpg", "Rep2_MOB_transformaton.txt"),
        ("Rep11", "HE_Rep11_MOB.jpg", "Rep11_MOB_transformation.txt"),
        ("Rep12", "HE_Rep12_MOB.jpg", "Rep12_MOB_transformaton.txt"),
    ],
)
def test_spots_lie_where_the_transformation_says_and_names_are_spelt_as_there(
    page: Web, tmp_path: Path, name: str, image: str, transformation: str
) -> None:
    _publish(page, name, _COUNTS, image, transformation, "290 1 0 2 288 0 -250 -230 1\n")
    table = _read(fetch("bulb", tmp_path / "out", ids=[name]))
    xy = np.array([[16.92, 9.015], [10.5, 20.0]])
    known = np.column_stack([290 * xy[:, 0] + 2 * xy[:, 1] - 250, xy[:, 0] + 288 * xy[:, 1] - 230])
    np.testing.assert_allclose(table.xy_px0, known, atol=0.006)
    assert table.counts is not None
    assert table.counts.toarray().tolist() == [[1, 0], [0, 7]]
    assert list(table.genes) == ["Nrf1", "Penk"]


def test_what_is_no_transformation_or_replicate_is_one_line_and_gets_no_manifest(
    page: Web, tmp_path: Path
) -> None:
    _publish(page, "Rep1", _COUNTS, "HE_Rep1.jpg", "Rep1_MOB_transformation.txt", "1 2 three")
    with pytest.raises(DownloadError, match=r"nine numbers in .*Rep1\.txt, found '1 2 three"):
        fetch("bulb", tmp_path / "out", ids=["Rep1"])
    assert not (tmp_path / "out/sections.csv").exists()
    with pytest.raises(ConfigError, match=r"ids of bulb: Rep1, .*, found 'Rep13'"):
        fetch("bulb", tmp_path / "out", ids=["Rep13"])


def test_a_real_section_comes_back_with_its_spots_in_place(
    shared_data: Path, page: Web, tmp_path: Path
) -> None:
    folder = shared_data / "mob"
    array_xy, xy_px0, _, _ = read_spot_file(folder / "spots/MOB4_selection.tsv")
    fitted = np.linalg.lstsq(np.column_stack([array_xy, np.ones(len(array_xy))]), xy_px0)[0]
    numbers = " ".join(f"{v:.9f}" for v in np.column_stack([fitted, [0, 0, 1]]).ravel())
    counts = gzip.decompress((folder / "counts/MOB4.tsv.gz").read_bytes())
    _publish(page, "Rep4", counts, "HE_Rep4.jpg", "Rep4_MOB_transformation.txt", numbers)
    table = _read(fetch("bulb", tmp_path / "out", ids=["Rep4"]))
    known = dict(zip(map(tuple, array_xy.tolist()), xy_px0.tolist(), strict=True))
    assert table.array_xy is not None
    assert len(table.barcodes) > 200
    there = np.array([known[x, y] for x, y in table.array_xy.tolist()])
    assert np.abs(table.xy_px0 - there).max() < 0.05
