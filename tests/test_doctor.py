"""Contracts of the doctor: what is here is ok, what is missing is said with its cost, nothing raises."""

from __future__ import annotations

import importlib
import os
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hespotex import doctor
from hespotex.cli.main import app
from hespotex.config import machine as cores


def checks(name: str, found: tuple[doctor.Check, ...]) -> list[doctor.Check]:
    return [check for check in found if check.name == name]


@pytest.mark.slow
def test_everything_is_named_on_a_working_machine(tmp_path: Path) -> None:
    found = doctor.examine(tmp_path)
    assert not doctor.is_broken(found)
    (libraries,) = checks("libraries", found)
    assert f"numpy {np.__version__}" in libraries.found
    assert "efficientnet-lite0" in checks("encoders", found)[0].found
    assert checks("openslide", found)[0].found.startswith("library ")
    assert str(tmp_path) in checks("cache", found)[0].found
    assert list(tmp_path.iterdir()) == []  # nothing is left behind
    assert {"python", "cores", "memory", "gpu", "slide readers", "hub cache"} <= {
        c.name for c in found
    }


def test_a_missing_useful_library_is_yellow_with_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "openvino":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    (check,) = checks("openvino", doctor.examine())
    assert (check.level, check.found) == ("warning", "not installed")
    assert "pip install openvino" in check.cost


def test_an_essential_library_that_breaks_on_import_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def import_module(name: str) -> object:
        if name == "h5py":
            raise OSError("libhdf5.so: no such file")
        return real(name)

    monkeypatch.setattr(doctor, "import_module", import_module)
    found = doctor.examine()
    assert doctor.is_broken(found)
    (check,) = checks("h5py", found)
    assert check.found == "cannot be loaded: libhdf5.so: no such file"
    assert "pip install --force-reinstall h5py" in check.cost
    result = CliRunner().invoke(app, ["doctor", "--quiet"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "h5py" in result.output


def test_a_part_that_fails_is_a_finding_not_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[doctor.Check]:
        raise RuntimeError("driver too old\nsecond line")

    monkeypatch.setattr(doctor, "_gpu", broken)
    (check,) = checks("gpu", doctor.examine())
    assert (check.level, check.found) == ("warning", "could not be examined: driver too old")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_cache_that_cannot_be_written_is_yellow(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (check,) = checks("cache", doctor.examine(tmp_path))
    tmp_path.chmod(0o700)
    assert check.level == "warning"
    assert "cannot be written" in check.found
    assert "HESPOTEX_CACHE" in check.cost


def test_a_cache_below_a_file_is_yellow(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (check,) = checks("cache", doctor.examine(tmp_path / "file" / "cache"))
    assert check.level == "warning"
    assert "cannot be written" in check.found


def test_a_control_groups_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "read_numbers", lambda _path: [150_000.0, 100_000.0])
    assert cores.usable_cores() <= 2
    monkeypatch.setattr(cores, "read_numbers", lambda _path: [10_000.0, 100_000.0])
    assert cores.usable_cores() == 1


def test_the_command_prints_a_table_or_json() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "This machine" in result.output
    assert '"name": "python"' in CliRunner().invoke(app, ["doctor", "--json"]).output
