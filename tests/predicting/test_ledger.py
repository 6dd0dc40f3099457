"""One folder, many processes: the sums that stand there in the end hold every slide of every process."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.toy_slide import MPP, paint_tissue, write_slide
from hespotex import pipeline
from hespotex.errors import RunError, SlideError
from hespotex.predicting import Predictor, SlideOptions, SlideTask, executor
from hespotex.predicting.ledger import Ledger
from hespotex.results.outcome import SlideOutcome
from hespotex.storage.run_folder import RunDir

OPTIONS = SlideOptions(mpp=MPP)
MODEL = Path("toy.hespotex")
IDENTITY = {"verb": "predict slides"}


pytestmark = pytest.mark.usefixtures("toy_model", "blank_pictures")


def _job(out: Path, slide: Path) -> Ledger:
    """A process that has begun with one slide."""
    slide.write_bytes(slide.name.encode())
    ledger = Ledger(RunDir(out), slide)
    ledger.open([SlideTask(slide.stem, slide, OPTIONS)], whole=True)
    return ledger


def _end(ledger: Ledger, out: Path, name: str, n_spots: int = 0) -> None:
    """The slide of a process is predicted."""
    path = RunDir(out).predictions / f"{name}.h5ad"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    ledger.note(SlideOutcome(name, "done", n_spots=n_spots))


def _table(out: Path) -> dict[str, str]:
    table = pd.read_csv(out / "slides.csv")
    return dict(zip(table.section_id, table.status, strict=True))


def _record(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "a", "b"), ("b", "c", "a")])
def test_jobs_that_end_in_any_order_leave_a_table_of_all_slides(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    jobs = {name: _job(tmp_path / "out", tmp_path / f"{name}.png") for name in "abc"}
    for name in order:
        _end(jobs[name], tmp_path / "out", name, n_spots=ord(name))
        jobs[name].publish(IDENTITY, {})
    assert _table(tmp_path / "out") == dict.fromkeys("abc", "done")
    known = _record(tmp_path / "out")
    assert known["status"] == "finished"
    assert [(s["section_id"], s["n_spots"]) for s in known["slides"]] == [
        ("a", 97),
        ("b", 98),
        ("c", 99),
    ]


def test_a_job_that_is_killed_leaves_its_slide_unfinished_and_the_run_open(tmp_path: Path) -> None:
    done, _killed = (_job(tmp_path / "out", tmp_path / f"{name}.png") for name in "ab")
    _end(done, tmp_path / "out", "a")
    done.publish(IDENTITY, {})
    assert _table(tmp_path / "out") == {"a": "done", "b": "unfinished"}
    assert _record(tmp_path / "out")["status"] == "running"


def test_a_job_that_ends_while_another_writes_the_sums_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the other one has ended and written its sums before ours are renamed over them."""
    ours, other = (_job(tmp_path / "out", tmp_path / f"{name}.png") for name in "ab")
    _end(ours, tmp_path / "out", "a")
    to_csv: Callable[..., None] = pd.DataFrame.to_csv
    meanwhile = [True]

    def write(table: pd.DataFrame, *arguments: Any, **named: Any) -> None:
        to_csv(table, *arguments, **named)
        if meanwhile.pop() if meanwhile else False:
            other.note(SlideOutcome("b", "failed", why="broken"))
            other.publish(IDENTITY, {})

    monkeypatch.setattr(pd.DataFrame, "to_csv", write)
    ours.publish(IDENTITY, {})
    assert _table(tmp_path / "out") == {"a": "done", "b": "failed"}
    assert _record(tmp_path / "out")["status"] == "running"


