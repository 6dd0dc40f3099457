"""The command `localize --apply`: what it writes of new slides, what travels, and what it refuses in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from benchmarks.made_predictions import write_made_prediction

from helpers.commands import Said, command, refusal
from helpers.made_claims import claims_of
from helpers.made_diagnoses import GENES, GRADES, SIDE, write_diagnoses
from hespotex.analysis.localize.bags import patient_folds, permuted_labels
from hespotex.analysis.localize.cohort import read_slides, write_inputs
from hespotex.analysis.localize.model import About, fit_model
from hespotex.progress import Silent
from hespotex.viewer.opened import OpenedSlide
from hespotex.viewer.sources import find_predictions

MARK = "model applied; evidence of its run: finding"


def _features(folder: Path, names: Sequence[str], *, width: int = 12, encoder: str = "") -> Path:
    """Files as of TRIDENT, of the spots of made predictions."""
    folder.mkdir()
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    for k, name in enumerate(names):
        values = np.random.default_rng(k).normal(size=(SIDE * SIDE, width)).astype(np.float32)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["features"] = values
            file["coords"] = np.stack([200.0 * column, 200.0 * row], axis=1) - 100
            file["coords"].attrs["patch_size_level0"] = 200
            if encoder:
                file["features"].attrs["encoder"] = encoder
    return folder


def _model(
    cohort: Path,
    work: Path,
    *,
    kind: str = "composition",
    features: Path | None = None,
    **more: object,
) -> Path:
    """A model file over real predictions, without the tests of a run."""
    read = read_slides([cohort], cohort / "clinical.csv", "diagnosis", site=None, features=features)
    bags = write_inputs(read, work, Silent())[kind]
    stated = {
        "classes": bags.classes, "kind": kind, "variant": "spots", "genes": tuple(read.genes), "predicted_by": read.model_id,
        "encoder": read.encoder, "threshold": 0.5, "evidence": "finding", "n_true": 2,
    }  # fmt: skip
    labels = permuted_labels(bags, patient_folds(bags), 19)
    path = work / "localize.safetensors"
    fit_model(bags, labels, About(**(stated | more))).write(path)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diagnoses(tmp_path_factory.mktemp("cohort"), effect=4.0)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return (
        write_diagnoses(tmp_path_factory.mktemp("new"), effect=4.0, first=100, n=6) / "predictions"
    )


@pytest.fixture(scope="module")
def model(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _model(cohort, tmp_path_factory.mktemp("model"))


def _apply(model: Path, predicted: Path, out: Path, *more: object) -> Said:
    return command("localize", predicted, "--apply", model, "--out", out, *more)


def test_new_slides_get_a_probability_and_a_map_marked_as_the_run_was(
    model: Path, new: Path, tmp_path: Path
) -> None:
    said = _apply(model, new, tmp_path / "out")
    assert said.exit_code == 0, said.output
    words = said.stdout.replace("\n", " ")
    assert "A model of ill and well was applied to 6 slides. Nothing was tested on them" in words
    assert "research use only" in words.lower()
    slides = pd.read_csv(tmp_path / "out" / "slides.csv").set_index("section_id")
    assert set(slides["evidence"]) == {MARK}
    assert (slides["likeliest"] == ["well", "ill"] * 3).mean() >= 0.8
    total = slides[["probability of ill", "probability of well"]].sum(axis=1)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    spots = pd.read_parquet(tmp_path / "out" / "spots.parquet")
    assert "label" not in spots
    assert set(spots["evidence"]) == {MARK}
    assert len(spots) == 6 * SIDE * SIDE
    drawn = spots.groupby("section_id")["shown"].any()
    source = find_predictions(tmp_path / "out")
    assert [e.name for e in source.entries] == sorted(drawn.index[drawn])
    seen = OpenedSlide(source.entries[0], print)
    layer = seen.layer("localize_z")
    own = spots[spots["section_id"] == source.entries[0].name]
    np.testing.assert_allclose(layer.values, own["z"], rtol=1e-6)
    assert MARK in layer.explained.lower() or MARK in layer.explained
    assert "research use only" in layer.explained.lower()
    assert seen.layer("localize_shown").categories == ("no", "yes")
    assert not seen.shows() or not len(seen.file.genes)
    drawn = json.loads(next((tmp_path / "out" / "geojson").iterdir()).read_text())
    assert MARK in drawn["features"][0]["properties"]["classification"]["name"]
    assert list((tmp_path / "out" / "figures").iterdir())
    page = (tmp_path / "out" / "report.html").read_text()
    assert MARK in page
    assert "Research use only" in page
    assert not (tmp_path / "out" / ".localize").exists()


def test_a_run_without_evidence_marks_what_its_model_says(
    cohort: Path, new: Path, tmp_path: Path
) -> None:
    weak = _model(cohort, tmp_path / "weak", evidence="no evidence", threshold=None)
    said = _apply(weak, new, tmp_path / "out")
    assert said.exit_code == 0, said.output
    assert "own run: no evidence" in said.stdout.replace("\n", " ")
    assert "no map is drawn" in said.stdout.replace("\n", " ")
    marks = pd.read_csv(tmp_path / "out" / "slides.csv")["evidence"]
    assert set(marks) == {"model applied; evidence of its run: no evidence"}
    left = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert left == ["localize.json", "report.html", "slides.csv"]


def test_no_map_is_drawn_on_a_slide_unlike_the_trainings(model: Path, tmp_path: Path) -> None:
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    level = np.random.default_rng(7).normal(scale=0.2, size=(SIDE * SIDE, len(GENES)))
    level[(row < 3) & (column < 3), 0] += 4.0
    for k, verdict in enumerate((None, "unlike: stain")):  # the same slide twice
        write_made_prediction(
            tmp_path / "new" / f"S{k}.h5ad", level=level, section_id=f"S{k}",
            patient_id=f"P{k}", genes=GENES, side=SIDE, seed=5, verdict=verdict,
            claims=claims_of(GRADES, verdict=verdict),
        )  # fmt: skip
    said = _apply(model, tmp_path / "new", tmp_path / "out")
    assert said.exit_code == 0, said.output
    words = said.stdout.replace("\n", " ")
    assert "1 slide unlike the training's: no map is drawn there" in words
    slides = pd.read_csv(tmp_path / "out" / "slides.csv").set_index("section_id")
    assert slides.loc["S1", "verdict"] == "unlike: stain"
    spots = pd.read_parquet(tmp_path / "out" / "spots.parquet")
    drawn = spots.groupby("section_id")["shown"].any()
    assert drawn.to_dict() == {"S0": True, "S1": False}


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (("--label", "diagnosis"), "found --label beside it; leave --label out"),
        (("--site", "lab"), "found --site beside it"),
        (("--accept", "few-patients"), "found --accept beside it"),
        (("--permutations", "99"), "found --permutations beside it"),
        (("--seed", "0"), "found --seed beside it"),
        (("--features", "folder"), "expected no --features, since .* reads composition alone"),
    ],
)
def test_what_only_a_run_needs_is_refused(
    model: Path, new: Path, tmp_path: Path, more: tuple[str, ...], match: str
) -> None:
    assert re.search(match, refusal(_apply(model, new, tmp_path / "out", *more)))
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_label_or_a_table_is_refused(cohort: Path, tmp_path: Path) -> None:
    said = refusal(command("localize", cohort, "--out", tmp_path / "out"))
    assert "expected --label COLUMN, or --apply MODEL" in said
    said = refusal(command("localize", cohort, "--label", "diagnosis", "--out", tmp_path / "out"))
    assert "expected --clinical TABLE, or --apply MODEL" in said


def test_predictions_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    other = write_diagnoses(tmp_path / "other", effect=0.0, n=2, model_id="elsewhere")
    said = refusal(_apply(model, other / "predictions", tmp_path / "out"))
    assert "expected predictions of model made" in said
    assert "found those of elsewhere" in said
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_model_is_not_cleared(model: Path, new: Path) -> None:
    said = refusal(_apply(model, new, model.parent))
    assert "expected another folder than that of" in said
    assert model.is_file()


def test_features_of_another_encoder_are_refused_and_those_of_the_same_are_taken(
    cohort: Path, new: Path, tmp_path: Path
) -> None:
    own = [f"S{k}" for k in range(18)]
    trained = _features(tmp_path / "trained", own, encoder="uni_v1")
    model = _model(cohort, tmp_path / "model", kind="both", features=trained)
    others = [f"S{k}" for k in range(100, 106)]
    out = tmp_path / "out"
    said = refusal(_apply(model, new, out))
    assert re.search(
        "expected features, which .* reads, in --features or kept beside the predictions, found none",
        said,
    )
    named = _features(tmp_path / "named", others, encoder="gigapath")
    said = refusal(_apply(model, new, out, "--features", named))
    assert "expected features of uni_v1" in said
    assert "found those of gigapath" in said
    assert not out.exists()
    wide = _features(tmp_path / "wide", others, width=20)
    said = refusal(_apply(model, new, out, "--features", wide))
    assert re.search(r"expected 17 values a spot, .* found 25: features of another encoder", said)
    assert not out.exists()
    same = _features(tmp_path / "same", others, encoder="uni_v1")
    assert _apply(model, new, out, "--features", same).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    refusal(_apply(model, new, out, "--features", wide))
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before


def test_a_model_of_features_alone_asks_for_no_gene(cohort: Path, tmp_path: Path) -> None:
    trained = _features(tmp_path / "trained", [f"S{k}" for k in range(18)])
    model = _model(cohort, tmp_path / "model", kind="features", features=trained, genes=())
    others = tuple(f"OTHER{j}" for j in range(len(GENES)))
    write_made_prediction(
        tmp_path / "new" / "S0.h5ad", level=np.zeros((SIDE * SIDE, len(GENES))), section_id="S0", patient_id="P0",
        genes=others, side=SIDE, seed=5, claims=claims_of(GRADES),
    )  # fmt: skip
    of_new = _features(tmp_path / "of-new", ["S0"])
    said = _apply(model, tmp_path / "new", tmp_path / "out", "--features", of_new)
    assert said.exit_code == 0, said.output
    assert len(pd.read_csv(tmp_path / "out" / "slides.csv")) == 1


def test_features_of_two_encoders_are_refused_in_a_run(cohort: Path, tmp_path: Path) -> None:
    folder = _features(tmp_path / "f", [f"S{k}" for k in range(18)], encoder="uni_v1")
    with h5py.File(folder / "S3.h5", "r+") as file:
        file["features"].attrs["encoder"] = "gigapath"
    said = refusal(command(
        "localize", cohort, "--label", "diagnosis", "--clinical", cohort / "clinical.csv", "--out", tmp_path / "out",
        "--features", folder,
    ))  # fmt: skip
    assert "expected features of one encoder in" in said
    assert "found gigapath, uni_v1" in said


def test_a_run_with_features_of_other_spots_leaves_nothing(cohort: Path, tmp_path: Path) -> None:
    folder = _features(tmp_path / "f", [f"S{k}" for k in range(18)])
    with h5py.File(folder / "S3.h5", "r+") as file:
        file["coords"][:] += 5_000
    said = refusal(command(
        "localize", cohort, "--label", "diagnosis", "--clinical", cohort / "clinical.csv", "--out", tmp_path / "out",
        "--features", folder,
    ))  # fmt: skip
    assert "expected a tile around each of" in said
    assert not (tmp_path / "out").exists()
