"""`hespotex adapt`: end to end on files; one line where it does not pay, and nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.commands import command, refusal
from helpers.feature_cohort import SMALL, toy_items, write_cohort
from helpers.own_sections import own_section
from helpers.toy_cohort import encoded_section
from hespotex import pipeline
from hespotex.config import Machine
from hespotex.models.bundle import read_model

pytestmark = [pytest.mark.usefixtures("blank_pictures"), pytest.mark.slow]
MACHINE = Machine(device="cpu", threads=1)
ENDS = ["--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and two manifests of another lab: three sections, and one."""
    folder = tmp_path_factory.mktemp("lab")
    toy = write_cohort(folder / "toy", toy_items())
    pipeline.train(toy, folder / "toy.hespotex", config=SMALL, validate=False, machine=MACHINE)
    items = [own_section(f"O{k}", "XYZ"[k], 20 + k, n_side=9, one_scale=True) for k in range(3)]
    write_cohort(folder / "own", items)
    one = own_section("P0", "P", 30, n_side=14, one_scale=True)
    write_cohort(folder / "one", [one])
    return folder


def _left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_own_sections_improve_a_model_that_then_predicts_by_its_new_grades(
    lab: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.hespotex"
    said = command("adapt", lab / "toy.hespotex", lab / "own/sections.csv", "--out", out, *ENDS)
    assert said.exit_code == 0, said.output
    assert "adapting pays: composition PCC 0." in said.stdout.replace("\n", " ")
    for words in ("model as it came", "adapted", "own sections alone"):
        assert words in said.stdout
    assert _left(tmp_path) == [
        "new.adaptation.json", "new.hespotex", "new.model-card.md", "new.validation",
    ]  # fmt: skip
    bundle = read_model(out)
    record = json.loads((tmp_path / "new.adaptation.json").read_text())
    assert bundle.validation["adaptation"] == record
    assert record["held_out"] == "patient"
    assert bundle.validation["gene_evidence"]["between_patients"]
    card = (tmp_path / "new.model-card.md").read_text()
    assert f"Adapted from the model {record['model']} to O0, O1, O2" in card
    again = command("adapt", lab / "toy.hespotex", lab / "own/sections.csv", "--out", out, *ENDS)
    assert "nothing to do" in again.stderr
    other = command("adapt", lab / "toy.hespotex", lab / "one/sections.csv", "--out", out, *ENDS)
    assert "holds another model; choose another --out" in other.stderr
    run = tmp_path / "predicted"
    predicted = command("predict", out, lab / "one/sections.csv", "--out", run, "--untested", *ENDS)
    assert predicted.exit_code == 0, predicted.output
    assert (run / "predictions/P0.h5ad").is_file()


def test_one_own_section_is_compared_by_blocks_and_its_genes_stay_ungraded(
    lab: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.hespotex"
    said = command("adapt", lab / "toy.hespotex", lab / "one/sections.csv", "--out", out, *ENDS)
    assert said.exit_code == 0, said.output
    assert "one section cannot be validated" in said.stderr
    record = json.loads((tmp_path / "new.adaptation.json").read_text())
    assert record["held_out"] == "blocks"
    assert "say nothing about another section" in record["note"]
    assert record["folds"] == 4
    assert _left(tmp_path) == ["new.adaptation.json", "new.hespotex", "new.model-card.md"]
    assert set(read_model(out).validation) == {"adaptation"}


def test_where_it_does_not_pay_one_line_says_so_and_nothing_is_written(
    lab: Path, tmp_path: Path
) -> None:
    """More of what the model was trained on: nothing is left over."""
    plan = [encoded_section(f"Q{k}", f"Q{k}", 60 + k, n_side=7) for k in range(2)]
    items = [replace(item, features=item.features[:, :1]) for item in plan]
    manifest = write_cohort(tmp_path / "more", items)
    out = tmp_path / "out" / "new.hespotex"
    arguments = ("adapt", lab / "toy.hespotex", manifest, "--out", out, *ENDS)
    line = refusal(command(*arguments))
    assert "adapting does not pay: composition PCC" in line
    assert "use the model as it came; --accept no-gain writes an adapted one all the same" in line
    assert not out.parent.exists() or _left(out.parent) == []
    accepted = command(*arguments, "--accept", "no-gain")
    assert accepted.exit_code == 0, accepted.output
    assert not json.loads((out.parent / "new.adaptation.json").read_text())["pays"]


def test_sections_of_the_training_are_refused(lab: Path, tmp_path: Path) -> None:
    line = refusal(
        command(
            "adapt",
            lab / "toy.hespotex",
            lab / "toy/sections.csv",
            "--out",
            tmp_path / "n.hespotex",
        )
    )
    assert "sections that" in line
    assert "was not trained on" in line
    assert _left(tmp_path) == []


def test_a_killed_adaptation_goes_on_and_gives_the_same_file(lab: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "a" / "new.hespotex", tmp_path / "b" / "new.hespotex"
    arguments = [str(lab / "toy.hespotex"), str(lab / "own/sections.csv"), "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hespotex", "adapt", *arguments, str(broken), *ENDS],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    kept = broken.parent / "new.validation" / "work" / "rows-0.json"
    while process.poll() is None and not kept.exists():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert kept.is_file()
    assert not broken.exists()
    assert not (broken.parent / "new.adaptation.json").exists()
    stamp = kept.stat().st_mtime_ns
    seen = []

    def watch(path: Path) -> None:
        seen.append(path.stat().st_mtime_ns)

    watch(kept)
    for out in (broken, whole):
        assert command("adapt", *arguments, out, *ENDS).exit_code == 0
    assert seen == [stamp]
    assert whole.read_bytes() == broken.read_bytes()