def test_jobs_at_the_same_moment_leave_a_table_of_all_slides(tmp_path: Path) -> None:
    names = [f"s{number:02d}" for number in range(24)]
    gate = threading.Barrier(len(names))

    def job(name: str) -> None:
        ledger = _job(tmp_path / "out", tmp_path / f"{name}.png")
        gate.wait()
        _end(ledger, tmp_path / "out", name)
        ledger.publish(IDENTITY, {})

    threads = [threading.Thread(target=job, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _table(tmp_path / "out") == dict.fromkeys(names, "done")
    assert len(_record(tmp_path / "out")["slides"]) == len(names)
    assert not list((tmp_path / "out").rglob("*.tmp*"))


@pytest.mark.slow
def test_slides_predicted_one_a_call_stand_in_one_table_failures_too(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "c.png")
    (tmp_path / "b.tif").write_bytes(b"II*\0 broken")
    out = tmp_path / "out"
    pipeline.predict(MODEL, tmp_path / "c.png", out, options=OPTIONS)
    with pytest.raises(SlideError, match="expected a whole TIFF file"):
        pipeline.predict(MODEL, tmp_path / "b.tif", out, options=OPTIONS)
    pipeline.predict(MODEL, tmp_path / "a.png", out, options=OPTIONS)
    assert _table(out) == {"a": "done", "b": "failed", "c": "done"}
    assert _record(out)["status"] == "running"
    shutil.copy(tmp_path / "a.png", tmp_path / "b.tif")
    pipeline.predict(MODEL, tmp_path / "b.tif", out, options=OPTIONS)
    assert _table(out) == {"a": "done", "b": "done", "c": "done"}
    assert _record(out)["status"] == "finished"


def test_a_second_call_says_again_what_was_found(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.png")
    first = pipeline.predict(MODEL, tmp_path / "a.png", tmp_path / "out", options=OPTIONS).slides[0]
    again = pipeline.predict(MODEL, tmp_path / "a.png", tmp_path / "out", options=OPTIONS).slides[0]
    assert again.status == "skipped"
    assert (again.n_spots, again.n_bad, again.verdict) == (
        first.n_spots,
        first.n_bad,
        first.verdict,
    )
    assert first.verdict
    assert again.why == "; ".join(["predicted before", *filter(None, [first.why])])


@pytest.mark.slow
def test_a_slide_does_not_replace_the_prediction_of_another_of_its_name(tmp_path: Path) -> None:
    for folder, image in (("one", paint_tissue()), ("two", paint_tissue()[::-1])):
        (tmp_path / folder).mkdir()
        write_slide(tmp_path / folder / "s.png", image)
    out = tmp_path / "out"
    pipeline.predict(MODEL, tmp_path / "one" / "s.png", out, options=OPTIONS)
    stored = (out / "predictions" / "s.h5ad").read_bytes()
    with pytest.raises(
        SlideError, match=r"that no other slide in .*out has, found .* as s; choose"
    ):
        pipeline.predict(MODEL, tmp_path / "two" / "s.png", out, options=OPTIONS)
    assert (out / "predictions" / "s.h5ad").read_bytes() == stored
    assert _record(out)["status"] == "finished"
    shutil.copy(tmp_path / "one" / "s.png", tmp_path / "s.png")  # a copy on another disk
    moved = pipeline.predict(MODEL, tmp_path / "s.png", out, options=OPTIONS)
    assert moved.slides[0].status == "skipped"


def test_what_failed_and_is_no_longer_in_the_input_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    write_slide(folder / "a.png")
    (folder / "b.tif").write_bytes(b"II*\0 broken")
    out = tmp_path / "out"
    pipeline.predict(MODEL, folder, out, options=OPTIONS)
    assert _table(out) == {"a": "done", "b": "failed"}
    (folder / "b.tif").unlink()
    pipeline.predict(MODEL, folder, out, options=OPTIONS)
    assert _table(out) == {"a": "skipped"}
    assert _record(out)["status"] == "finished"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    ledger = _job(tmp_path / "out", tmp_path / "a.png")
    (path,) = (tmp_path / "out" / "slides").iterdir()
    path.write_text("{}")
    with pytest.raises(RunError, match=r"record of a slide in .*\.json, found: .*; delete that"):
        ledger.publish(IDENTITY, {})


@pytest.mark.slow
def test_a_slide_that_is_gone_once_it_is_predicted_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in "abc":
        write_slide(folder / f"{name}.png")
    predict = executor.predict_slide

    def then_gone(predictor: Predictor, task: SlideTask, *rest: Any, **named: Any) -> Any:
        result = predict(predictor, task, *rest, **named)
        if task.section_id == "a":
            task.slide.unlink()
        return result

    monkeypatch.setattr(executor, "predict_slide", then_gone)
    result = pipeline.predict(MODEL, folder, tmp_path / "out", options=OPTIONS)
    assert [s.status for s in result.slides] == ["done"] * 3
    assert _table(tmp_path / "out") == dict.fromkeys("abc", "done")


def test_a_mistyped_path_leaves_a_finished_folder_finished(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.png")
    out = tmp_path / "out"
    pipeline.predict(MODEL, tmp_path / "a.png", out, options=OPTIONS)
    with pytest.raises(SlideError, match=r"No such file or directory .*typo\.png"):
        pipeline.predict(MODEL, tmp_path / "typo.png", out, options=OPTIONS)
    assert _table(out) == {"a": "done"}
    assert _record(out)["status"] == "finished"


@pytest.mark.slow
def test_a_prediction_that_somebody_deleted_is_not_in_the_sums(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in "rs":
        write_slide(tmp_path / f"{name}.png")
        pipeline.predict(MODEL, tmp_path / f"{name}.png", out, options=OPTIONS)
    shutil.rmtree(out / "predictions")
    other = tmp_path / "other" / "s.png"
    other.parent.mkdir()
    write_slide(other)
    pipeline.predict(MODEL, other, out, options=OPTIONS)
    assert _table(out) == {"s": "done"}
    assert _record(out)["status"] == "finished"


def test_an_interruption_leaves_the_table_and_a_finished_folder_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_slide(tmp_path / "a.png")
    write_slide(tmp_path / "b.png")
    out = tmp_path / "out"
    pipeline.predict(MODEL, tmp_path / "a.png", out, options=OPTIONS)

    def interrupted(*_arguments: Any, **_named: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(executor, "predict_slide", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.predict(MODEL, tmp_path / "a.png", out, options=OPTIONS)
    assert _record(out)["status"] == "finished"
    with pytest.raises(KeyboardInterrupt):
        pipeline.predict(MODEL, tmp_path / "b.png", out, options=OPTIONS)
    assert _table(out) == {"a": "done", "b": "unfinished"}
    assert _record(out)["status"] == "running"
