"""`predict --reading` through the command: who is told of the cheaper way, and what taking it changes."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest

from helpers.commands import command, refusal
from hespotex import keys, pipeline
from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.models.bundle import read_model

pytestmark = pytest.mark.slow

# Inside one tile of the late layers for both sides of the patches.
_LOW_PX, _HIGH_PX, _MPP = 70, 440, 1.5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of one painted cohort, by patches and by area, a slide of it and an outline of a part."""
    folder = tmp_path_factory.mktemp("reading")
    manifest = make_cohort(folder / "cohort", n_patients=2, n_genes=40, side_um=800.0)
    found: dict[str, Path] = {"manifest": manifest}
    values = {"patches": {"sides_um": [112.0, 154.5]}, "model": {"epochs": 1, "ensemble": 1}}
    for reading in ("auto", "area"):
        config = RunConfig.from_values({**values, "encoder": {"reading": reading}})
        machine = Machine(device="cpu", threads=1, cache=folder / "cache")
        found[reading] = pipeline.train(
            manifest, folder / f"{reading}.hespotex", config=config, validate=False, machine=machine
        )
    found["slide"] = next(
        p for p in sorted(manifest.parent.rglob("*S1.*")) if p.suffix in {".png", ".jpg", ".tif"}
    )
    low, high = _LOW_PX, _HIGH_PX
    corners = [[low, low], [high, low], [high, high], [low, high], [low, low]]
    found["outline"] = folder / "outline.geojson"
    found["outline"].write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    return found


def predicted(made: dict[str, Path], model: str, out: Path, *more: object) -> str:
    said = command(
        "predict", made[model], made["slide"], "--out", out, "--mpp", _MPP, "--untested",
        "--tissue", made["outline"], "--threads", 1, "--device", "cpu", *more,
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    return " ".join(said.output.split())


def table(out: Path) -> anndata.AnnData:
    (path,) = (out / "predictions").glob("*.h5ad")
    return anndata.read_h5ad(path)


def test_auto_left_the_usual_lattice_to_patches_and_the_card_says_so(made: dict[str, Path]) -> None:
    bundle = read_model(made["auto"])
    assert bundle.config.encoder.reading == "patches"
    card = made["auto"].with_suffix(".model-card.md").read_text()
    assert "* Reading: by patches: the training sections take about" in card
    assert read_model(made["area"]).config.encoder.reading == "area"
    assert "by area, as asked for" in made["area"].with_suffix(".model-card.md").read_text()


def test_on_100_um_nothing_is_said(made: dict[str, Path], tmp_path: Path) -> None:
    for model in ("auto", "area"):
        said = predicted(made, model, tmp_path / model, "--spot-pitch-um", 100)
        assert "--reading" not in said
        assert "core-" not in said


def test_on_a_fine_lattice_the_price_is_said_and_reading_by_area_is_taken_only_when_asked_for(
    made: dict[str, Path], tmp_path: Path
) -> None:
    fine = ("--spot-pitch-um", 16)
    said = predicted(made, "auto", tmp_path / "patches", *fine)
    assert said.count("--reading area does it") == 1
    assert "features by patches, as in the model's training, take about" in said
    said = predicted(made, "auto", tmp_path / "area", *fine, "--reading", "area")
    assert "does it" not in said
    assert "features are read by area, the model was fitted by patches" in said
    by_patches, by_area = table(tmp_path / "patches"), table(tmp_path / "area")
    notes = [str(note) for note in by_area.uns[keys.UNS]["notes"]]
    assert any("read by area, the model was fitted by patches" in note for note in notes)
    assert not any("fitted by patches" in str(n) for n in by_patches.uns[keys.UNS]["notes"])
    np.testing.assert_array_equal(by_patches.obs_names, by_area.obs_names)
    assert not np.array_equal(by_patches.X, by_area.X)
    again = predicted(made, "area", tmp_path / "own", *fine)
    assert "does it" not in again
    stated = predicted(made, "area", tmp_path / "stated", *fine, "--reading", "area")
    assert "fitted by" not in stated
    np.testing.assert_array_equal(table(tmp_path / "own").X, table(tmp_path / "stated").X)


def test_sections_at_their_own_spots_are_read_as_asked(
    made: dict[str, Path], tmp_path: Path
) -> None:
    found = {}
    for name, more in (("own", ()), ("asked", ("--reading", "area"))):
        said = command("predict", made["auto"], made["manifest"], "--out", tmp_path / name,
                       "--all-genes", "--threads", 1, "--device", "cpu", *more)  # fmt: skip
        assert said.exit_code == 0, said.output
        assert ("the model was fitted by patches" in " ".join(said.output.split())) == bool(more)
        found[name] = json.loads((tmp_path / name / "run.json").read_text())
    assert found["own"]["reading"] == "by patches, as in the model's training"
    assert found["asked"]["reading"] == "by area, as asked for; the model was fitted by patches"
    assert found["asked"]["config"]["encoder"]["reading"] == "area"
    assert found["own"]["config"]["encoder"]["reading"] == "patches"


def test_another_word_is_refused_in_one_line(made: dict[str, Path], tmp_path: Path) -> None:
    said = command("predict", made["auto"], made["slide"], "--out", tmp_path, "--reading", "auto")
    assert "expected --reading patches or area, found 'auto'" in refusal(said)
