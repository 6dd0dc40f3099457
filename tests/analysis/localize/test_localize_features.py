"""Features that `localize` finds: beside predictions, in the cache of sections, in files; which it refuses, and that it encodes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem

from helpers.commands import Said, command, refusal
from helpers.made_diagnoses import SIDE, write_diagnoses
from hespotex import pipeline
from hespotex.analysis.localize.features import find_features
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.errors import ConfigError
from hespotex.features import encode as encoding
from hespotex.features.kept import Kept, MadeBy, kept_beside, write_kept

MADE_BY = MadeBy("an-encoder", "0123456789abcdef", (112.0,), "patches", None)
DIM = 8


def _named(path: Path) -> PredictionFile:
    """The prediction says which encoder its model reads."""
    with h5py.File(path, "r+") as file:
        for name, value in (("encoder", MADE_BY.encoder), ("encoder_key", MADE_BY.key)):
            if name in file["uns/hespotex"]:
                del file[f"uns/hespotex/{name}"]
            write_elem(file["uns/hespotex"], name, value)
    return PredictionFile(path)


def _keep(file: PredictionFile, values: np.ndarray, **other: object) -> Path:
    path = kept_beside(file.path)
    write_kept(path, MadeBy(**{**vars(MADE_BY), **other}), file.spots.xy_px0, 200.0, [values])  # type: ignore[arg-type]
    return path


def _with_block(k: int) -> np.ndarray:
    """Features of slide k; on slides of the ill the first is high in the block."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    values = np.random.default_rng([k, 1]).normal(scale=0.2, size=(SIDE * SIDE, DIM))
    values[(row < 3) & (column < 3) & (k % 2 == 1), 0] += 3.0
    return values.astype(np.float32)[:, None]


def _write(folder: Path, **more: object) -> list[PredictionFile]:
    """Predictions that tell nothing, and features that do."""
    write_diagnoses(folder, effect=0.0, **more)  # type: ignore[arg-type]
    paths = sorted((folder / "predictions").glob("*.h5ad"), key=lambda p: int(p.stem[1:]))
    files = [_named(path) for path in paths]
    for file in files:
        _keep(file, _with_block(int(file.spots.section_id[1:])))
    return files


def _run(folder: Path, out: Path, *more: object) -> Said:
    table = folder / "clinical.csv"
    return command(
        "localize", folder, "--label", "diagnosis", "--clinical", table, "--out", out, *more
    )


@pytest.mark.slow
def test_features_beside_predictions_are_found_and_all_inputs_compared_on_the_page(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "ill")
    said = _run(tmp_path / "ill", tmp_path / "out", "--permutations", 24)
    assert said.exit_code == 0, said.output
    numbers = json.loads((tmp_path / "out" / "localize.json").read_text())
    of = {r["what"]: float(r["AUROC"].split()[0]) for r in numbers["scores"]}
    assert of["attention over spots, features"] >= 0.9
    assert of["attention over spots, composition"] < 0.9
    assert "attention over spots, both" in of
    page = (tmp_path / "out" / "report.html").read_text()
    for name in ("composition", "features", "both"):
        assert f"attention over spots, {name}" in page
    line = f"Features are kept beside the predictions: {MADE_BY.words()}."
    assert line in page
    assert line in " ".join(said.stdout.split())
    # Its model finds features of new slides beside them, too, and refuses those of another encoder.
    model = tmp_path / "out" / "localize.safetensors"
    new = _write(tmp_path / "new", first=100, n=6)
    said = command("localize", tmp_path / "new", "--apply", model, "--out", tmp_path / "applied")
    assert said.exit_code == 0, said.output
    likeliest = pd.read_csv(tmp_path / "applied" / "slides.csv")["likeliest"]
    assert (likeliest == ["well", "ill"] * 3).mean() >= 0.8
    for file in new:
        _keep(file, _with_block(1), sides_um=(224.0,))
    found = refusal(
        command("localize", tmp_path / "new", "--apply", model, "--out", tmp_path / "no")
    )
    assert (
        "expected features of an-encoder (key 0123456789ab, patches of 112 um, read by patches)"
        in found
    )
    assert not (tmp_path / "no").exists()
    for file in new:
        kept_beside(file.path).unlink()
    found = refusal(
        command("localize", tmp_path / "new", "--apply", model, "--out", tmp_path / "no")
    )
    assert "in --features or kept beside the predictions, found none" in found


