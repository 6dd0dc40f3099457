"""`doctor --bundle`: what helps somebody else to help, without data, names or paths."""

from __future__ import annotations

import json
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.commands import command as said_of
from helpers.toy_report import write_scored_run
from hespotex import support
from hespotex.cli import main as command
from hespotex.doctor import Check
from hespotex.errors import ConfigError, RunError
from hespotex.storage.atomic import write_json

ROOT = Path(__file__).parents[1]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
CHECKS = (Check("cache", "ok", f"{Path.home()}/.cache/hespotex: 3 GiB free"),)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _read(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name).decode() for name in opened.namelist()}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("nothing at /home/ann/Mrs Miller/slide 7.svs, check it", "nothing at <path>.svs, check it"),
        ("in ~/cohort/P-12, found none", "in <path>, found none"),
        (r"C:\Users\ann\x.h5ad is cut short", "<path>.h5ad is cut short"),
        ("expected a whole file P12_left.h5ad", "expected a whole file <path>.h5ad"),
        ("slides/P12.ndpi: damaged at byte 4,096", "<path>.ndpi: damaged at byte 4,096"),
        ("expected 3 of 5 genes, found 0.25", "expected 3 of 5 genes, found 0.25"),
    ],
)  # fmt: skip
def test_paths_and_names_of_files_are_taken_out_and_words_are_kept(text: str, left: str) -> None:
    assert support.without_names(text) == left


def test_a_bundle_has_versions_settings_and_the_last_error_and_no_name(
    tmp_path: Path, cache: Path
) -> None:
    run = write_scored_run(tmp_path / "Mrs-Miller" / "run")
    record = json.loads(run.run_json.read_text())
    record["config"] = {"genes": str(tmp_path / "panel.txt"), "seed": 7}
    record["identity"]["inputs"] = {"MILLER-LEFT": {"slide": "k"}}
    write_json(run.run_json, record)
    try:
        raise RunError(expected=f"MILLER-LEFT as a whole h5ad file at {tmp_path}/MILLER.h5ad", found="nothing")  # fmt: skip
    except RunError as error:
        support.keep_error(error, ["predict", "lab.hespotex", str(tmp_path), "--out=x", "--quiet"])
    files = _read(support.write_bundle(tmp_path / "b.zip", CHECKS, run.path))
    assert set(files) == {"README.txt", "doctor.json", "packages.txt", "run.json", "last_error.json"}  # fmt: skip
    assert "numpy==" in files["packages.txt"]
    assert json.loads(files["doctor.json"])[0]["found"].startswith("<path>")
    settings = json.loads(files["run.json"])
    assert settings["config"] == {"genes": "<path>.txt", "seed": 7}
    assert settings["sections"] == 1
    error = json.loads(files["last_error.json"])
    assert (error["verb"], error["options"], error["kind"]) == ("predict", ["--out", "--quiet"], "RunError")  # fmt: skip
    assert (
        error["message"] == "expected <section> as a whole h5ad file at <path>.h5ad, found nothing"
    )
    assert error["frames"][-1].endswith("test_a_bundle_has_versions_settings_and_the_last_error_and_no_name")  # fmt: skip
    whole = "".join(text for name, text in files.items() if name != "packages.txt").lower()
    assert "miller" not in whole
    assert str(Path.home()).lower() not in whole
    assert str(tmp_path).lower() not in whole


def test_the_command_keeps_its_last_error_and_still_ends_in_one_line(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hespotex", "report", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert len(capsys.readouterr().err.splitlines()) == 1
    kept = json.loads((cache / "last_error.json").read_text())
    assert kept["verb"] == "report"
    assert any("hespotex.results.read" in frame for frame in kept["frames"])
    assert str(tmp_path) not in json.dumps(kept)


def test_what_cannot_be_bundled_is_said_and_leaves_no_file(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.zip, found b\.txt"):
        support.write_bundle(tmp_path / "b.txt", CHECKS)
    with pytest.raises(RunError, match=r"found no run\.json"):
        support.write_bundle(tmp_path / "b.zip", CHECKS, tmp_path)
    said = CliRunner().invoke(command.app, ["doctor", "--run", str(tmp_path)])
    assert "expected --run beside --bundle FILE.zip" in str(said.exception)
    assert list(tmp_path.glob("b.*")) == []


def test_without_a_run_and_without_an_error_the_rest_is_there(tmp_path: Path, cache: Path) -> None:
    files = _read(support.write_bundle(tmp_path / "b.zip", CHECKS))
    assert set(files) == {"README.txt", "doctor.json", "packages.txt"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's metadata as an installation leaves them, before any other on the path."""
    folder = tmp_path / "site" / "hespotex-0.1.0.dist-info"
    folder.mkdir(parents=True)
    urls = "".join(f"Project-URL: {label}, {address}\n" for label, address in URLS.items())
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: hespotex\nVersion: 0.1.0\n{urls}"
    )
    monkeypatch.syspath_prepend(folder.parent)


@pytest.mark.usefixtures("installed")
def test_the_address_for_issues_is_that_of_the_metadata_and_pages_name_the_same(
    tmp_path: Path, cache: Path
) -> None:
    address = support.issues_address()
    assert address == URLS["Issues"]
    assert address.startswith("https://")
    for page in ("README.md", "docs/faq.md"):
        assert f"]({address})" in (ROOT / page).read_text()
    assert address in _read(support.write_bundle(tmp_path / "b.zip", CHECKS))["README.txt"]


@pytest.mark.usefixtures("installed")
def test_an_error_that_is_no_mistake_of_the_user_says_where_to_tell_of_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("one by nothing")

    monkeypatch.setattr("hespotex.doctor.examine", broken)
    said = said_of("doctor")
    assert said.exit_code == 1
    assert "ZeroDivisionError: one by nothing" in said.stderr
    assert f"Please tell us at {URLS['Issues']}; `hespotex doctor --bundle help.zip`" in said.stderr
    assert json.loads((cache / "last_error.json").read_text())["kind"] == "ZeroDivisionError"


@pytest.mark.usefixtures("installed")
def test_a_mistake_of_the_user_is_not_to_be_told(tmp_path: Path, cache: Path) -> None:
    said = said_of("report", tmp_path / "nowhere")
    assert said.exit_code == 2
    assert URLS["Issues"] not in said.output


def test_without_metadata_the_error_still_says_what_to_pack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise support.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(support.metadata, "metadata", missing)
    assert support.where_to_tell().startswith("Please tell us; `hespotex doctor")
