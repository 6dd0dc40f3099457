"""A newcomer without ST: an empty cache, a name of the hub and a slide become a map by two commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers.hub_server import as_hub, hub_repository, hub_to_push_to
from helpers.web_server import Web, serving
from hespotex import pipeline
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.public.push import Licences, push

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]
_QUICK = {"model": {"epochs": 1, "ensemble": 1}, "encoder": {"projection": 64}}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(
        tmp_path_factory.mktemp("cohort"), n_patients=4, sections_per_patient=1, n_genes=40, side_um=1600.0
    )  # fmt: skip


@pytest.fixture
def hub(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """Somebody else trained a model on three of four patients, and published it."""
    machine = Machine(device="cpu", threads=1, cache=tmp_path / "of_somebody_else")
    ids = [p.stem for p in sorted(cohort.parent.rglob("*.jpg"))][:3]
    made = pipeline.train(
        cohort,
        tmp_path / "tissue.hespotex",
        config=RunConfig.from_values(_QUICK),
        sections=ids,
        machine=machine,
    )
    with serving() as web:
        as_hub(web, monkeypatch, tmp_path / "hub")
        files = hub_to_push_to(web, "lab/tissue")
        push(made, "hf://lab/tissue", tmp_path / "sent", Licences("mit", "cc0-1.0"))
        hub_repository(web, "lab/tissue", files)
        yield web


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with an empty cache."""
    folder = tmp_path / "newcomer"
    folder.mkdir()
    monkeypatch.setenv("HESPOTEX_CACHE", str(folder / "cache"))
    return folder


def _shell(folder: Path, *arguments: object) -> str:
    """A command as a shell runs it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "hespotex", *map(str, arguments)],
        cwd=folder, env={**os.environ, "PYTHONWARNINGS": "default"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_commands_lead_from_nothing_to_a_map(hub: Web, cohort: Path, newcomer: Path) -> None:
    slide, more = sorted(cohort.parent.rglob("*.jpg"))[3], ("--mpp", "1.5", "--threads", "1")
    said = _shell(newcomer, "models", "fetch", "hf://lab/tissue")
    (then,) = [line for line in said.splitlines() if "use it:" in line]
    words = (
        then.partition("use it: hespotex ")[2].replace("SLIDE", str(slide)).replace("DIR", "out")
    )
    # What the first command says is what is typed next.
    assert words.split()[:2] == ["predict", "tissue"]
    _shell(newcomer, *words.split(), *more)
    (path,) = (newcomer / "out" / "predictions").glob("*.h5ad")
    found = PredictionFile(path)
    values = found.columns(list(found.genes[:3]), "composition")
    assert values is not None
    assert values.shape[0] > 10
    assert np.isfinite(values).all()
    assert (np.ptp(values, axis=0) > 0).all()
    assert list((newcomer / "out" / "figures").rglob("*.png"))
    asked = len(hub.asked)
    _shell(newcomer, *words.split()[:-1], "again", *more)
    assert len(hub.asked) == asked  # the model is here
    (again,) = (newcomer / "again" / "predictions").glob("*.h5ad")
    np.testing.assert_array_equal(
        PredictionFile(again).columns(list(found.genes[:3]), "composition"), values
    )
