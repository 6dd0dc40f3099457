"""The verbs `inspect` and `convert`: exit codes, JSON, pictures, files that read back equal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.inspected_sections import SIZE, shape, spots_on, write_legacy, write_manifest
from hespotex.cli.main import app
from hespotex.geometry import orient
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import read_section


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A right section A and a section B with its positions turned by 180 degrees."""
    xy = spots_on(shape())
    turned = orient(xy, "turned by 180 degrees", SIZE)
    rows = [
        write_legacy(tmp_path, "A", xy),
        write_legacy(tmp_path, "B", turned, seed=1, true_xy_px0=xy),
    ]
    return write_manifest(tmp_path, rows)


@pytest.mark.slow
def test_the_exit_code_is_the_verdict(manifest: Path) -> None:
    code, shown = invoke("inspect", manifest, "--sections", "A")
    assert code == 0
    assert "sections.csv (manifest): green" in shown
    code, shown = invoke("inspect", manifest, "--quiet")
    assert code == 2
    assert "wrong" in shown
    assert "raw counts" not in shown  # green lines are left out
    code, shown = invoke("inspect", manifest.parent / "A.png")
    assert code == 2
    assert "give --mpp" in shown


@pytest.mark.slow
def test_json_holds_the_same_findings(manifest: Path) -> None:
    code, shown = invoke("inspect", manifest, "--json")
    values = json.loads(shown)
    assert (values["exit_code"], values["verdict"]) == (code, "red") == (2, "red")
    assert [s["verdict"] for s in values["sections"]] == ["green", "red"]
    first = values["sections"][0]
    assert first["mpp"] == pytest.approx(2.5)
    assert list(first["mpp_sources"].values()) == pytest.approx([2.5])
    assert first["share_of_spots_on_tissue"] > 0.97
    assert {"topic", "level", "found", "remedy", "colour"} <= set(first["findings"][0])


@pytest.mark.slow
def test_pictures_and_record_of_every_section_are_written(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "preflight"
    assert invoke("inspect", manifest, "--out", out)[0] == 2
    names = {p.name for p in out.iterdir()}
    assert names == {"inspection.json", "A.png", "A_patches.png", "B.png", "B_patches.png"}
    for name in names - {"inspection.json"}:
        with Image.open(out / name) as image:
            assert min(image.size) > 500
    assert str(tmp_path) not in (out / "inspection.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["A.h5ad", "A.zarr"])
@pytest.mark.filterwarnings("ignore")  # of spatialdata's own imports
def test_a_converted_section_is_read_back_by_the_printed_row(
    manifest: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    code, shown = invoke("convert", manifest, "--section", "A", "--out", out, "--quiet")
    assert code == 0
    (row,) = csv.DictReader(io.StringIO(shown))
    copied = write_manifest(tmp_path, [row])
    before = read_section(read_manifest(_legacy(tmp_path)).rows[0])
    after = read_section(read_manifest(copied).rows[0])
    assert (before.counts != after.counts).nnz == 0
    assert (before.xy_px0 == after.xy_px0).all()
    assert before.geometry.mpp == after.geometry.mpp


def _legacy(folder: Path) -> Path:
    path = folder / "legacy.csv"
    row = write_legacy(folder, "A", spots_on(shape()))
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, row)
        writer.writeheader()
        writer.writerow(row)
    return path


def test_a_section_has_to_be_chosen_and_the_ending_known(manifest: Path, tmp_path: Path) -> None:
    from hespotex.errors import HESpotExError

    with pytest.raises(HESpotExError, match=r"found none chosen; use --section ID"):
        invoke("convert", manifest, "--out", tmp_path / "a.h5ad")
    with pytest.raises(HESpotExError, match=r"ends with \.h5ad or \.zarr, found a\.csv"):
        invoke("convert", manifest, "--section", "A", "--out", tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()
