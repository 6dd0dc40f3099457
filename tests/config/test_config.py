"""The configuration refuses what it does not know; a file says what values say."""

from __future__ import annotations

from pathlib import Path

import pytest

from hespotex.cli.options import build_config, read_genes, split_ids
from hespotex.config import RunConfig
from hespotex.errors import ConfigError
from hespotex.nuclei import NucleiOrigin
from hespotex.nuclei.stage import configured
from hespotex.storage.differences import differing_keys


def test_a_toml_file_says_what_values_say(tmp_path: Path) -> None:
    config = RunConfig.from_values({"seed": 3, "patches": {"sides_um": [50.0, 100.0]}})
    text = "seed = 3\n[patches]\nsides_um = [50.0, 100.0]\n"
    file = tmp_path / "run.toml"
    for encoding in ("utf-8", "utf-8-sig"):  # Notepad writes the mark of the latter
        file.write_text(text, encoding=encoding)
        assert RunConfig.from_toml(file) == config


def test_unknown_key_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[panel]\nn_topp = 5\n")
    with pytest.raises(ConfigError, match=r"unknown configuration key 'panel.n_topp'.*run\.toml"):
        RunConfig.from_toml(file)


def test_wrong_value_is_named_with_what_was_found() -> None:
    with pytest.raises(ConfigError, match=r"'panel.n_top'.*greater than or equal to 1, found 0"):
        RunConfig.from_values({}, ["panel.n_top=0"])


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("seed = ")
    with pytest.raises(ConfigError, match=r"expected TOML in .*broken\.toml"):
        RunConfig.from_toml(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"expected a readable file at .*absent\.toml, found: No such file"
    ):
        RunConfig.from_toml(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=7", ("seed",), 7),
        ("panel.kind=all", ("panel", "kind"), "all"),
        ("panel.kind='all'", ("panel", "kind"), "all"),
        ("patches.sides_um=[50, 100.5]", ("patches", "sides_um"), (50.0, 100.5)),
        ("patches.sides_um=none", ("patches", "sides_um"), None),
    ],
)
def test_set_overrides_one_key(override: str, key: tuple[str, ...], value: object) -> None:
    found: object = RunConfig.from_values({}, [override])
    for part in key:
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize("override", ["seed", "=3", "  = 3"])
def test_malformed_override_shows_an_example(override: str) -> None:
    with pytest.raises(ConfigError, match="expected KEY=VALUE after --set, found"):
        RunConfig.from_values({}, [override])


def test_override_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed is a value, not a table"):
        RunConfig.from_values({"seed": 1}, ["seed.deep=3"])


def test_descending_sides_are_refused() -> None:
    with pytest.raises(ConfigError, match="ascending sides above 0 um"):
        RunConfig.from_values({"patches": {"sides_um": [100.0, 50.0]}})


def test_differing_keys_names_nested_keys_with_both_values() -> None:
    rows = differing_keys({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 3, "c": 2}})
    assert rows == [("a.b", 1, 3), ("d", 1, None)]


def test_published_profile_brings_its_panel_recipe_unless_told_otherwise() -> None:
    assert RunConfig.from_values({}, ["profile=published"]).panel.min_spots == 1000
    own = RunConfig.from_values({}, ["profile=published", "panel.min_spots=7"])
    assert (own.panel.min_spots, own.panel.min_spot_fraction) == (7, 0.0)
    assert RunConfig.from_values(own.model_dump()) == own


def test_named_options_win_over_set_and_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("seed = 1\n[folds]\nby = 'section'\n")
    config = build_config(
        config=file, profile=None, overrides=["seed=2"], genes=None, folds="kfold:3", seed=5
    )
    assert (config.seed, config.folds.by) == (5, "kfold:3")


def test_nuclei_can_be_asked_for_beside_a_search_but_not_beside_off_by_name() -> None:
    def made(*overrides: str) -> RunConfig:
        return build_config(
            config=None,
            profile=None,
            overrides=list(overrides),
            genes=None,
            folds=None,
            seed=None,
            search=["model.hidden=8,16"],
        )

    config = configured(made(), NucleiOrigin.parse("classical"))
    assert config.nuclei.mode == "density"
    assert config.search.grid == {"model.hidden": (8, 16)}
    with pytest.raises(ConfigError, match=r"no --nuclei beside nuclei\.mode = off"):
        configured(made("nuclei.mode='off'"), NucleiOrigin.parse("classical"))


def test_gene_file_becomes_the_panel_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "genes.txt"
    file.write_bytes(b"\xef\xbb\xbfZ1\r\nA2 \n\nB3\n")
    config = build_config(
        config=None, profile=None, overrides=None, genes=file, folds=None, seed=None
    )
    assert (config.panel.kind, config.panel.genes) == ("list", ("Z1", "A2", "B3"))
    assert config.model_dump(mode="json")["panel"]["genes"] == ["Z1", "A2", "B3"]


@pytest.mark.parametrize(
    ("text", "message"), [("A\nB\nA\n", "found doubled: A"), ("\n \n", "found none")]
)
def test_gene_file_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "genes.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"genes\.txt.*{message}"):
        read_genes(file)


def test_ids_are_split_at_commas() -> None:
    assert split_ids("C2, C3,") == ("C2", "C3")
    assert split_ids('"A,1", C2') == ("A,1", "C2")
    assert split_ids("") == ()
    assert split_ids(None) is None


@pytest.mark.parametrize(
    ("overrides", "idle"),
    [
        ([], []),
        (["model.epochs=5", "panel.n_top=20"], []),
        (["published.epochs=5"], ["published.epochs (read with profile=published)"]),
        (["published.epochs=30"], []),  # the default
        (
            ["profile='published'", "model.epochs=5", "published.epochs=5"],
            ["model.epochs (read with profile=default)"],
        ),
        (["model.gate_steps=3", "model.chained=false"],
         ["model.gate_steps (read with model.latent_target=gate)",
          "model.chained (read with model.graph_layers above 0)"]),
        (["model.gate_steps=3", "model.latent_target='gate'"], []),
        (["panel.kind='all'", "panel.n_top=20"], ["panel.n_top (read with panel.kind=hvg)"]),
        (["search.score='pcc_log1p_mean'"], ["search.score (read with search.grid)"]),
    ],
)  # fmt: skip
def test_a_key_that_changes_nothing_is_one_warning(
    overrides: list[str], idle: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    build_config(config=None, profile=None, overrides=overrides, genes=None, folds=None, seed=None)
    said = f"warning: set, and changes nothing in this configuration: {', '.join(idle)}\n"
    assert capsys.readouterr().err == (said if idle else "")
