"""`hespotex predict` on slides: exit codes, one line an error, a table at the end."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.toy_slide import toy_bundle, toy_predictor, write_slide
from hespotex.cli.main import app
from hespotex.cli.slide_options import slide_options
from hespotex.errors import ConfigError, GeometryError
from hespotex.predicting import executor, many_slides

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(autouse=True)
def _toy_model(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = toy_predictor(toy_bundle())
    for module in (many_slides, executor):
        monkeypatch.setattr(module, "open_predictor", lambda *_args: predictor)


def _predict(source: Path, out: Path, *options: str) -> tuple[int, str, BaseException | None]:
    arguments = ["predict", "toy.hespotex", str(source), "--out", str(out), *options]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output, result.exception


def test_slide_is_predicted_and_its_files_are_named(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a.png")
    options = ("--mpp", "2", "--grid", "square", "--export", "geojson", "--show-genes", "G01,G02",
               "--untested")  # fmt: skip
    code, output, _ = _predict(slide, tmp_path / "out", *options)
    assert code == 0
    assert "done" in output
    for path in ("predictions/a.h5ad", "predictions/a.geojson", "figures/a_overview.png"):
        assert (tmp_path / "out" / path).exists()


def test_folder_with_a_broken_slide_ends_with_exit_code_1(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    write_slide(folder / "a.png")
    (folder / "b.png").write_bytes(b"\x89PNG broken")
    code, output, _ = _predict(folder, tmp_path / "out", "--mpp", "2")
    assert code == 1
    assert "failed" in output
    assert "done" in output


def test_a_packed_slide_in_a_folder_is_named_and_gives_exit_code_1(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    slide = write_slide(folder / "a.png")
    (folder / "b.png.gz").write_bytes(gzip.compress(slide.read_bytes()))
    code, output, _ = _predict(folder, tmp_path / "out", "--mpp", "2")
    assert code == 1
    assert "slides may be in there: b.png.gz; unpack or rename" in " ".join(output.split())


def test_missing_scale_and_files_are_errors_of_one_line(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a.png")
    _, _, error = _predict(slide, tmp_path / "out")
    assert isinstance(error, GeometryError)
    assert "give --mpp" in str(error)
    assert "\n" not in str(error)
    _, _, error = _predict(slide, tmp_path / "out", "--tissue", str(tmp_path / "no.geojson"))
    assert isinstance(error, ConfigError)
    assert "expected a file with --tissue, found nothing at" in str(error)


def test_lists_of_formats_and_genes_are_read_with_commas_and_repeated() -> None:
    options = slide_options(
        tissue=None, spots=None, show_genes="A, B", formats=["parquet,geojson", "png", "parquet"]
    )
    assert options.formats == ("parquet", "geojson", "png")
    assert options.genes == ("A", "B")
    with pytest.raises(ConfigError, match="gif"):
        slide_options(tissue=None, spots=None, show_genes=None, formats=["png,gif"])
