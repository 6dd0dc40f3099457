"""The command `localize` on predictions with a stated structure: finding, no finding, too few, the site, bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from helpers.commands import command, refusal
from helpers.made_diagnoses import N_PATIENTS, SIDE, write_diagnoses


@pytest.fixture(scope="session")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diagnoses(tmp_path_factory.mktemp("ill"), effect=3.0)


@pytest.fixture(scope="session")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diagnoses(tmp_path_factory.mktemp("alike"), effect=0.0)


def _run(folder: Path, out: Path, *more: object, label: str = "diagnosis"):  # type: ignore[no-untyped-def]
    return command(
        "localize",
        folder,
        "--label",
        label,
        "--clinical",
        folder / "clinical.csv",
        "--out",
        out,
        *more,
    )


@pytest.mark.slow
def test_a_stated_structure_is_found_and_every_file_says_so(ill: Path, tmp_path: Path) -> None:
    regions = tmp_path / "regions"
    regions.mkdir()
    ring = [[-100, -100], [500, -100], [500, 500], [-100, 500], [-100, -100]]
    outline = {"type": "Polygon", "coordinates": [ring]}
    (regions / "S1.geojson").write_text(json.dumps(outline))
    said = _run(ill, tmp_path / "out", "--permutations", 24, "--site", "same", "--regions", regions)
    assert said.exit_code == 0, said.output
    assert "diagnosis and site say the same" in said.stdout
    assert "Against the outlines of 1 slide:" in said.stdout.replace("\n", " ")
    numbers = json.loads((tmp_path / "out" / "localize.json").read_text())
    assert numbers["evidence"] == "confounded"
    said = _run(ill, tmp_path / "out", "--permutations", 24, "--site", "lab")
    assert said.exit_code == 0, said.output
    numbers = json.loads((tmp_path / "out" / "localize.json").read_text())
    assert numbers["evidence"] == "finding"
    assert numbers["p_value"] <= 0.05
    assert [r for r in numbers["scores"] if "each site left out" in r["what"]]
    spots = pd.read_parquet(tmp_path / "out" / "spots.parquet")
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    block, far = (
        np.tile(of, N_PATIENTS)
        for of in ((row < 3) & (column < 3), (row > 3) | (column > 3))  # one row between touches it
    )
    own = spots["label"].to_numpy() == "ill"
    shown = spots["shown"].to_numpy()
    assert shown[own & block].mean() > 5 * shown[own & far].mean()
    assert set(spots["evidence"]) == {"finding"}
    table = anndata.read_h5ad(tmp_path / "out" / "spots.h5ad")
    assert table.n_obs == len(spots)
    slides = pd.read_csv(tmp_path / "out" / "slides.csv")
    total = slides[["probability of ill", "probability of well"]].sum(axis=1)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    genes = pd.read_csv(tmp_path / "out" / "genes.csv").set_index(["label", "gene"])
    assert genes.loc[("ill", "G0"), "difference"] > 1
    assert genes["p_value"].between(1 / 25, 1).all()
    assert "G5" not in genes.index.get_level_values("gene")  # graded D
    sets = pd.read_csv(tmp_path / "out" / "gene_sets.csv").set_index(["label", "gene_set"])
    assert sets.loc[("ill", "LIKE_G0"), "difference"] > 1
    assert "NOT_SHOWN" not in sets.index.get_level_values("gene_set")
    curves = pd.read_csv(tmp_path / "out" / "curves.csv")
    assert set(curves["order"]) == {"the map", "attention alone", "chance"}
    left = curves[(curves["label"] == "ill") & np.isclose(curves["part"], 0.2)].set_index("order")
    assert left.loc["the map", "deletion"] < left.loc["chance", "deletion"]
    assert left.loc["the map", "insertion"] > left.loc["chance", "insertion"]
    for name in ("genes", "gene_sets", "curves", "slides"):
        assert set(pd.read_csv(tmp_path / "out" / f"{name}.csv")["evidence"]) == {"finding"}, name
    page = (tmp_path / "out" / "report.html").read_text()
    assert "gene_sets.csv has all rows" in page
    assert 'alt="Deletion and insertion"' in page
    assert "not measured expression" in page
    assert "The diagnoses leave a trace on the slides." in page
    assert "Research use only" in page
    drawn = json.loads(next((tmp_path / "out" / "geojson").iterdir()).read_text())
    assert "finding" in drawn["features"][0]["properties"]["classification"]["name"]
    assert not (tmp_path / "out" / ".localize").exists()
    # Its model says of slides of other patients what it says of its own.
    new = write_diagnoses(tmp_path / "new", effect=3.0, first=100, n=8)
    said = command("localize", new / "predictions", "--apply", tmp_path / "out" / "localize.safetensors", "--out", tmp_path / "applied")  # fmt: skip
    assert said.exit_code == 0, said.output
    applied = pd.read_csv(tmp_path / "applied" / "slides.csv").set_index("section_id")
    assert applied.loc["S101", "likeliest"] == "ill"
    assert (applied["likeliest"] == ["well", "ill"] * 4).mean() >= 0.75


@pytest.mark.slow
def test_no_signal_says_so_and_draws_nothing_also_over_an_earlier_map(
    alike: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "figures").mkdir(parents=True)
    (tmp_path / "out" / "figures" / "S1.png").write_bytes(b"")
    # What a killed call leaves: it had not come to localize.json.
    for name in ("genes.csv", "spots.parquet", "spots.h5ad", "gallery.png", "slides.csv"):
        (tmp_path / "out" / name).write_text("of an earlier call")
    (tmp_path / "out" / ".localize").mkdir()
    said = _run(alike, tmp_path / "out", "--permutations", 24)
    assert said.exit_code == 0, said.output
    assert "No signal beyond chance: no map is drawn." in said.stdout
    left = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert left == ["localize.json", "report.html", "slides.csv"]


@pytest.mark.slow
def test_features_beside_predictions_are_compared_and_joined(ill: Path, tmp_path: Path) -> None:
    folder, rng = tmp_path / "features", np.random.default_rng(0)
    folder.mkdir()
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    for k in range(N_PATIENTS):
        with h5py.File(folder / f"S{k}.h5", "w") as file:
            file["features"] = rng.normal(size=(SIDE * SIDE, 12)).astype(np.float32)
            file["coords"] = np.stack([200.0 * column, 200.0 * row], axis=1) - 100
            file["coords"].attrs["patch_size_level0"] = 200
    said = _run(ill, tmp_path / "out", "--permutations", 19, "--features", folder)
    assert said.exit_code == 0, said.output
    scores = json.loads((tmp_path / "out" / "localize.json").read_text())["scores"]
    of = {r["what"]: float(r["AUROC"].split()[0]) for r in scores}
    assert of["attention over spots, composition"] > of["attention over spots, features"]
    assert of["attention over spots, both"] > 0.8
    (folder / "S3.h5").unlink()
    assert "expected features of S3" in refusal(command(
        "localize", ill, "--label", "diagnosis", "--clinical", ill / "clinical.csv", "--out",
        tmp_path / "other", "--features", folder,
    ))  # fmt: skip


@pytest.mark.slow
def test_few_patients_run_on_request_and_every_output_is_marked(tmp_path: Path) -> None:
    folder = write_diagnoses(tmp_path / "few", effect=3.0, n=8)
    said = _run(folder, tmp_path / "out")
    assert said.exit_code == 0
    assert "Too few patients" in said.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["localize.json", "report.html"]
    said = _run(folder, tmp_path / "out", "--accept", "few-patients", "--permutations", 24)
    assert said.exit_code == 0, said.output
    assert set(pd.read_csv(tmp_path / "out" / "slides.csv")["evidence"]) == {"no evidence"}
    assert "No evidence" in said.stdout
    if (tmp_path / "out" / "spots.parquet").exists():
        assert set(pd.read_parquet(tmp_path / "out" / "spots.parquet")["evidence"]) == {
            "no evidence"
        }


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (("--label", "stage"), "expected a column stage in .*clinical.csv, found diagnosis"),
        (("--label", "one"), "expected two diagnoses or more, found one: a"),
        (
            ("--label", "diagnosis", "--accept", "all"),
            "expected --accept few-patients, found 'all'",
        ),
        (
            ("--label", "diagnosis", "--split", "same"),
            "expected two diagnoses or more in each fold of the split, .* found fold ill with ill",
        ),
        (("--label", "diagnosis", "--permutations", "5"), "expected 19 permutations or more"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    ill: Path, tmp_path: Path, more: tuple[str, ...], match: str
) -> None:
    table = pd.read_csv(ill / "clinical.csv").assign(one="a")
    table.to_csv(tmp_path / "clinical.csv", index=False)
    said = refusal(
        command(
            "localize",
            ill,
            "--clinical",
            tmp_path / "clinical.csv",
            "--out",
            tmp_path / "out",
            *more,
        )
    )
    assert re.search(match, said), said
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_not_cleared(ill: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "slides.csv").write_text("mine")
    (tmp_path / "out" / "work").mkdir()
    said = refusal(
        command(
            "localize",
            ill,
            "--label",
            "diagnosis",
            "--clinical",
            ill / "clinical.csv",
            "--out",
            tmp_path / "out",
        )
    )
    assert "expected an empty folder" in said
    assert (tmp_path / "out" / "slides.csv").read_text() == "mine"
    assert (tmp_path / "out" / "work").is_dir()