def test_features_of_some_slides_alone_have_no_part_and_that_is_said(tmp_path: Path) -> None:
    files = _write(tmp_path, n=4)
    kept_beside(files[2].path).unlink()
    found, notes = find_features(None, files)
    assert found is None
    assert notes == ["Features are kept of 3 of 4 slides, so that they have no part: none of S2."]
    for file in files:
        kept_beside(file.path).unlink(missing_ok=True)
    assert find_features(None, files) == (None, [])


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ("encoder", r"expected features of an-encoder \(key 0123456789abcdef\), which the model of S1 reads, in .*S1.features.h5, found an-encoder \(key other\)"),
        ("sides", r"expected features of one encoder beside the predictions, found .*patches of 112 um, .*patches of 50 um"),
        ("places", "expected features of the very prediction S1.h5ad in .*, found those of other spots or of another call"),
        ("call", "expected features of the very prediction S1.h5ad in .*, found those of other spots or of another call"),
    ],
)  # fmt: skip
def test_features_that_are_not_of_the_prediction_are_refused_in_one_line(
    tmp_path: Path, wrong: str, match: str
) -> None:
    file = _write(tmp_path, n=8)[1]
    values, path, xy = _with_block(1), kept_beside(file.path), file.spots.xy_px0
    if wrong == "encoder":
        _keep(file, values, key="other")
    elif wrong == "sides":
        _keep(file, values, sides_um=(50.0,))
    elif wrong == "places":
        write_kept(path, MADE_BY, xy + 1, 200.0, [values])
    else:
        write_kept(path, MADE_BY, xy, 200.0, [values], "of another call")
    said = refusal(_run(tmp_path, tmp_path / "out", "--accept", "few-patients"))
    assert re.search(match, said), said
    assert not (tmp_path / "out").exists()


def test_what_is_neither_a_folder_nor_a_manifest_is_refused(tmp_path: Path) -> None:
    files = _write(tmp_path, n=4)
    (tmp_path / "f.h5").touch()
    for name, found in (("f.h5", "another file"), ("gone", "nothing")):
        with pytest.raises(ConfigError, match=f"a folder of features or a manifest at .*{name}, found {found}"):  # fmt: skip
            find_features(tmp_path / name, files)


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model and the manifest of its sections, whose features are in a cache."""
    folder = tmp_path_factory.mktemp("sections")
    manifest = make_cohort(
        folder / "cohort", n_patients=4, sections_per_patient=1, n_genes=40, side_um=800.0
    )
    cache = folder / "cache"
    machine = Machine(device="cpu", threads=1, cache=cache)
    config = RunConfig.from_values(
        {"patches": {"sides_um": [112.0]}, "model": {"epochs": 1, "ensemble": 1}}
    )
    model = pipeline.train(
        manifest, folder / "m.hespotex", config=config, validate=False, machine=machine
    )
    return {"folder": folder, "manifest": manifest, "cache": cache, "model": model}


@pytest.mark.slow
def test_sections_give_their_features_from_the_store_and_from_the_cache_alike_and_nothing_is_encoded(
    sections: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(sections["cache"]))
    monkeypatch.setattr(encoding, "encode_spots", lambda *_: pytest.fail("nothing is encoded"))
    predict = ("predict", sections["model"], sections["manifest"], "--out", tmp_path / "run", "--threads", 1, "--device", "cpu", "--same-patient", "--all-genes")  # fmt: skip
    assert command(*predict).exit_code == 0
    files = [PredictionFile(p) for p in sorted((tmp_path / "run" / "predictions").glob("*.h5ad"))]
    cached, _ = find_features(sections["manifest"], files)
    assert find_features(None, files) == (None, [])
    said = command(*predict, "--keep-features")
    assert said.exit_code == 0, said.output
    assert "features are kept: " in " ".join(said.output.split())
    kept, _ = find_features(None, files)
    assert kept is not None
    assert cached is not None
    assert kept.encoder == cached.encoder
    for one, other, file in zip(kept.readers, cached.readers, files, strict=True):
        np.testing.assert_array_equal(one(), other())
        assert Kept.open(kept_beside(file.path)).lies_at(file.spots.xy_px0)
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match=r"expected features of .* in the cache, .* found none"):
        find_features(sections["manifest"], files)
