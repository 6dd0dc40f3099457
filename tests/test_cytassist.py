"""Sections of CytAssist: spots of 100 um pitch, circles that Space Ranger writes as 70 um, a grey fiducial picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.inspected_sections import GENES, MPP, PITCH_PX0, counts_of, paint, save, shape
from helpers.made_sections import KNOWN, POSITION_COLUMNS, Known, write_10x_h5
from hespotex.cli.main import app
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import read_section

pytestmark = pytest.mark.usefixtures("blank_pictures")

COLUMNS, ROWS = 30, 26
QUICK = ["--set", "model.epochs=2", "--set", "model.ensemble=1", "--set", "model.hidden=16",
         "--set", "model.n_components=8", "--threads", "1"]  # fmt: skip


def write_outs(folder: Path, seed: int) -> Path:
    """An outs folder as Space Ranger writes it for CytAssist; the array covers the picture of inspected_sections."""
    row, column = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    xy = np.column_stack(
        [(column + 0.5 * (row % 2) + 0.5) * PITCH_PX0, row * PITCH_PX0 * 0.8660254 + 20]
    )
    inside = (xy[:, 0] < 1200) & (xy[:, 1] < 900)
    on = np.zeros(len(xy), dtype=bool)
    on[inside] = shape()[xy[inside, 1].astype(int), xy[inside, 0].astype(int)]
    names = [
        f"{'ACGT'[k // 64 % 4]}{'ACGT'[k // 16 % 4]}{'ACGT'[k // 4 % 4]}{'ACGT'[k % 4]}{k:04d}-1"
        for k in range(len(xy))
    ]
    table = pd.DataFrame(
        {"barcode": names, "in_tissue": on.astype(int), "array_row": row, "array_col": 2 * column + row % 2,
         "pxl_row_in_fullres": xy[:, 1], "pxl_col_in_fullres": xy[:, 0]}, columns=POSITION_COLUMNS,
    )  # fmt: skip
    spatial = folder / "spatial"
    spatial.mkdir(parents=True)
    table.to_csv(spatial / "tissue_positions.csv", index=False)
    known: Known = replace(
        KNOWN, counts=counts_of(int(on.sum()), seed), genes=GENES.tolist(),
        barcodes=[n for n, o in zip(names, on, strict=True) if o],
    )  # fmt: skip
    write_10x_h5(folder / "filtered_feature_bc_matrix.h5", known)
    factors = {
        "tissue_hires_scalef": 1.0, "tissue_lowres_scalef": 0.5, "fiducial_diameter_fullres": 48.0,
        "spot_diameter_fullres": 0.7 * PITCH_PX0,
    }  # fmt: skip
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    grey = paint(shape()).mean(axis=2).astype(np.uint8)
    Image.fromarray(grey).save(spatial / "cytassist_image.tiff")
    with h5py.File(folder / "features.h5", "w") as file:  # nothing has to be encoded
        rng = np.random.default_rng(seed)
        file["features"] = rng.normal(size=(int(on.sum()), 12)).astype(np.float32)
        file["coords"] = np.round(xy[on] - 20).astype(np.int64)
        file["coords"].attrs["patch_size_level0"] = 40
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sections of two patients."""
    folder = tmp_path_factory.mktemp("cytassist")
    rows = []
    for k, name in enumerate(("A1", "A2", "B1", "B2")):
        write_outs(folder / name / "outs", k)
        shade = np.full((900, 1200), 1 - 0.05 * k)
        save(paint(shape(), shade), folder / f"{name}.png")
        rows.append(
            (
                name,
                name[0],
                f"{name}.png",
                f"{name}/outs",
                "space_ranger",
                f"{name}/outs/features.h5",
            )
        )
    columns = ["section_id", "patient_id", "slide", "expression", "format", "features"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "sections.csv", index=False)
    return folder / "sections.csv"


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "400"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_the_pitch_decides_and_every_command_runs_without_anything_accepted(
    manifest: Path, tmp_path: Path
) -> None:
    said = run("inspect", manifest, "--json")
    assert json.loads(said)["verdict"] == "green"
    assert "versions write circles of different size, so it does not decide" in said
    run("cross-validate", manifest, "--out", tmp_path / "cv", *QUICK)
    run("train", manifest, "--out", tmp_path / "m.hespotex", "--no-validate", *QUICK)
    run("predict", tmp_path / "m.hespotex", manifest, "--out", tmp_path / "p", "--threads", "1")
    assert len(list((tmp_path / "p" / "predictions").glob("*.h5ad"))) == 4


@pytest.mark.slow
def test_spots_lie_at_the_pitch_of_the_array(manifest: Path) -> None:
    section = read_section(read_manifest(manifest).rows[0])
    assert section.geometry.mpp == pytest.approx(MPP, rel=1e-3)
    assert section.geometry.spot_pitch_um == pytest.approx(100.0)


def test_the_grey_fiducial_picture_is_not_taken_for_the_slide(manifest: Path) -> None:
    grey = manifest.parent / "A1" / "outs" / "spatial" / "cytassist_image.tiff"
    done = CliRunner().invoke(app, ["inspect", str(grey), "--quiet"], env={"COLUMNS": "400"})
    assert done.exit_code > 0
    assert "grey" in done.output
