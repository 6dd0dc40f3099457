"""The main job on painted slides through the real encoder: whole, resumed, refused, repeated."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.blank import blank_pictures
from helpers.commands import command
from hespotex import pipeline
from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.errors import ModelFileError, RunError
from hespotex.predicting import SlideOptions
from hespotex.results.run_outputs import read_genes
from hespotex.storage.run_folder import RunDir

CONFIG = RunConfig.from_values(
    {
        "patches": {"sides_um": [77.2]},
        "panel": {"n_top": 40},
        "model": {"epochs": 3, "ensemble": 2},
    }
)
OVERRIDES = ("patches.sides_um=[77.2]", "panel.n_top=40", "model.epochs=3", "model.ensemble=2")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painted cohort of two patients with two small sections each."""
    folder = tmp_path_factory.mktemp("cohort with spaces")
    return make_cohort(folder, n_patients=2, n_genes=60, side_um=1000.0)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Two threads and a feature cache of this module's own."""
    return Machine(device="cpu", threads=2, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def finished(cohort: Path, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-validation over patients."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    pipeline.cross_validate(cohort, out, config=CONFIG, machine=machine)
    return out


@pytest.fixture(scope="module")
def model(cohort: Path, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of all four sections, not validated."""
    out = tmp_path_factory.mktemp("models") / "m.hespotex"
    return pipeline.train(cohort, out, config=CONFIG, validate=False, machine=machine)


def test_run_folder_has_the_files_and_fields_of_the_format(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["folds_by"] == "patient"
    assert [fold["held_out"] for fold in metrics["folds"]] == [["P1S1", "P1S2"], ["P2S1", "P2S2"]]
    for fold in metrics["folds"]:
        assert set(fold) >= {"fold", "held_out", "train", "n_spots", "n_genes", "scores"}
        assert not set(fold["held_out"]) & set(fold["train"])
    names = {"model", "ridge", "train_mean", "depth_only", "predicted_depth_only"}
    scores = {
        "pcc_log1p_mean",
        "pcc_log1p_median",
        "pcc_log1p_top50",
        "pcc_composition_mean",
        "pcc_composition_abundant200",
        "rmse_log1p",
        "n_constant_genes",
    }
    assert set(metrics["mean"]) >= names
    assert all(set(metrics["mean"][name]) >= scores for name in names)
    assert metrics["mean"]["train_mean"]["pcc_log1p_mean"] is None
    assert metrics["mean"]["train_mean"]["rmse_log1p"] > 0
    with (finished / "genes.csv").open() as handle:
        header = next(csv.reader(handle))
    assert header[:8] == [
        "fold",
        "section_id",
        "gene",
        "pcc_log1p",
        "pcc_composition",
        "ridge_pcc_log1p",
        "ridge_pcc_composition",
        "mean_count",
    ]
    assert {"grade", "q_value", "depth_only_pcc_log1p"} <= set(header)
    run = json.loads((finished / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["config"]["panel"]["n_top"] == 40
    assert set(run["seconds"]) >= {"read", "encode", "fit", "predict", "score", "write"}
    assert not (finished / "work").exists()


def test_scores_in_the_tables_are_those_of_the_stored_predictions(finished: Path) -> None:
    genes = read_genes(RunDir(finished))
    rows = genes[genes.section_id == "P2S2"].set_index("gene")
    stored = anndata.read_h5ad(finished / "predictions" / "P2S2.h5ad")
    assert list(stored.var_names) == list(rows.index)
    measured = np.asarray(stored.layers["measured"])
    for j in (0, len(rows) // 2):
        expected = np.corrcoef(stored.X[:, j], measured[:, j])[0, 1]
        assert rows.pcc_log1p.iloc[j] == pytest.approx(expected, abs=1e-4)
        ridge = stored.obsm["ridge"] @ stored.varm["ridge_log1p"][j]
        expected = np.corrcoef(ridge, measured[:, j])[0, 1]
        assert rows.ridge_pcc_log1p.iloc[j] == pytest.approx(expected, abs=1e-4)


def test_figures_are_drawn_for_every_held_out_section(finished: Path) -> None:
    names = {p.name for p in (finished / "figures").iterdir()}
    assert {f"{s}_genes.png" for s in ("P1S1", "P1S2", "P2S1", "P2S2")} <= names
    assert "pcc_per_gene.png" in names


def test_interrupted_run_goes_on_and_equals_the_uninterrupted_one(
    finished: Path,
    cohort: Path,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "resumed"
    original = pipeline.run_fold
    done = []

    def interrupted(*args: object, **kwargs: object) -> object:
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "run_fold", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.cross_validate(cohort, out, config=CONFIG, machine=machine)
    assert not (out / "metrics.json").exists()

    calls = []

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(1)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "run_fold", counted)
    with blank_pictures():
        pipeline.cross_validate(cohort, out, config=CONFIG, machine=machine)
    assert len(calls) == 1
    _assert_equal_runs(out, finished)


def test_killed_process_goes_on_and_equals_the_uninterrupted_one(
    finished: Path,
    cohort: Path,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "killed"
    typed = ["cross-validate", str(cohort), "--out", str(out), "--device", "cpu", "--threads", "2"]
    typed += ["--quiet", *(part for override in OVERRIDES for part in ("--set", override))]
    env = {**os.environ, "HESPOTEX_CACHE": str(machine.cache)}
    process = subprocess.Popen([sys.executable, "-m", "hespotex", *typed], env=env)
    while not (out / "work" / "fold-0.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "metrics.json").exists()
    # As a kill in the middle of writing leaves it; under load the one above may come then, too.
    (out / "predictions").mkdir(exist_ok=True)
    (out / "predictions" / ".P2S1.h5ad.0a1b2c3d.tmp.h5ad").write_bytes(b"half a file")
    monkeypatch.setenv("HESPOTEX_CACHE", str(machine.cache))
    with blank_pictures():
        assert command(*typed).exit_code == 0
    _assert_equal_runs(out, finished)
    assert _names(out / "predictions") == _names(finished / "predictions")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _assert_equal_runs(a: Path, b: Path) -> None:
    for name in ("metrics.json", "genes.csv"):
        assert (a / name).read_text() == (b / name).read_text()
    for path in (b / "predictions").iterdir():
        one, other = (anndata.read_h5ad(p / "predictions" / path.name) for p in (a, b))
        np.testing.assert_array_equal(one.X, other.X)
        for layer in other.layers:
            left, right = one.layers[layer], other.layers[layer]
            if not isinstance(left, np.ndarray):
                left, right = left.toarray(), right.toarray()
            np.testing.assert_array_equal(left, right)
        pd.testing.assert_frame_equal(one.obs, other.obs)


def test_finished_run_is_not_done_again(
    finished: Path, cohort: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(pipeline, "encode", forbidden)
    page = finished / "report.html"
    before = page.read_text()
    page.unlink()  # as a kill after the last fold leaves it
    result = pipeline.cross_validate(cohort, finished, config=CONFIG, machine=machine)
    assert result.metrics["folds_by"] == "patient"
    assert page.read_text() == before


def test_other_configuration_on_the_same_folder_is_refused_by_key(
    finished: Path, cohort: Path, machine: Machine
) -> None:
    other = CONFIG.model_copy(update={"seed": 9})
    with pytest.raises(RunError, match=r"config\.seed: 0 there, 9 now; choose another --out"):
        pipeline.cross_validate(cohort, finished, config=other, machine=machine)


def test_another_epoch_count_encodes_no_patch_again(
    finished: Path,
    cohort: Path,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hespotex.features import encode as features

    def forbidden(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a patch was encoded again")

    monkeypatch.setattr(features, "encode_spots", forbidden)
    config = RunConfig.from_values(CONFIG.model_dump(), ["model.epochs=1", "seed=5"])
    pipeline.train(cohort, tmp_path / "m.hespotex", config=config, validate=False, machine=machine)
    assert (tmp_path / "m.hespotex").is_file()


def test_model_file_predicts_a_training_section_as_the_model_in_memory(
    cohort: Path, machine: Machine, tmp_path: Path
) -> None:
    from hespotex.models.fit import fit_bundle
    from hespotex.models.predict import predict_section
    from hespotex.progress import Silent

    sections = pipeline.read_sections(cohort, ["P1S1", "P2S2"], Silent())
    encoded = pipeline.encode(sections, CONFIG, machine, Silent())
    in_memory = predict_section(fit_bundle(encoded, CONFIG, machine=machine), encoded.items[0])
    model = pipeline.train(
        cohort,
        tmp_path / "m.hespotex",
        config=CONFIG,
        validate=False,
        sections=["P1S1", "P2S2"],
        machine=machine,
    )
    pipeline.predict(
        model,
        cohort,
        tmp_path / "p",
        sections=["P1S1"],
        options=SlideOptions(untested=True),
        machine=machine,
    )
    stored = anndata.read_h5ad(tmp_path / "p" / "predictions" / "P1S1.h5ad")
    np.testing.assert_allclose(stored.X, in_memory.log1p, atol=1e-5)
    np.testing.assert_allclose(stored.layers["composition"], in_memory.composition, atol=1e-5)


def test_paths_may_be_given_as_text(cohort: Path, machine: Machine, tmp_path: Path) -> None:
    import hespotex

    model, out = f"{tmp_path}/m.hespotex", f"{tmp_path}/predicted"
    trained = pipeline.train(
        str(cohort), model, config=CONFIG, validate=False, sections=["P1S1"], machine=machine
    )
    assert trained == Path(model)
    hespotex.predict(model, str(cohort), out, sections=["P1S2"], machine=machine)
    scored = pipeline.evaluate(
        model, str(cohort), f"{tmp_path}/scored", sections=["P2S1"], machine=machine
    )
    assert (Path(out) / "predictions" / "P1S2.h5ad").is_file()
    assert scored.metrics["folds_by"] == "external"


def test_a_model_that_cannot_be_written_is_said_before_the_fit(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_arguments: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(pipeline, "encode", encode)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError,
        match=r"can be written at .*file, found: .*choose another name: a file has this one",
    ):
        pipeline.train(cohort, tmp_path / "file" / "m.hespotex", config=CONFIG, validate=False)


def test_training_again_into_the_same_file_says_so_or_names_what_differs(
    model: Path, cohort: Path, machine: Machine
) -> None:
    before = model.stat().st_mtime_ns
    pipeline.train(cohort, model, config=CONFIG, validate=False, machine=machine)
    assert model.stat().st_mtime_ns == before
    with pytest.raises(ModelFileError, match=r"config\.seed: 0 there, 1 now"):
        pipeline.train(
            cohort,
            model,
            config=CONFIG.model_copy(update={"seed": 1}),
            validate=False,
            machine=machine,
        )


def test_sections_without_expression_are_predicted_the_same(
    model: Path, cohort: Path, machine: Machine, tmp_path: Path
) -> None:
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    table = table[table.format == "legacy_st"].assign(expression="")
    for column in ("slide", "spots"):
        table[column] = [str(cohort.parent / value) for value in table[column]]
    table.to_csv(tmp_path / "blind.csv", index=False)
    pipeline.predict(model, tmp_path / "blind.csv", tmp_path / "blind", machine=machine)
    pipeline.predict(model, cohort, tmp_path / "seen", machine=machine)
    blind, seen = (
        anndata.read_h5ad(tmp_path / name / "predictions" / "P1S1.h5ad")
        for name in ("blind", "seen")
    )
    assert "measured" not in blind.layers
    common = [b for b in seen.obs_names if b in set(blind.obs_names)]
    assert len(common) == seen.n_obs
    if blind.n_obs == seen.n_obs:
        np.testing.assert_allclose(blind[common].X, seen[common].X, atol=1e-5)


def test_model_of_another_encoder_is_refused(
    model: Path, cohort: Path, machine: Machine, tmp_path: Path
) -> None:
    from dataclasses import replace

    from hespotex.models.bundle import read_model, write_model

    bundle = read_model(model)
    other = replace(bundle, encoder=replace(bundle.encoder, key="0" * 8))
    write_model(tmp_path / "other.hespotex", other)
    with pytest.raises(ModelFileError, match=r"expected the encoder that .*other\.hespotex"):
        pipeline.predict(tmp_path / "other.hespotex", cohort, tmp_path / "p", machine=machine)
