"""The command line: help at once, one line for an error, exit code 2, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.commands import command
from hespotex.cli import options
from hespotex.cli.main import app
from hespotex.errors import ConfigError, RunError

SHARED = ("--quiet", "--verbose", "--device", "--threads", "--seed")
# Of the shared options those that a verb heeds; the others it takes for one more version, unseen.
HEEDED = {
    "demo": SHARED,
    "cross-validate": SHARED,
    "train": SHARED,
    "predict": ("--quiet", "--verbose", "--device", "--threads"),
    "evaluate": ("--quiet", "--verbose", "--device", "--threads"),
    "import-checkpoint": ("--device", "--threads"),
    "inspect": ("--quiet", "--verbose"),
    "convert": ("--quiet", "--verbose"),
    "doctor": ("--quiet",),
    "encoders": (),
    "report": (),
    "compare": (),
}


@pytest.mark.parametrize("verb", HEEDED)
def test_every_verb_has_help_with_an_example_and_the_shared_options_that_it_heeds(
    verb: str,
) -> None:
    result = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: hespotex {verb}" in result.output
    shown = {option for option in SHARED if f"{option} " in result.output.partition("Options:")[2]}
    assert shown == set(HEEDED[verb])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--seed", "0"], "--seed has no effect on `encoders`; a later version will not take it"),
        (
            ["--seed", "1", "--threads", "2", "-q"],
            "--threads, --seed, --quiet have no effect on `encoders`; a later version will not take them",
        ),
    ],
)
def test_an_option_without_effect_is_one_warning(given: list[str], said: str) -> None:
    plain, result = (CliRunner().invoke(app, ["encoders", *more]) for more in ([], given))
    assert plain.stderr == ""
    assert result.stderr.splitlines() == [f"warning: {said}"]
    assert result.stdout == plain.stdout


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_options_without_effect_are_taken_before_the_work(verb: str, tmp_path: Path) -> None:
    folders = [str(tmp_path)] * (2 if verb == "compare" else 1)
    given = ["--device", "cpu", "--threads", "1", "--seed", "3", "--quiet", "--verbose"]
    result = CliRunner().invoke(app, [verb, *folders, *given])
    assert isinstance(result.exception, RunError)
    assert f"have no effect on `{verb}`" in result.stderr


def test_help_and_import_load_neither_torch_nor_lazyslide() -> None:
    code = (
        "import sys, hespotex, hespotex.cli.main;"
        "heavy = {'torch', 'lazyslide', 'scanpy', 'wsidata', 'sklearn', 'matplotlib', 'openvino'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_missing_manifest_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """In a process of its own: nothing else than the line reaches the terminal, of libraries neither."""
    typed = [sys.executable, "-m", "hespotex", "cross-validate", str(tmp_path / "absent.csv")]
    typed += ["--out", str(tmp_path / "o")]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("hespotex: ")
    assert "absent.csv" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_all_problems_of_a_manifest_come_at_once(tmp_path: Path) -> None:
    manifest = tmp_path / "sections.csv"
    manifest.write_text(
        "section_id,patient_id,slide,expression,format\n"
        "A,P,no.jpg,no.h5ad,h5ad\n"
        "A,P,no.jpg,no.h5ad,h6ad\n"
    )
    done = command("train", manifest, "--out", tmp_path / "m.hespotex")
    assert done.exit_code == 2
    assert all(word in done.stderr for word in ("no.jpg", "no.h5ad", "h6ad", "row 2", "row 3"))
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m.hespotex").exists()


def test_unknown_configuration_key_is_named(tmp_path: Path) -> None:
    done = command("train", "x.csv", "--out", tmp_path / "m", "--set", "model.epohcs=3")
    assert done.exit_code == 2
    assert "unknown configuration key 'model.epohcs'" in done.stderr


def test_encoders_lists_the_offline_default_as_present() -> None:
    result = CliRunner().invoke(app, ["encoders"])
    assert result.exit_code == 0
    line = next(row for row in result.output.splitlines() if "efficientnet-lite0" in row)
    assert "yes" in line
    assert "1568" in line
    assert "hespotex train sections.csv --out lab.hespotex --encoder NAME" in result.output


def test_the_encoder_is_chosen_by_an_option(tmp_path: Path) -> None:
    made = options.build_config(config=None, profile=None, overrides=["encoder.name=other"], genes=None,
                                folds=None, seed=None, encoder="timm:resnet18.a1_in1k")  # fmt: skip
    assert made.encoder.name == "timm:resnet18.a1_in1k"
    for verb in ("cross-validate", "train"):
        done = CliRunner().invoke(
            app, [verb, str(tmp_path / "no.csv"), "--out", "o", "--encoder", "x"]
        )
        assert "no.csv" in str(
            done.exception
        )  # the option was taken; the manifest is what is missing


@pytest.mark.parametrize("verb", ["cross-validate", "train", "predict", "evaluate"])
def test_a_file_that_is_no_gmt_stops_before_any_work(verb: str, tmp_path: Path) -> None:
    sets = tmp_path / "genes.gmt"
    sets.write_text("TP53\nERBB2\n")
    inputs = ["model.hespotex", "s.csv"] if verb in {"predict", "evaluate"} else ["s.csv"]
    out = tmp_path / "o"
    result = CliRunner().invoke(app, [verb, *inputs, "--out", str(out), "--gene-sets", str(sets)])
    assert isinstance(result.exception, ConfigError)
    assert "with tabs between them, found 'TP53' in" in str(result.exception)
    assert not out.exists()


def test_what_the_system_refuses_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = command("predict", "m.hespotex", f"{tmp_path}/{'x' * 300}.svs", "--out", tmp_path / "o")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"hespotex: expected to use {tmp_path}/xxx")
    assert "found: File name too long" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hespotex", "inspect", str(tmp_path / "日本.csv")],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 2
    assert rb"\u65e5\u672c.csv" in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_a_user_without_a_home_works_beside_the_cache(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, hespotex.cli.main as main\n"
        "def home(cls): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = classmethod(home)\n"
        "main._give_home()\n"
        "print(os.environ.get('HOME'))"
    )
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    for cache, expected in (({"HESPOTEX_CACHE": str(tmp_path)}, str(tmp_path)), ({}, "None")):
        given = {k: v for k, v in env.items() if k != "HESPOTEX_CACHE"} | cache
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=given
        )
        assert done.stdout.strip() == expected


@pytest.mark.slow
def test_public_names_mean_the_same_after_everything_is_imported() -> None:
    code = (
        "import hespotex\n"
        "names = [n for n in hespotex.__all__ if n not in ('pl', 'tl', '__version__')]\n"
        "before = {n: getattr(hespotex, n) for n in names}\n"
        "import hespotex.cli.runs, hespotex.predicting, hespotex.datasets.demo, hespotex.tl\n"
        "print([n for n in names if getattr(hespotex, n) is not before[n] or not callable(before[n])])\n"
        "print(hespotex.predict.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "hespotex.pipeline"]
