"""Inner folds choose searched values on training sections, and what they chose is written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.feature_cohort import SMALL, toy_items, write_cohort
from helpers.toy_cohort import toy_cohort
from hespotex import pipeline
from hespotex.cli.main import app
from hespotex.config import Machine, RunConfig
from hespotex.config.values import parse_grid
from hespotex.errors import ConfigError, ModelFileError
from hespotex.models.bundle import read_model
from hespotex.report.report_tables import search_text
from hespotex.storage.metrics import Search
from hespotex.validation.nested_search import Choice, choose

MACHINE = Machine(device="cpu", threads=1)

pytestmark = pytest.mark.usefixtures("blank_pictures")


def with_grid(grid: dict[str, list[object]], **more: object) -> RunConfig:
    return RunConfig.from_values({**SMALL.model_dump(), "search": {"grid": grid, **more}})


@pytest.mark.slow
def test_a_value_that_blinds_the_model_is_not_chosen() -> None:
    from hespotex.validation.cross_validation import searched

    # A penalty so large that no gene is predicted, beside the default.
    grid = {"model.kernel_penalty": [1e9, 0.5]}
    config = RunConfig.from_values(
        {"search": {"grid": grid}, "model": {"kernel_share": 1.0, "epochs": 1, "ensemble": 1}}
    )
    choice = searched(toy_cohort(n_side=7), config)
    assert choice.record.chosen == {"model.kernel_penalty": 0.5}
    assert choice.config.model.kernel_penalty == 0.5
    scores = [c.score for c in choice.record.candidates]
    assert scores[1] > scores[0] or scores[0] != scores[0]
    assert choice.record.score == "pcc_composition_mean"


def test_a_single_combination_is_taken_and_recorded() -> None:
    config = with_grid({"model.hidden": [8], "model.epochs": [3]})
    choice = choose(config, [])
    assert (choice.config.model.hidden, choice.config.model.epochs) == (8, 3)
    assert choice.record.chosen == {"model.hidden": 8, "model.epochs": 3}
    assert search_text(choice.record) == "model.hidden = 8, model.epochs = 3: the only candidate"
    assert choose(SMALL, []) == Choice(SMALL, Search())


@pytest.mark.slow
def test_every_fold_and_the_model_file_say_what_was_chosen(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "cohort", toy_items(n_side=7))
    config = with_grid({"model.hidden": [8, 16]})
    out = tmp_path / "m.hespotex"
    pipeline.train(manifest, out, config=config, machine=MACHINE)
    metrics = json.loads((tmp_path / "m.validation" / "metrics.json").read_text())
    for fold in metrics["folds"]:
        assert fold["search"]["chosen"]["model.hidden"] in (8, 16)
        assert len(fold["search"]["candidates"]) == 2
    bundle = read_model(out)
    chosen = bundle.validation["search"]["chosen"]["model.hidden"]
    assert bundle.config.model.hidden == chosen
    assert f"model.hidden = {chosen}" in out.with_suffix(".model-card.md").read_text()
    assert "model.hidden = " in (tmp_path / "m.validation" / "report.html").read_text()
    before = out.stat().st_mtime_ns
    pipeline.train(manifest, out, config=config, machine=MACHINE)  # the same search: nothing to do
    assert out.stat().st_mtime_ns == before
    with pytest.raises(ModelFileError, match=r"config\.search\.grid\.model\.hidden"):
        pipeline.train(manifest, out, config=with_grid({"model.hidden": [8, 32]}), machine=MACHINE)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"panel.n_top": [5, 9]}, r"expected keys of model or published .* found 'panel\.n_top'"),
        ({"model.hiden": [5, 9]}, r"unknown configuration key 'model\.hiden'"),
        ({"model.hidden": [5, -9]}, r"'model\.hidden': .* found -9"),
        ({"model.hidden": [5, 5]}, r"expected different values of model\.hidden"),
        ({"published.lr": [0.1, 0.2]}, r"keys of model to search with profile default"),
    ],
)
def test_a_search_that_cannot_be_is_said_before_any_work(
    grid: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline.cross_validate(tmp_path / "nowhere.csv", tmp_path / "out", config=with_grid(grid))


def test_the_option_reads_numbers_words_and_lists() -> None:
    grid = parse_grid(["model.lr=1e-3, 3e-3", "model.latent_target=components,gate"])
    assert grid == {"model.lr": (1e-3, 3e-3), "model.latent_target": ("components", "gate")}
    for bad in ("model.lr", "model.lr=", "=3"):
        with pytest.raises(ConfigError, match="expected KEY=V1,V2 after --search"):
            parse_grid([bad])


@pytest.mark.slow
def test_the_command_takes_the_option(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "cohort", toy_items(n_side=6))
    command = ["cross-validate", str(manifest), "--out", str(tmp_path / "run"), "--threads", "1"]
    command += ["--set", "panel.n_top=10", "--set", "model.epochs=1", "--set", "model.ensemble=1"]
    command += ["--set", "trust.calibrate=false", "--search", "model.hidden=8,16"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["config"]["search"]["grid"] == {"model.hidden": [8, 16]}
    (line,) = [line for line in result.output.splitlines() if line.startswith("search chose")]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    chosen = [fold["search"]["chosen"]["model.hidden"] for fold in metrics["folds"]]
    assert chosen
    for value in set(chosen):
        assert f"model.hidden = {value} in {chosen.count(value)} of {len(chosen)} folds" in line
    assert line.endswith("of 2 candidates by pcc_composition_mean on inner folds")


@pytest.mark.slow
def test_the_command_says_what_was_chosen_for_a_model(tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "cohort", toy_items(n_side=6))
    command = ["train", str(manifest), "--out", str(tmp_path / "m.hespotex"), "--threads", "1"]
    command += ["--set", "panel.n_top=10", "--set", "model.epochs=1", "--set", "model.ensemble=1"]
    command += ["--set", "trust.calibrate=false", "--search", "model.hidden=8", "--no-validate"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "search chose model.hidden = 8 for the model, of 1 candidates" in result.output
