"""The verdict of the preflight is what runs do: red stops them, yellow does not; `convert` asks it, too."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.feature_cohort import SMALL, toy_items, write_cohort
from helpers.inspected_sections import (
    SIZE,
    paint,
    save,
    shape,
    spots_on,
    write_legacy,
    write_manifest,
)
from helpers.made_sections import KNOWN, h5ad, space_ranger
from hespotex import pipeline
from hespotex.cli.main import app
from hespotex.config import Machine
from hespotex.errors import GeometryError, HESpotExError
from hespotex.geometry import orient
from hespotex.inspection import inspect_input
from hespotex.predicting.layout import _scale
from hespotex.progress import Silent
from hespotex.sections.section import ManifestRow, read_section
from hespotex.slide import open_slide

XY = spots_on(shape())


def convert(*arguments: object) -> str:
    """What it prints; raises what stops it."""
    result = CliRunner().invoke(app, ["convert", *(str(a) for a in arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout + result.stderr


def test_a_slide_without_a_scale_is_red_in_the_words_of_predict(tmp_path: Path) -> None:
    path = save(paint(shape()), tmp_path / "slide.png")
    inspection = inspect_input(path)
    assert inspection.verdict == "red"
    (finding,) = [f for f in inspection.findings if f.topic == "scale"]
    with open_slide(path) as slide, pytest.raises(GeometryError) as raised:
        _scale(slide, None)
    assert f"{finding.found}; {finding.remedy}" == str(raised.value)


def test_a_stated_scale_against_the_tags_is_yellow_since_predict_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    Image.fromarray(paint(shape())).save(path, resolution=2e4, resolution_unit="cm")
    row = {"section_id": "S", "patient_id": "P", "slide": "slide.tif", "mpp": "2.5"}
    inspection = inspect_input(write_manifest(tmp_path, [row]))
    assert inspection.verdict == "yellow"
    (finding,) = [f for f in inspection.findings if f.colour == "yellow"]
    with open_slide(path) as slide:
        mpp, notes = _scale(slide, 2.5)
    assert mpp == 2.5
    assert [finding.found] == list(notes)


@pytest.mark.parametrize("kind", ["space_ranger", "h5ad"])
def test_spots_without_any_image_are_red_and_can_be_converted(tmp_path: Path, kind: str) -> None:
    source = (space_ranger if kind == "space_ranger" else h5ad)(tmp_path / "s", KNOWN)
    assert source.expression is not None
    if kind == "h5ad":
        table = ad.read_h5ad(source.expression)
        table.uns["hespotex"] = {"mpp": 0.5}
        table.write_h5ad(source.expression)
    inspection = inspect_input(source.expression)
    assert inspection.verdict == "red"
    (red,) = [f for f in inspection.findings if f.colour == "red"]
    assert red.found == "no full-resolution image was given"
    assert "give it as slide in a manifest (or with --slide)" in red.remedy
    convert(source.expression, "--out", tmp_path / "c.h5ad")
    assert ad.read_h5ad(tmp_path / "c.h5ad").n_obs == len(KNOWN.barcodes)


@pytest.fixture
def cohort(tmp_path: Path) -> pd.DataFrame:
    """The rows of four sections that bring features in place of images."""
    manifest = write_cohort(tmp_path, toy_items())
    return pd.read_csv(manifest, dtype=str, keep_default_na=False)


def stopped(rows: pd.DataFrame, folder: Path) -> tuple[list[str], str]:
    """What the preflight finds red, and what stops the first stages of a run (empty: nothing)."""
    rows.to_csv(folder / "m.csv", index=False)
    red = [f"{f.found}; {f.remedy}" for f in inspect_input(folder / "m.csv").findings if f.colour == "red"]  # fmt: skip
    try:
        read = pipeline.read_sections(folder / "m.csv", None, Silent(), of=SMALL)
        pipeline.encode(read, SMALL, Machine(threads=1), Silent())
    except HESpotExError as error:
        return red, str(error)
    return red, ""


def test_features_of_every_section_take_the_place_of_images(
    cohort: pd.DataFrame, tmp_path: Path
) -> None:
    assert stopped(cohort, tmp_path) == ([], "")


def test_features_of_other_places_are_red_in_the_words_of_runs(
    cohort: pd.DataFrame, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "A2.features.h5", "r+") as file:
        file["coords"][...] += 5000
    (red,), error = stopped(cohort, tmp_path)
    assert "expected a tile around each of 81 spots" in red
    assert error == f"section A2: {red}"


@pytest.mark.slow
def test_features_of_some_sections_alone_are_red(cohort: pd.DataFrame, tmp_path: Path) -> None:
    save(np.full((2000, 2000, 3), 255, np.uint8), tmp_path / "A2.png")
    cohort.loc[1, ["features", "slide"]] = ["", "A2.png"]
    (red,), error = stopped(cohort, tmp_path)
    assert red.startswith("expected features files for all sections or for none, found them for A1, B1, B2 only")  # fmt: skip
    assert red in error


@pytest.mark.slow
def test_convert_refuses_what_runs_refuse_and_writes_nothing(tmp_path: Path) -> None:
    turned = orient(XY, "turned by 180 degrees", SIZE)
    rows = [write_legacy(tmp_path, "A", turned, true_xy_px0=XY), write_legacy(tmp_path, "B", XY)]
    manifest, out = write_manifest(tmp_path, rows), tmp_path / "a.h5ad"
    with pytest.raises(HESpotExError, match=r"section A: .*\(turned by 180 degrees\).*--accept"):
        convert(manifest, "--section", "A", "--out", out)
    assert not out.exists()
    convert(manifest, "--section", "B", "--out", tmp_path / "b.h5ad")
    printed = convert(manifest, "--section", "A", "--out", out, "--accept", "position:A")
    assert "accepted by the user" in printed
    (said,) = ad.read_h5ad(out).uns["hespotex"]["accepted"]
    assert said.startswith("position: ")


@pytest.mark.parametrize("names", [("y", "x"), ("pxl_row_in_fullres", "pxl_col_in_fullres"), ("x", "y")])  # fmt: skip
def test_positions_stored_as_a_table_go_by_their_names(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    path = h5ad(tmp_path / "s", KNOWN).expression
    assert path is not None
    table = ad.read_h5ad(path)
    xy = KNOWN.xy_px0 if names[0] == "x" else KNOWN.xy_px0[:, ::-1]
    table.obsm["spatial"] = pd.DataFrame(xy, index=table.obs_names, columns=list(names))
    table.write_h5ad(path)
    section = read_section(ManifestRow("S", "P", None, path, "h5ad", mpp=0.5))
    np.testing.assert_array_equal(section.xy_px0, KNOWN.xy_px0)
