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
from benchmarks.made_predictions import write_made_prediction

from helpers.commands import command, refusal
from helpers.made_claims import claims_of

SIDE, GENES = 7, tuple(f"G{j}" for j in range(6))
N_PATIENTS = 18


def _write(folder: Path, *, effect: float, n: int = N_PATIENTS) -> Path:
    """`ill` slides have a block of 3 x 3 spots in which the first gene is high; sites alternate by pairs."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    block = (row < 3) & (column < 3)
    rows = []
    for k in range(n):
        ill = k % 2 == 1
        level = np.random.default_rng([k, 9]).normal(scale=0.2, size=(SIDE * SIDE, len(GENES)))
        level[block & ill, 0] += effect
        write_made_prediction(
            folder / "predictions" / f"S{k}.h5ad", level=level, section_id=f"S{k}", patient_id=f"P{k}",
            genes=GENES, side=SIDE, seed=k, claims=claims_of(["A", "B", "C", "A", "B", "D"]),
        )  # fmt: skip
        label = "ill" if ill else "well"
        rows.append(
            {
                "patient_id": f"P{k}",
                "diagnosis": label,
                "lab": "x" if k % 4 < 2 else "y",
                "same": label,
            }
        )
    pd.DataFrame(rows).to_csv(folder / "clinical.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("ill"), effect=3.0)


@pytest.fixture(scope="session")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("alike"), effect=0.0)


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
    block = np.tile(((np.arange(49) // 7 < 3) & (np.arange(49) % 7 < 3)), N_PATIENTS)
    own = spots["label"].to_numpy() == "ill"
    shown = spots["shown"].to_numpy()
    assert shown[own & block].mean() > 5 * shown[own & ~block].mean()
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
    page = (tmp_path / "out" / "report.html").read_text()
    assert "not measured expression" in page
    assert "The diagnoses leave a trace on the slides." in page
    assert "Research use only" in page
    drawn = json.loads(next((tmp_path / "out" / "geojson").iterdir()).read_text())
    assert "finding" in drawn["features"][0]["properties"]["classification"]["name"]
    assert not (tmp_path / "out" / ".localize").exists()


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
    folder = _write(tmp_path / "few", effect=3.0, n=8)
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
