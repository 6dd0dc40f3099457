"""Processes that share a run folder: the scripts of docs/cluster.md on a real Slurm, and workers that are killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from benchmarks.killed_workers import kill_workers

from hespotex import pipeline
from hespotex.config import Machine, RunConfig
from hespotex.datasets import PaintedPlan, draw_patients, write_cohort

ROOT = Path(__file__).parents[2]
SCRIPT = os.environ.get("HESPOTEX_SLURM", "")
NEEDS_SLURM = pytest.mark.skipif(
    not SCRIPT, reason="HESPOTEX_SLURM names no script that starts a Slurm"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that any process can load, and a manifest of three slides."""
    folder = tmp_path_factory.mktemp("machines")
    plan = PaintedPlan(
        seed=1,
        patients=draw_patients(5),
        sections_per_patient=1,
        side_um=700.0,
        mpp=4.0,
        n_genes=60,
    )
    rows = pd.read_csv(write_cohort(plan, folder), dtype=str)
    rows[:2].to_csv(folder / "train.csv", index=False)
    slides = rows[2:][["section_id", "patient_id", "slide"]].assign(mpp="4.0")
    slides.to_csv(folder / "slides.csv", index=False)
    config = RunConfig.from_values({"model": {"epochs": 1, "ensemble": 1, "n_components": 8}})
    machine = Machine(device="cpu", threads=1)
    model = pipeline.train(
        folder / "train.csv",
        folder / "tiny.hespotex",
        config=config,
        validate=False,
        machine=machine,
    )
    return model, folder / "slides.csv"


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a running Slurm; what was started ends with the session."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", SCRIPT, "start", folder], check=True, timeout=300)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    yield {
        **os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path, "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    subprocess.run(["bash", SCRIPT, "stop", folder], check=True, timeout=60)


def _page(kind: str) -> list[str]:
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def _predicted(folder: Path) -> list[str]:
    return sorted(p.stem for p in (folder / "predictions").glob("*.h5ad"))


@pytest.mark.slow
@NEEDS_SLURM
def test_an_array_of_jobs_predicts_every_slide(
    tiny: tuple[Path, Path], slurm: dict[str, str], tmp_path: Path
) -> None:
    model, slides = tiny
    (tmp_path / "predict.sbatch").write_text(_page("bash")[0])
    (tmp_path / "logs").mkdir()
    given = {"MODEL": str(model), "MANIFEST": str(slides), "OUT": str(tmp_path / "out")}
    subprocess.run(
        ["sbatch", "--wait", "--array=1-3", "predict.sbatch"],
        cwd=tmp_path, env={**slurm, **given}, check=True, timeout=900,
    )  # fmt: skip
    assert _predicted(tmp_path / "out") == sorted(pd.read_csv(slides)["section_id"])
    result = pipeline.predict(model, slides, tmp_path / "out")
    assert [s.status for s in result.slides] == ["skipped"] * 3


@pytest.mark.slow
@NEEDS_SLURM
def test_workers_that_are_jobs_predict_every_slide(
    tiny: tuple[Path, Path], slurm: dict[str, str], tmp_path: Path
) -> None:
    model, slides = tiny
    script = _page("python")[0]
    for old, new in (
        ('memory="4GB"', 'memory="1500MB", interface="lo"'),
        ("jobs=64", "jobs=1"),
        ("lab.hespotex", str(model)),
        ('"slides.csv"', f'"{slides}"'),
        ('"predicted"', f'"{tmp_path / "out"}"'),
    ):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "run.py").write_text(script)
    subprocess.run([sys.executable, "run.py"], cwd=tmp_path, env=slurm, check=True, timeout=900)
    assert _predicted(tmp_path / "out") == sorted(pd.read_csv(slides)["section_id"])


@pytest.mark.slow
def test_killed_workers_lose_no_slide_and_make_none_twice(
    tiny: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", logger="distributed")
    model, slides = tiny
    found = kill_workers(model, slides, {"workers": 1, "kills": 2}, tmp_path / "out")
    assert (found["killed"], found["done"], found["lost"], found["twice"]) == (2, 3, 0, 0)
    assert _predicted(tmp_path / "out") == sorted(pd.read_csv(slides)["section_id"])
