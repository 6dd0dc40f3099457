"""Recipes: the same recipe gives the same file, and a model that misses its scores is told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from helpers.commands import command, refusal
from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.errors import ConfigError, ModelFileError
from hespotex.public.download import file_checksum
from hespotex.recipes import build, read_recipe

ROOT = Path(__file__).parents[2]
_HEAD = 'title = "painted"\nlicence = "cc0-1.0"\ndata_licence = "cc0-1.0"\n'
_QUICK = """
[config.panel]
n_top = 20
[config.model]
epochs = 1
ensemble = 1
hidden = 8
n_components = 8
[config.trust]
calibrate = false
"""


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_of_the_repository_can_be_read_and_its_configuration_too(path: Path) -> None:
    recipe = read_recipe(path)
    RunConfig.from_values(recipe.config)
    assert recipe.licence
    assert tomllib.loads(path.read_text())["title"] == recipe.title


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "expected a recipe in TOML in"),
        ('title = "x"\nlicence = "mit"\n', "data_licence.*found in"),
        (_HEAD + "seed = 1\n", "seed.*found in"),
        (
            _HEAD + 'fetch = "nothing"\n',
            "a data set of her2st, bulb, hest, 10x in .*, found 'nothing'",
        ),
    ],
)
def test_a_recipe_that_is_wrong_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_recipe(tmp_path / "r.toml")
    assert "\n" not in str(caught.value)


def test_a_recipe_whose_data_nobody_fetches_asks_for_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(_HEAD)
    said = refusal(
        command("models", "build", tmp_path / "r.toml", "--out", tmp_path / "m.hespotex")
    )
    assert "found none; give --manifest" in said


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_file_and_scores_are_compared(tmp_path: Path) -> None:
    manifest = make_cohort(tmp_path / "cohort", n_patients=2, n_genes=40, side_um=800.0)
    recipe = tmp_path / "r.toml"
    recipe.write_text(_HEAD + _QUICK)
    machine = Machine(device="cpu", threads=1, cache=tmp_path / "cache")
    first, again = (
        build(recipe, tmp_path / name / "m.hespotex", manifest=manifest, machine=machine).path
        for name in ("a", "b")
    )
    assert file_checksum(first, "sha256") == file_checksum(again, "sha256")
    recipe.write_text(_HEAD + "[expected]\npcc_composition_mean = 0.99\n" + _QUICK)
    with pytest.raises(
        ModelFileError, match=r"pcc_composition_mean 0.990 within 0.005, as .* states, found"
    ):
        build(recipe, first, manifest=manifest, machine=machine)
    recipe.write_text(
        "tolerance = 2.0\n" + _HEAD + "[expected]\npcc_composition_mean = 0.1\n" + _QUICK
    )
    built = build(recipe, first, manifest=manifest, machine=machine)
    assert built.scores["pcc_composition_mean"][0] == 0.1
